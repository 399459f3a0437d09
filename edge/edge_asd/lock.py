"""One process at a time: a lock on a file, which the kernel lets go of when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_asd.errors import EdgeAsdError
from edge_asd.files import make_folder, unreadable, unwritable


@contextmanager
def hold(path: Path, refusal: Callable[[], EdgeAsdError], *, private: bool = False) -> Iterator[None]:
    """Hold a lock for as long as the block lasts.

    Args:
        path: of its file, which is made where there is none; what is in it doesn't matter here.
        refusal: makes the error to raise where another process holds it.
        private: nobody but its owner may open it, for who can only read it can hold it as well.

    Raises:
        StorageError: the file can't be written.
    """
    try:
        make_folder(path.parent)
        file = path.open("a")
        if private:
            os.fchmod(file.fileno(), 0o600)
    except OSError as error:
        raise unwritable(path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise refusal() from error
        except OSError as error:  # a file system that knows no locks
            raise unwritable(path, error) from error
        yield


def is_held(path: Path) -> bool:
    """Whether a process holds the lock. Raises: StorageError where its file can't be read."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise unreadable(path, error) from error
    return False
