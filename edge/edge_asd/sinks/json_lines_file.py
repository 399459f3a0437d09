"""Every message as a line at the end of a file, on the disk before the next one is taken.

    {"sequence":7,"transition":"raised","event":{"id":"...","kind":"anomaly",...}}

From `keep_mb` (millions of bytes) on the file takes the place of `NAME.1` and a new one is begun. Who rotates it by
other means (logrotate with `create`) is noticed: the line goes to the file that has the name now. A line that is there
already, for the daemon was killed before it could note so, isn't written again.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_asd.events import Message
from edge_asd.files import sync
from edge_asd.settings import JsonLinesSettings
from edge_asd.sinks.courier import SinkDown

MB = 1_000_000
LONGEST_LINE = 64 << 10  # bytes, to be known again


class JsonLinesFile:
    """The file. Its folder must be there: one made on the SD card, where a mount failed, would hide the failure."""

    name = "json_lines"

    def __init__(self, settings: JsonLinesSettings) -> None:
        """Nothing is opened before there is something to write."""
        self._path = settings.path
        self._largest = settings.keep_mb * MB
        self._handle: int | None = None
        self._last = b""  # line of the file that is open, as it was when it was opened

    def deliver(self, message: Message, stop: threading.Event) -> None:
        """Write and sync a line. Raises: SinkDown."""
        if stop.is_set():
            raise SinkDown("stopping")
        line = msgspec.json.encode(message) + b"\n"
        try:
            handle = self._current()
            if self._last == line:  # the daemon ended between this line and the note that it had been told
                return
            if (size := os.fstat(handle).st_size) and size + len(line) > self._largest:
                handle = self._rotate()
            self._append(handle, line)
            self._last = b""
        except OSError as error:
            self.close()
            raise SinkDown(
                f"{self._path}: can't be written ({error.strerror or error}); free space, mend the permissions, "
                "or make the folder"
            ) from error

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with suppress(OSError):
                os.close(handle)

    def _current(self) -> int:
        """The file that has the name now. Raises: OSError, SinkDown."""
        if self._handle is not None:
            mine = os.fstat(self._handle)
            with suppress(FileNotFoundError):
                theirs = self._path.stat()
                if (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino):
                    return self._handle
            self.close()
        return self._open()

    def _open(self) -> int:
        """Open or make it, and end a line that a power cut left half written. Raises: OSError, SinkDown."""
        # O_NONBLOCK: a pipe would make us wait for its reader
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        self._handle = handle = os.open(self._path, flags, 0o644)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise SinkDown(f"{self._path}: is no ordinary file; give `path` of sinks.json_lines another")
        if found.st_size == 0:
            sync(self._path.parent)  # its name, too, shall outlive a power cut
        tail = os.pread(handle, LONGEST_LINE, max(0, found.st_size - LONGEST_LINE))
        if tail and not tail.endswith(b"\n"):
            self._append(handle, b"\n")
        self._last = tail[tail.rfind(b"\n", 0, -1) + 1 :]
        return handle

    def _rotate(self) -> int:
        """Raises: OSError, SinkDown."""
        self.close()
        self._path.replace(rotated(self._path))
        return self._open()

    def _append(self, handle: int, content: bytes) -> None:
        """Write all of it or, on a full disk, none. Raises: OSError."""
        size = os.fstat(handle).st_size
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        except OSError:
            with suppress(OSError):
                if os.fstat(handle).st_size > size:
                    os.ftruncate(handle, size)
            raise


def rotated(path: Path) -> Path:
    """Where the older lines are."""
    return path.with_name(f"{path.name}.1")
