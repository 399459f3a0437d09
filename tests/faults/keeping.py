"""What a daemon keeps while it listens: events, their messages for a sink, sounds, a status. As a program: some hours.

    python -m faults.keeping ROOT       # to be watched; it acknowledges what counts as kept

The daemon's own parts do the work, wired as `daemon` wires them, but for a microphone and a network: what is raised
here, and when, is known beforehand. Events are large and few are kept, so that in a short time rows go, the file
shrinks, SQLite's log comes round, the sink's file is begun anew and the oldest sounds make room.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import soundfile
from msgspec.structs import replace

from common import until
from edge_asd import keeper as keepers
from edge_asd import left_over, status
from edge_asd.clock import SystemClock
from edge_asd.errors import StorageError
from edge_asd.events import Event, Message, Stamp
from edge_asd.front_end import FrontEnd
from edge_asd.keeper import Keeper
from edge_asd.kept_sounds import FOLDER as SOUNDS
from edge_asd.kept_sounds import SoundKeeper
from edge_asd.settings import ClipSettings, EventSettings, JsonLinesSettings
from edge_asd.sinks import courier as couriers
from edge_asd.sinks.courier import Courier
from edge_asd.sinks.json_lines_file import JsonLinesFile, rotated
from edge_asd.store import FILE_NAME, EventStore
from faults.disk import acknowledge
from faults.filling import Fill, Outcome
from faults.running import OF_A_STATE
from made_up_events import EVENT, STATUS

SINK = "json_lines"
KEEP = 12  # events
SHORT = 400  # bytes of an event where as many writings as can be shall be tried
HOURS = 3  # times that the daemon is started, and ends
EVENTS = 14  # in each
BOUNDS = EventSettings(keep=KEEP, waiting=1000)
TOLD = "told.jsonl"

Say = Callable[[str], object]


@dataclass
class Hour:
    """A daemon from its start to its end."""

    keeper: Keeper
    sounds: SoundKeeper
    state: Path
    say: Say
    courier: Courier | None = None
    trouble: list[str] = field(default_factory=list)

    def event(self, number: int, acknowledged: Say, length: int = 30_000) -> None:
        """The machine sounds strange, and then like itself again."""
        random = np.random.default_rng(number)
        for _ in range(4):
            self.sounds.take((0.1 * random.standard_normal(4000)).astype(np.float32))
        event = replace(EVENT, id=identity(number), said="x" * length)
        clip = self.sounds.keep(Stamp.now(SystemClock()), event.id)
        self.put("raised", replace(event, clip=clip), acknowledged)
        self.put("cleared", replace(event, clip=clip, ended_s=12.0), acknowledged)
        try:
            status.write(self.state, replace(STATUS, scores=number))
        except StorageError as error:
            self.trouble.append(str(error))

    def put(self, transition: str, event: Event, acknowledged: Say) -> None:
        self.keeper.put(transition, event)  # type: ignore[arg-type]
        if acknowledged is not nobody:
            until(lambda: not self.keeper.unwritten)
        acknowledged(f"{transition} {event.id}")

    def all_told(self) -> bool:
        """Nothing waits, neither for the disk nor for the sink."""
        if self.keeper.unwritten:
            return False
        try:
            return not self.keeper.waiting(SINK)
        except StorageError:
            return False


class AcknowledgingKeeper(Keeper):
    """Says what the sink was told, once that is written down."""

    def advance(self, sink: str, sequence: int) -> None:
        super().advance(sink, sequence)
        acknowledge(f"told {sequence}")


def nobody(_: str) -> None:
    """Isn't told."""


def identity(number: int) -> str:
    return f"e{number:05}"


@contextmanager
def hour(root: Path, say: Say, kind: type[Keeper] = Keeper) -> Iterator[Hour]:
    """A daemon that runs, and ends as by SIGTERM."""
    state = root / "state"
    clips = ClipSettings(keep_mb=1, before_seconds=1, after_seconds=0)
    with ExitStack() as stack:
        stack.enter_context(status.alone(state))
        left_over.clear(state)
        keeper = stack.enter_context(kind(state / FILE_NAME, BOUNDS, say=say, pause=0.02))
        sounds = stack.enter_context(SoundKeeper(state / SOUNDS, clips, FrontEnd(), say=say))
        one = Hour(keeper, sounds, state, say)
        sink = JsonLinesFile(JsonLinesSettings(path=root / TOLD, keep_mb=1))
        one.courier = Courier(sink, keeper, say=say, wait=lambda _: time.sleep(0.02))
        stack.callback(one.courier.close, 5.0)
        stack.callback(keeper.settle)
        yield one


def main(root: str) -> None:
    for number in range(HOURS):
        with hour(Path(root), nobody, AcknowledgingKeeper) as one:
            for event in range(number * EVENTS, (number + 1) * EVENTS):
                one.event(event, acknowledge)


def filling(root: Path, fill: Fill, lift: Callable[[], None]) -> Outcome:
    """An hour without faults, then one in which the disk fills up at some moment, and has space again a while later."""
    root.mkdir()
    keepers.LONGEST_PAUSE = 0.05
    couriers.IDLE_SECONDS = 0.02
    said: list[str] = []
    outcome = Outcome()
    with hour(root, said.append) as one:
        for event in range(3):
            one.event(event, nobody, SHORT)
        until(one.all_told)
    fill()
    with hour(root, said.append) as one:
        for event in range(3, 9):
            one.event(event, nobody, SHORT)
            one.keeper.settle(0.1)
            outcome.wrong += unreadable(root)
        until(lambda: one.all_told() and not one.keeper.trouble, 60)
        lift()
        status.write(one.state, STATUS)  # as it does every second
    outcome.before = [f"{what} {identity(event)}" for event in range(9) for what in ("raised", "cleared")]
    found = Found.under(root)
    outcome.after = [f"{what} {event}" for what, event in found.messages]
    outcome.wrong += wrong(root, said)
    if outcome.after != outcome.before:
        outcome.wrong.append(f"the log is {outcome.after}")
    outcome.left = left(root)
    complaints = [line for line in said if "events wait in memory" in line]
    if len(complaints) > 4 or len(said) > 20:
        outcome.wrong.append(f"it said too much: {said}")
    outcome.said = said
    return outcome


def unreadable(root: Path) -> list[str]:
    """What can't be read by those who only look, while the disk is full."""
    found = []
    try:
        with EventStore(root / "state" / FILE_NAME, read_only=True) as store:
            if identity(0) not in [event.id for event in store.newest(100)]:
                found.append("an event isn't shown")
        if status.read(root / "state") is None:
            found.append("there is no status")
    except StorageError as error:
        found.append(str(error))
    return found


@dataclass(frozen=True)
class Found:
    """What lies under a root."""

    events: list[str]
    messages: list[tuple[str, str]]
    last: int
    told: list[Message]

    @classmethod
    def under(cls, root: Path) -> Found:
        with EventStore(root / "state" / FILE_NAME, read_only=True) as store:
            messages = store.after(0, 1_000_000)
            events = [event.id for event in store.newest(1_000_000)][::-1]
            last = store.last()
        return cls(events, [(one.transition, one.event.id) for one in messages], last, told(root))


def told(root: Path) -> list[Message]:
    """The lines of the sink's file, the older one's first. A line that a cut left a half of is no message."""
    found = []
    for file in (rotated(root / TOLD), root / TOLD):
        for line in file.read_bytes().split(b"\n") if file.exists() else ():
            try:
                found.append(msgspec.json.decode(line, type=Message))
            except msgspec.DecodeError:
                continue
    return found


def wrong(root: Path, said: Sequence[str]) -> list[str]:
    """What is not as it must be once a daemon has run to its end, and all was told."""
    found, state = [], root / "state"
    one = Found.under(root)
    numbers = {message.sequence for message in one.told}
    if len({(message.transition, message.event.id) for message in one.told}) < len(numbers):
        found.append("a message was told under two numbers")
    if [message.sequence for message in one.told] != sorted(message.sequence for message in one.told):
        found.append("messages were told out of order")
    if numbers and numbers != set(range(min(numbers), one.last + 1)):
        found.append(f"not every message was told, of {one.last}")
    for path in (state / SOUNDS).iterdir():
        try:
            if path.suffix == ".flac":
                soundfile.read(path)
            elif path.suffix == ".png":
                assert path.read_bytes().endswith(b"IEND\xae\x42\x60\x82")
        except (soundfile.LibsndfileError, AssertionError):
            found.append(f"{path.name} isn't whole")
    if sum(path.stat().st_size for path in (state / SOUNDS).iterdir()) > 1.2 * 2**20:
        found.append("sounds beyond their bound")
    if (read := status.read(state)) is None:
        found.append(f"no status: {read}")
    return found + [line for line in said if "damaged" in line or "later" in line or "foresaw" in line]


def left(root: Path) -> list[str]:
    """What lies there and is nobody's."""
    sounds = [path for path in (root / "state" / SOUNDS).iterdir() if path.suffix not in (".flac", ".png")]
    state = [path for path in (root / "state").iterdir() if path.name not in OF_A_STATE]
    beside = [path for path in root.iterdir() if path.name not in ("state", TOLD, rotated(Path(TOLD)).name)]
    return [str(path.relative_to(root)) for path in (*sounds, *state, *beside)]


if __name__ == "__main__":
    main(*sys.argv[1:])
