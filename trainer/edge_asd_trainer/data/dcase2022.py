"""DCASE 2022 Task 2, fetched from Zenodo into its layout: OUT/{dev_data,eval_data}/<machine>/{train,test}.

    archive at its record --transfer--> OUT/archives --checksum--> staged --renamed--> OUT/<half>_data/<machine>

Every step leaves what the next one needs whole or not at all, so that the same command goes on wherever it ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from edge_asd import files
from edge_asd.errors import DownloadError, UsageError
from edge_asd.lock import hold
from edge_asd.progress import say
from edge_asd_trainer.data.archive import Archive, unpacked
from edge_asd_trainer.data.checksums import Checksums
from edge_asd_trainer.data.download import fetch

MACHINES = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
HALVES = ("dev", "eval")
ZENODO = "https://zenodo.org"


@dataclass(frozen=True)
class Source:
    """One archive of the challenge: where it is published, and what it holds.

    Attributes:
        half: "dev" or "eval".
        machine: machine type.
        record: its Zenodo record.
        name: its file name there.
        splits: the folders of the machine that it brings.
    """

    half: str
    machine: str
    record: int
    name: str
    splits: tuple[str, ...]

    def url(self, base: str) -> str:
        """Its address at Zenodo, or at a mirror of it."""
        return f"{base.rstrip('/')}/records/{self.record}/files/{self.name}?download=1"

    def folder(self, out: Path) -> Path:
        """The folder of the machine that it belongs into."""
        return out / f"{self.half}_data" / self.machine

    def is_there(self, out: Path) -> bool:
        """All that it holds was unpacked before: folders come by renaming, so one that holds anything holds all."""
        folders = [self.folder(out) / split for split in self.splits]
        return all(folder.is_dir() and any(folder.iterdir()) for folder in folders)


def sources(machines: Collection[str] = (), half: str = "all") -> list[Source]:
    """The archives of these machine types (none named: all of them) and this half ("dev", "eval" or "all").

    Raises:
        UsageError: there is no such machine type.
    """
    for machine in machines:
        if machine not in MACHINES:
            raise UsageError(f"--machine {machine}: DCASE 2022 has no such machine type; it has {', '.join(MACHINES)}.")
    chosen = [machine for machine in MACHINES if machine in machines or not machines]
    every = [source for machine in chosen for source in _of(machine)]
    return [source for wanted in HALVES if half in {wanted, "all"} for source in every if source.half == wanted]


def _of(machine: str) -> list[Source]:
    return [
        Source("dev", machine, 6355122, f"dev_{machine}.zip", ("train", "test")),
        Source("eval", machine, 6462969, f"eval_data_{machine}_train.zip", ("train",)),
        Source("eval", machine, 6586456, f"eval_data_{machine}_test.zip", ("test",)),
    ]


def download(
    out: Path,
    wanted: list[Source],
    *,
    base: str = ZENODO,
    keep_archives: bool = False,
    transfer: Callable[[str, Path], None] = fetch,
) -> None:
    """Fetch, verify and unpack the archives that aren't there yet, one by one.

    Args:
        out: the data set's folder.
        wanted: what to fetch, from `sources`.
        base: of every address; Zenodo, or a mirror of its paths.
        keep_archives: leave them in out/archives; otherwise each goes once it is unpacked.
        transfer: fetches an address into a file, whole or not at all.

    Raises:
        DownloadError: the network failed, or what came is not what it should be.
        UsageError: another download is at work in `out`.
        StorageError: the disk is full or can't be written.
    """
    archives = out / "archives"
    busy = f"{out}: another `edge-asd data download` is at work there; wait for it to end."
    with hold(out / ".download.lock", lambda: UsageError(busy)):
        checksums = Checksums.read(out / "checksums.sha256")
        for source in wanted:
            if source.is_there(out):
                say(f"{source.folder(out)}: already there, {' and '.join(source.splits)}")
                continue
            path = archives / source.name
            if not path.is_file():
                transfer(source.url(base), path)
            checksums = _install(source, path, out, checksums)
            if not keep_archives:
                path.unlink(missing_ok=True)
            say(f"{source.folder(out)}: unpacked, {' and '.join(source.splits)}")
        if archives.is_dir() and not any(archives.iterdir()):
            archives.rmdir()


def _install(source: Source, path: Path, out: Path, checksums: Checksums) -> Checksums:
    """Hold an archive against what it was at the first download, unpack it and put it into its place."""
    name = f"archives/{source.name}"
    digest = _sha256(path)
    known = checksums.of(name)
    if known and known != digest:
        raise DownloadError(
            f"{path}: is not what it was at the first download (SHA-256 {digest}, {checksums.path} says {known}). "
            "Remove this archive to fetch it anew; if the other one is to be trusted, remove its line in that file."
        )
    with unpacked(Archive(path, source.machine, source.splits), out / ".unpacking") as staged:
        checksums = checksums.written_with(name, digest)  # its clips were all read by now, so it is no torn archive
        _take_place(staged, source.folder(out))
    return checksums


def _take_place(staged: Path, folder: Path) -> None:
    """Rename what was unpacked to where it belongs; what stands there already stays. Raises: StorageError."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not folder.exists():
            staged.rename(folder)
        else:
            # Tables first: a folder that is there vouches for all, see is_there.
            for item in sorted(staged.iterdir(), key=lambda item: item.is_dir()):
                place = folder / item.name
                if not (place.is_dir() and any(place.iterdir())) and not place.is_file():
                    item.rename(place)
        files.sync(folder)
        files.sync(folder.parent)
    except OSError as error:
        raise files.unwritable(folder, error) from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise files.unreadable(path, error) from error
