"""A machine type's zip to its folder: everything about the zip is judged before a byte of it is written.

What is unpacked is chosen by its place, <machine>/{train,test}/<clip> and <machine>/attributes_SS.csv; the names inside
are never followed anywhere else.
"""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge_asd import progress
from edge_asd.audio import SOUND_FILES
from edge_asd.errors import DownloadError
from edge_asd.files import unreadable, unwritable
from edge_asd_trainer.data.disk import need

log = logging.getLogger(__name__)

MOST_ENTRIES = 20_000  # the largest archive of the challenge holds 3600 clips
LARGEST_DIRECTORY = 8 << 20  # bytes of the zip's own list of entries, which is read into memory
LARGEST_ENTRY = 64 << 20  # a clip of 10 s has 320 kB
LARGEST_IN_ALL = 16 << 30
BLOCK = 1 << 20

_ATTRIBUTES = re.compile(r"attributes_\d{2}\.csv")
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


@dataclass(frozen=True)
class Archive:
    """A zip, and what it should bring.

    Attributes:
        path: of the zip.
        machine: machine type whose folder it holds.
        splits: the folders in it, "train" and "test" or one of them.
    """

    path: Path
    machine: str
    splits: tuple[str, ...]


class _BoundedReads(io.FileIO):
    """A file of which nobody takes more into memory at once than a zip's list of entries may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        bounded = LARGEST_DIRECTORY + 1 if size is None or size < 0 else min(size, LARGEST_DIRECTORY + 1)
        content = super().read(bounded) or b""
        if len(content) > LARGEST_DIRECTORY:
            raise zipfile.BadZipFile(f"its list of entries is larger than {LARGEST_DIRECTORY >> 20} MiB")
        return content


@contextmanager
def unpacked(archive: Archive, staging: Path) -> Iterator[Path]:
    """Give the machine's folder, unpacked in `staging`, which is gone on leaving: rename it to where it belongs.

    Raises:
        DownloadError: the zip is torn, encrypted, not the machine's, or holds what no archive of clips does.
        StorageError: there is no room for it, or it can't be written.
    """
    with _opened(archive) as file:
        entries = _wanted(file, archive)
        need(staging.parent, sum(entry.file_size for entry in entries), f"to unpack {archive.path.name}")
        folder = staging / archive.machine
        try:
            shutil.rmtree(staging, ignore_errors=True)  # of a time that ended without warning
            with progress.bar("unpacking", len(entries)) as bar:
                for entry in entries:
                    _write(file, entry, staging, archive)
                    bar.advance()
            os.sync()  # the clips reach the disk before their folder takes its place
            yield folder
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _opened(archive: Archive) -> Iterator[zipfile.ZipFile]:
    try:
        raw = _BoundedReads(archive.path)
    except OSError as error:
        raise unreadable(archive.path, error) from error
    with raw:
        try:
            file = zipfile.ZipFile(raw)
        except _DAMAGED as error:
            raise _refused(archive, f"is not a whole zip ({error})") from error
        with file:
            yield file


def _wanted(file: zipfile.ZipFile, archive: Archive) -> list[zipfile.ZipInfo]:
    """The clips and tables of attributes, once every entry was looked at. Raises: DownloadError."""
    entries = file.infolist()
    if len(entries) > MOST_ENTRIES:
        raise _refused(archive, f"holds {len(entries)} entries, expected at most {MOST_ENTRIES}")
    for entry in entries:
        if fault := _fault(entry):
            raise _refused(archive, f"holds {entry.orig_filename[:100]!r}, {fault}")
    if len({entry.filename for entry in entries}) < len(entries):
        raise _refused(archive, "holds two entries of one name")
    if (size := sum(entry.file_size for entry in entries)) > LARGEST_IN_ALL:
        raise _refused(archive, f"claims {size >> 30} GiB unpacked, expected at most {LARGEST_IN_ALL >> 30}")
    _refuse_overlaps(entries, file.start_dir, archive)
    wanted = [entry for entry in entries if not entry.is_dir() and _belongs(PurePosixPath(entry.filename), archive)]
    for split in archive.splits:
        if not any(PurePosixPath(entry.filename).parts[1] == split for entry in wanted):
            raise _refused(archive, f"holds no clip in {archive.machine}/{split}")
    taken = {entry.filename for entry in wanted}
    if others := [entry.filename for entry in entries if entry.filename not in taken and not entry.is_dir()]:
        log.info("%s: left in it, %d files such as %r", archive.path, len(others), others[0])
    return wanted


def _fault(entry: zipfile.ZipInfo) -> str:
    """What is wrong with an entry; empty where nothing is."""
    name = entry.orig_filename
    parts = name.removesuffix("/").split("/")
    faults = {
        "a path that leads elsewhere": any(mark in name for mark in "\\\0")
        or any(part in {"", ".", ".."} for part in parts),
        "a name that is too long": any(len(part.encode()) > 255 for part in parts),
        "a link or a device": stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR},
        "which is encrypted": bool(entry.flag_bits & _ENCRYPTED),
        f"compressed by method {entry.compress_type}, expected stored or deflated": entry.compress_type
        not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED},
        f"which claims {entry.file_size} bytes, expected at most {LARGEST_ENTRY}": entry.file_size > LARGEST_ENTRY,
    }
    return next((fault for fault, found in faults.items() if found), "")


def _refuse_overlaps(entries: list[zipfile.ZipInfo], end: int, archive: Archive) -> None:
    """Entries lie one behind the other, then comes their list; sharing bytes is how a small zip grows large."""
    for entry in sorted(entries, key=lambda entry: entry.header_offset, reverse=True):
        if entry.header_offset + entry.compress_size > end:
            raise _refused(archive, f"holds {entry.filename[:100]!r}, which reaches into what follows it")
        end = entry.header_offset


def _belongs(name: PurePosixPath, archive: Archive) -> bool:
    match name.parts:
        case (archive.machine, split, clip):
            hidden = clip.startswith(".")
            return split in archive.splits and name.suffix.lower() in SOUND_FILES and not hidden
        case (archive.machine, table):
            return bool(_ATTRIBUTES.fullmatch(table))
    return False


def _write(file: zipfile.ZipFile, entry: zipfile.ZipInfo, staging: Path, archive: Archive) -> None:
    """One entry, block by block; zipfile gives no more than its stated size and compares its CRC at the end."""
    path = staging / entry.filename
    try:
        with file.open(entry) as source:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as target:
                while block := source.read(BLOCK):
                    target.write(block)
    except _DAMAGED as error:
        raise _refused(archive, f"is damaged at {entry.filename!r} ({error})") from error
    except OSError as error:
        raise unwritable(path, error) from error


def _refused(archive: Archive, fault: str) -> DownloadError:
    return DownloadError(
        f"{archive.path}: {fault}; nothing of it was unpacked. Remove this archive and run the same command again."
    )
