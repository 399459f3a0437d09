"""Hours as fast as they go: all that becomes of a score, in this process, by a clock that the sound drives.

What hears is a model of loudness, which makes a day pass in a minute; the rest is the daemon's own.
"""

from __future__ import annotations

import json
import random
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edge_asd import status
from edge_asd.capture import Block
from edge_asd.duty import Duty, Ears
from edge_asd.events import Event, Message, Transition
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.keeper import Keeper
from edge_asd.kept_sounds import SoundKeeper
from edge_asd.settings import ClipSettings, EventSettings, JsonLinesSettings
from edge_asd.sinks.courier import Courier
from edge_asd.sinks.json_lines_file import JsonLinesFile, rotated
from edge_asd.windows import Windows
from listening_post import FIRST_SCORE, RATE, StreamClock, absent, noise, post, tone
from soak.figures import Soaked, size

MEMORY = Path("/dev/shm")  # noqa: S108 - systemd gives the daemon a folder in memory for its status
BLOCK = 8192  # samples
KEPT = EventSettings(keep=100, keep_mb=1, waiting=200)
SOUNDS = ClipSettings(keep_mb=3, before_seconds=5.0, after_seconds=2.0)
SPARSE = Windows(hop=64)  # a score in two seconds in place of eight
STEP = SPARSE.hop * 512 / RATE
AWAY, SKIPPED = 30, 12345  # s without a microphone, samples of a gap


def pieces(sound: Samples) -> Iterator[Block]:
    for start in range(0, len(sound), BLOCK):
        yield Block(sound[start : start + BLOCK])


class Day:
    """What happens in ten minutes, drawn once for all: an episode, and now and then a fault of the microphone."""

    def __init__(self, clock: StreamClock) -> None:
        self._clock = clock
        self._random = random.Random(0)
        self._quiet, self._strange, self._silence = noise(60), tone(20), noise(25, 1e-6)
        self.expected: Counter[str] = Counter()
        self.disturbed: list[float] = []  # when, s
        self.lost = 0

    def ten_minutes(self) -> Iterator[Block]:
        yield from pieces(self._strange)
        self.expected["anomaly"] += 1
        for _ in range(4):
            yield from pieces(self._quiet)
        what = self._random.choice(["nothing", "nothing", "silent", "absent", "gap"])
        if what != "nothing":
            self.disturbed.append(self._clock.seconds)
        if what == "silent":
            yield from pieces(self._silence)
        elif what == "absent":
            yield from absent(AWAY)
            self.lost += AWAY * RATE
            yield Block(self._quiet[:BLOCK], lost=AWAY * RATE)
        elif what == "gap":
            self.lost += SKIPPED
            self._clock.seconds += SKIPPED / RATE
            yield Block(self._quiet[:BLOCK], lost=SKIPPED)
        if what in ("silent", "absent"):
            self.expected[what] += 1
        for _ in range(5):
            yield from pieces(self._quiet)


@dataclass(frozen=True)
class Listened:
    """What happened, what was to happen, and what is left of it.

    Attributes:
        soaked: the figures.
        told: every change of an event, as it was said.
        expected: how many events of each kind there were to be.
        kept, messages: in the database, the oldest first.
        lines: of the file that is told, by number.
        state: the folder.
    """

    soaked: Soaked
    told: Sequence[tuple[Transition, Event]]
    expected: Counter[str]
    kept: Sequence[Event]
    messages: Sequence[Message]
    lines: Sequence[int]
    state: Path


def soak(hours: int, state: Path) -> Listened:
    """Listen for so many hours of sound."""
    day = Day(clock := StreamClock())
    soaked, told, scored = Soaked("In simulated time", hours), [], array("d")
    with ExitStack() as stack:
        memory = stack.enter_context(TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None))
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("RUNTIME_DIRECTORY", memory)  # as systemd gives it
        stack.enter_context(status.alone(state))
        log = stack.enter_context(Keeper(state / "events.sqlite", KEPT))
        sounds = stack.enter_context(SoundKeeper(state / "sounds", SOUNDS, FrontEnd()))
        courier = Courier(JsonLinesFile(JsonLinesSettings(path=state / "told.jsonl", keep_mb=max(1, hours // 24))), log)
        stack.callback(courier.close)
        duty = Duty(
            post(detector=replace(post().detector, windows=SPARSE)),
            log,
            state,
            clock=clock,
            sounds=sounds,
            ears=Ears(
                score=lambda score: scored.append(score.seconds),
                change=lambda transition, event: told.append((transition, event)),
            ),
            sinks=lambda: [courier.status],
            paced=False,
        )
        for _ in range(hours):
            for _ in range(6):
                for block in day.ten_minutes():
                    clock.seconds += (0.5 if block.absent else 0.0) + len(block.samples) / RATE
                    duty.take(block)
            while log.unwritten:  # an hour takes seconds here, and a disk takes its time
                log.wait_for_message(log.after(0, 1)[-1].sequence + 10**9, 0.05)
            soaked.sizes.append(size("self", state, clock.seconds))
        duty.end()
        while courier.status.waiting:
            log.wait_for_message(10**9, 0.05)
        kept, messages = log.newest(1000)[::-1], log.after(0, 1000)
    lines = [
        json.loads(line)["sequence"]
        for path in (rotated(state / "told.jsonl"), state / "told.jsonl")
        if path.exists()
        for line in path.read_text().splitlines()
    ]
    summary = duty.summary(stopped=False)
    soaked.scores, soaked.missed = summary.scores, missed(scored, day.disturbed)
    soaked.lost_seconds, soaked.disturbances = summary.lost_samples / RATE, len(day.disturbed)
    if summary.lost_samples != day.lost:
        soaked.wrong.append(f"{day.lost} samples were lost, {summary.lost_samples} were counted")
    soaked.events, soaked.told = len({event.id for _, event in told}), {"json_lines": len(lines)}
    soaked.lost, soaked.double = len(told) - len(set(lines)), len(lines) - len(set(lines))
    return Listened(soaked, told, day.expected, kept, messages, lines, state)


def missed(scored: Sequence[float], disturbed: Sequence[float]) -> int:
    """Windows that weren't scored, beyond the listening that begins anew after each disturbance."""
    found = 0
    for sooner, later in pairwise(scored):
        hole = later - sooner - STEP
        excused = any(moment - 2 * STEP < sooner < moment + AWAY for moment in disturbed)
        found += int(max(0.0, hole - (AWAY + FIRST_SCORE + STEP if excused else 0.0)) / STEP + 0.01)
    return found
