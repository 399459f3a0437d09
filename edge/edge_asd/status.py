"""`status.json`: what the daemon says of itself while it runs, for `edge-asd status`, the page and whoever watches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from edge_asd import lock, progress, strict
from edge_asd.errors import StorageError, Unwritable
from edge_asd.files import beginning, unwritable

FILE_NAME = "status.json"
LOCK_NAME = "lock"
LARGEST_STATUS = 64 << 10  # bytes

_MEMORY = Path("/proc/self/statm")


class SinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever is told: how many messages wait for it, how many were dropped before it came back, and what is wrong."""

    name: str
    waiting: int = 0
    missed: int = 0
    trouble: str = ""


class Commissioning(msgspec.Struct, frozen=True, kw_only=True):
    """How far `edge-asd commission` is.

    Attributes:
        phase: it learns the machine, then measures what that sounds like to the bank which knows it.
        done: share of the whole, 0 to 1.
        said: what a person should know of it now, such as that it waits for the microphone.
    """

    phase: Literal["learning", "measuring"]
    done: float
    said: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A moment of the daemon.

    Attributes:
        version: of edge-asd.
        device: its name.
        pid: its process.
        bundle: digest of the bundle, 16 digits.
        machine, section: what it listens to.
        since, updated: when it began, and when this was written, UTC.
        heard_seconds: of sound, those lost included.
        scores: so far.
        last_score: the newest, None before the first.
        threshold: what scores are held against.
        threshold_from: where that comes from, such as "site".
        alert: one is on.
        faults: of the microphone, that are on; while one gates, no score raises an alert.
        sensor: these in words; "" where it hears rightly.
        gated: one of them gates.
        rms_dbfs, peak_dbfs: the level of the last quarter of a second.
        level_dbfs: the level of the last minutes; None before there are any.
        lost_samples: so far, as far as the source tells.
        synchronised: the wall clock is known to be right.
        site: when what the device knows of its site was learned, UTC; "" where it never was.
        commissioning: that goes on at present.
        storage: what is wrong with the database; "" where nothing is.
        unwritten: events that wait for it.
        sinks: those that are configured.
        shadow: digest of the bundle that scores beside this one; "" where none does.
        resident_mb: memory, MB.
    """

    version: str = ""
    device: str = ""
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
    threshold_from: str = ""
    alert: bool
    faults: tuple[str, ...] = ()
    sensor: str = ""
    gated: bool = False
    rms_dbfs: float | None = None
    peak_dbfs: float | None = None
    level_dbfs: float | None = None
    lost_samples: int
    synchronised: bool = False
    site: str = ""
    commissioning: Commissioning | None = None
    storage: str = ""
    unwritten: int = 0
    sinks: tuple[SinkStatus, ...] = ()
    shadow: str = ""
    resident_mb: float


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second daemon off the folder, for as long as the block lasts.

    Where the folder can't be written nobody is kept off, which is said: a broken card is no reason to be deaf.

    Raises:
        StorageError: another daemon listens with it.
    """
    path = folder / LOCK_NAME

    def refusal() -> StorageError:
        return StorageError(
            f"{folder}: process {path.read_text().strip()} listens with this state folder already; end it, "
            "or give this one another `state` in its device.toml."
        )

    with ExitStack() as stack:
        try:
            stack.enter_context(lock.hold(path, refusal))
        except Unwritable as error:
            progress.say(f"edge-asd: listening without a lock: {error}")
        with suppress(OSError):  # the number is only for people
            path.write_text(f"{os.getpid()}\n")
        _place(folder)
        yield


def _place(folder: Path) -> None:
    """Have the status written into memory where systemd gives a folder there: once a second would wear a card out."""
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    path = folder / FILE_NAME
    with suppress(OSError):
        if runtime:
            wanted = Path(runtime) / FILE_NAME
            if not path.is_symlink() or path.readlink() != wanted:
                path.unlink(missing_ok=True)
                path.symlink_to(wanted)
        elif path.is_symlink():
            path.unlink()


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
    try:
        if path.is_symlink():
            path = path.readlink()
        beside = path.with_name(f".{FILE_NAME}.new")
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(status), indent=1) + b"\n")
        beside.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error


def read(folder: Path) -> Status | None:
    """The folder's newest status; None where none was ever written. Raises: StorageError."""
    path = folder / FILE_NAME
    content = beginning(path, LARGEST_STATUS)
    try:
        return None if content is None else strict.decoded(content, Status)
    except ValueError as error:
        raise StorageError(f"{path}: is no status ({error}); start `edge-asd run`, which writes it anew.") from error


def headline(status: Status) -> str:
    """How things stand, in one line."""
    if status.gated:
        verdict = f"CAN'T HEAR: {', '.join(status.faults)}"
    elif status.alert:
        verdict = "ALERT: sounds strange"
    else:
        verdict = "no score yet" if status.last_score is None else "sounds like itself"
    return f"{status.machine} {status.section}: {verdict}"


def describe(status: Status, *, alive: bool) -> list[str]:
    """The status in lines for people, and whether the daemon that wrote it still runs."""
    state = f"runs as process {status.pid}" if alive else f"does not run: process {status.pid} is gone"
    last = "no score yet" if status.last_score is None else f"last score {status.last_score:.4g}"
    source = f" from {status.threshold_from}" if status.threshold_from else ""
    level = "" if status.level_dbfs is None else f", level {status.level_dbfs:.1f} dBFS"
    faults = f"{', '.join(status.faults)}: {status.sensor}" if status.faults else "hears"
    clock = "" if status.synchronised else ", a clock that nobody has set"
    work = status.commissioning
    return [
        f"{status.machine} {status.section}: {state}",
        f"alert      {'ON' if status.alert else 'off'}, {last}, threshold {status.threshold:.4g}{source}",
        f"microphone {faults}{level}",
        f"heard      {status.heard_seconds:.1f} s since {status.since}, {status.scores} scores"
        + (f", {status.lost_samples} samples lost" if status.lost_samples else ""),
        *([f"commission {work.phase}, {work.done:.0%}{f', {work.said}' if work.said else ''}"] if work else []),
        f"site       {f'learned {status.site}' if status.site else 'nothing learned there yet: edge-asd commission'}",
        *([f"storage    {status.storage}, {status.unwritten} events wait"] if status.storage else []),
        *(_describe_sink(sink) for sink in status.sinks),
        f"bundle     {status.bundle}",
        *([f"shadow     {status.shadow} scores beside it: edge-asd shadow"] if status.shadow else []),
        f"memory     {status.resident_mb:.0f} MB, as of {status.updated}{clock}",
    ]


def _describe_sink(sink: SinkStatus) -> str:
    waits = f", {sink.waiting} messages wait" if sink.waiting else ""
    missed = f", {sink.missed} were too old to be sent" if sink.missed else ""
    return f"{sink.name:<10} {sink.trouble or 'told'}{waits}{missed}"


def resident_mb() -> float:
    """Resident memory of this process, MB."""
    try:
        pages = int(_MEMORY.read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
