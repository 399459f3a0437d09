"""`status.json`: what the daemon says of itself while it runs, for `edge-asd status` and whoever watches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from edge_asd import lock
from edge_asd.errors import StorageError
from edge_asd.files import unreadable, unwritable

FILE_NAME = "status.json"
LOCK_NAME = "lock"
LARGEST_STATUS = 64 << 10  # bytes

_MEMORY = Path("/proc/self/statm")


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A moment of the daemon.

    Attributes:
        pid: its process.
        bundle: digest of the bundle, 16 digits.
        machine, section: what it listens to.
        since, updated: when it began, and when this was written, UTC.
        heard_seconds: of sound, those lost included.
        scores: so far.
        last_score: the newest, None before the first.
        threshold: what scores are held against.
        alert: one is on.
        lost_samples: so far, as far as the source tells.
        resident_mb: memory, MB.
    """

    pid: int
    bundle: str
    machine: str
    section: str
    since: str
    updated: str
    heard_seconds: float
    scores: int
    last_score: float | None
    threshold: float
    alert: bool
    lost_samples: int
    resident_mb: float


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second daemon off the folder, for as long as the block lasts. Raises: StorageError."""
    path = folder / LOCK_NAME

    def refusal() -> StorageError:
        return StorageError(
            f"{folder}: process {path.read_text().strip()} listens with this state folder already; end it, "
            "or give this one another `state` in its device.toml."
        )

    with lock.hold(path, refusal):
        with suppress(OSError):  # a full disk is no reason to be deaf
            path.write_text(f"{os.getpid()}\n")
        yield


def alive(folder: Path) -> bool:
    """Whether a daemon runs with this folder. Its lock says so, not its number: another process may have that by now.

    Raises:
        StorageError: the lock can't be read.
    """
    return lock.is_held(folder / LOCK_NAME)


def write(folder: Path, status: Status) -> None:
    """Replace the folder's status at once. Raises: StorageError.

    Not synced: it is worth nothing after a power cut, and a sync a second would wear an SD card out.
    """
    path = folder / FILE_NAME
    beside = folder / f".{FILE_NAME}.new"
    try:
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(status), indent=1) + b"\n")
        beside.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error


def read(folder: Path) -> Status | None:
    """The folder's newest status; None where none was ever written. Raises: StorageError."""
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(LARGEST_STATUS), type=Status)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: is no status ({error}); start `edge-asd run`, which writes it anew.") from error


def describe(status: Status, *, alive: bool) -> list[str]:
    """The status in lines for people, and whether the daemon that wrote it still runs."""
    state = f"runs as process {status.pid}" if alive else f"does not run: process {status.pid} is gone"
    last = "no score yet" if status.last_score is None else f"last score {status.last_score:.4g}"
    return [
        f"{status.machine} {status.section}: {state}",
        f"alert      {'ON' if status.alert else 'off'}, {last}, threshold {status.threshold:.4g}",
        f"heard      {status.heard_seconds:.1f} s since {status.since}, {status.scores} scores"
        + (f", {status.lost_samples} samples lost" if status.lost_samples else ""),
        f"bundle     {status.bundle}",
        f"memory     {status.resident_mb:.0f} MB, as of {status.updated}",
    ]


def resident_mb() -> float:
    """Resident memory of this process, MB."""
    try:
        pages = int(_MEMORY.read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
