"""The wheels that travel to a device: fetched once with pip, kept in a cache, held against the lock at every use."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge_asd import progress
from edge_asd.errors import DeploymentError, DownloadError
from edge_asd.files import unwritable
from edge_asd_tools.deploy import lock
from edge_asd_tools.deploy.lock import Pin
from edge_asd_tools.deploy.registry import Target, fetch

MOST_CACHED = 1 << 30  # bytes; all that one version of edge-asd locks is 130 MB
UNFINISHED = ".fetching-"
UNFINISHED_SECONDS = 24 * 3600  # a fetch that is older than this was killed


@dataclass(frozen=True)
class Wheel:
    """A wheel on the disk: where, the package's normalised name and version, SHA-256 and size in bytes."""

    path: Path
    name: str
    version: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """Its file name, which installers read tags from."""
        return self.path.name


def for_device(
    machine: str, python: str, platforms: Sequence[str], *, cache: Path | None = None, locks: Path = lock.FOLDER
) -> tuple[Wheel, ...]:
    """Every wheel that a device needs but our own, sorted by name, and each one verified just now.

    What the cache has isn't fetched, so a second deployment needs no network. A damaged file is fetched anew.

    Args:
        machine: as `uname -m` says it there.
        python: the device's, X.Y.
        platforms: the platform tags that run on it, as its board states them.
        cache: a folder; `~/.cache/edge-asd/wheels` by default, or beneath XDG_CACHE_HOME.
        locks: the folder of the locks.

    Raises:
        UsageError: there is no lock for such a machine or Python.
        DeploymentError: a wheel doesn't run on these platforms.
        MissingRequirement: pip is needed and isn't installed.
        DownloadError: a wheel can't be had.
        StorageError: the cache can't be written.
    """
    wanted = lock.read(machine, python, locks).pins
    for pin in wanted:
        if not pin.suits(platforms):
            raise DeploymentError(
                f"{pin.file} doesn't run there: it needs one of {', '.join(pin.platforms)}, and the board takes "
                f"{', '.join(platforms)}; choose another --board, or mend wheel_platform in its file."
            )
    folder = cache or default_cache()
    wheels = {pin.name: _cached(pin, folder) for pin in wanted}
    lacking = [pin for pin in wanted if wheels[pin.name] is None]
    target = Target(machine, python, tuple(platforms))
    if lacking:
        megabytes = sum(pin.size for pin in lacking) / 1e6
        progress.say(
            f"Fetching {len(lacking)} wheels for {machine}, Python {python}: {megabytes:.1f} MB, kept in {folder}"
        )
        with progress.bar("wheels", len(lacking)) as bar:
            for pin in lacking:
                bar.say(f"{pin.name} {pin.size / 1e6:.1f} MB")
                wheels[pin.name] = _fetched(pin, target, folder)
                bar.advance()
        _tidy(folder, {pin.file for pin in wanted})
    return tuple(wheel for wheel in wheels.values() if wheel)


def default_cache() -> Path:
    """Where wheels are kept: `edge-asd/wheels` in the user's cache (XDG base directories)."""
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (stated if stated.is_absolute() else Path.home() / ".cache") / "edge-asd" / "wheels"


def sha256_of(path: Path) -> str | None:
    """A file's SHA-256; None where there is no file that can be read."""
    with suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return None


def _cached(pin: Pin, folder: Path) -> Wheel | None:
    """What the cache has of it, where that is whole."""
    path = folder / pin.file
    if sha256_of(path) != pin.sha256:
        return None
    with suppress(OSError):  # a cache that is only read is none the worse
        os.utime(path)  # used now: others go first
    return Wheel(path, pin.name, pin.version, pin.sha256, pin.size)


def _fetched(pin: Pin, target: Target, folder: Path) -> Wheel:
    """It, fetched into the cache. Whoever else fetches it meanwhile puts the same bytes in the same place."""
    with _own_folder(folder) as unfinished:
        arrived = fetch(pin.requirement, target, unfinished)
        if sha256_of(arrived) != pin.sha256:
            raise DownloadError(f"{pin.file}: arrived damaged in {unfinished}; check the disk, then run it again.")
        try:
            arrived.replace(folder / pin.file)
        except OSError as error:
            raise unwritable(folder, error) from error
    return Wheel(folder / pin.file, pin.name, pin.version, pin.sha256, pin.size)


@contextmanager
def _own_folder(beneath: Path) -> Iterator[Path]:
    """A folder of this process alone, gone afterwards. Raises: StorageError."""
    try:
        beneath.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=beneath))
    except OSError as error:
        raise unwritable(beneath, error) from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _tidy(folder: Path, used: Collection[str]) -> None:
    """Keep the cache within its bound: what was not used for longest goes, and what killed fetches left.

    What can't be removed stays: another process may be doing the same.
    """
    now = time.time()
    for left in folder.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            if now - left.stat().st_mtime > UNFINISHED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    kept = []
    for path in folder.glob("*.whl"):
        with suppress(OSError):
            about = path.stat()
            kept.append((path.name in used, about.st_mtime, about.st_size, path))
    free = MOST_CACHED
    for is_used, _, size, path in sorted(kept, reverse=True):
        free -= size
        if free < 0 and not is_used:
            path.unlink(missing_ok=True)
