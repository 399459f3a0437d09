"""Files that are there whole or not at all: written beside, synced, then renamed into place."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_asd.errors import StorageError, Unwritable


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on leaving without an error it takes `path`'s place.

    The content is on the disk before the name is (fsync, rename, fsync of the folder), so a power cut
    leaves the old file or the new one. The block writes the temporary path by any means.

    Raises:
        StorageError: writing failed (disk full, read-only, no such folder); `path` is as it was.
    """
    try:
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise unwritable(path, error) from error
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o644)  # before it is synced: who may read it has to outlive a power cut, too
        sync(beside)
        beside.replace(path)
        sync(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing; all of them on the disk, names included.

    Raises:
        OSError: it can't be made.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync(folder.parent)


def half_written(name: str) -> str:
    """The pattern of what killed writings of a file leave beside it; its name may be a pattern itself."""
    return f".{name}.{'?' * 8}"


def remove_half_written(folder: Path, *names: str) -> None:
    """Remove what killed writings of these files left in a folder; names may be patterns. Raises: OSError."""
    for name in names:
        for path in folder.glob(half_written(name)):
            path.unlink(missing_ok=True)


def beginning(path: Path, most: int) -> bytes | None:
    """The first so many bytes of a file; None where there is none.

    Opens nothing but a file: what another account has put there, such as a pipe, or a link to a device that acts when
    it is opened, must not come to life when root looks.

    Raises:
        StorageError: it can't be read, or is no file.
    """
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)  # names what is there, without opening it
        try:
            if not stat.S_ISREG(os.fstat(place).st_mode):
                raise StorageError(f"{path}: can't be read, for it is no file; move it away.")
            with open(f"/proc/self/fd/{place}", "rb") as file:
                return file.read(most)
        finally:
            os.close(place)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all. Raises: StorageError."""
    with atomic(path) as beside:
        beside.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all. Raises: StorageError."""
    write_bytes(path, content.encode())


def unwritable(path: Path, error: OSError) -> Unwritable:
    """The error to raise where `path` can't be written."""
    return Unwritable(
        f"{path}: could not be written ({error.strerror or error}); free space or mend the permissions there, "
        "then run the same command again."
    )


def unreadable(path: Path, error: OSError) -> StorageError:
    """The error to raise where `path` can't be read."""
    return StorageError(f"{path}: can't be read ({error.strerror or error}); mend the permissions.")


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
