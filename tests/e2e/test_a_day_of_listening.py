"""24 hours of sound through the whole wiring, as fast as it goes: every event is accounted for, and nothing grows."""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from edge_asd import status
from edge_asd.capture import Block
from edge_asd.duty import Duty, Ears
from edge_asd.events import Event, Transition
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.keeper import Keeper
from edge_asd.kept_sounds import SoundKeeper
from edge_asd.settings import ClipSettings, EventSettings, JsonLinesSettings
from edge_asd.sinks.courier import Courier
from edge_asd.sinks.json_lines_file import JsonLinesFile, rotated
from edge_asd.windows import Windows
from listening_post import RATE, StreamClock, absent, noise, post, tone

HOURS = 24
MEMORY = Path("/dev/shm")  # noqa: S108 - systemd gives the daemon a folder in memory for its status
BLOCK = 8192  # samples
KEPT = EventSettings(keep=100, keep_mb=1, waiting=200)
SOUNDS = ClipSettings(keep_mb=3, before_seconds=5.0, after_seconds=2.0)
SPARSE = Windows(hop=64)  # a score in two seconds in place of eight: a day passes in a minute


def pieces(sound: Samples) -> Iterator[Block]:
    for start in range(0, len(sound), BLOCK):
        yield Block(sound[start : start + BLOCK])


class Day:
    """What happens in ten minutes, drawn once for all: an episode, and now and then a fault of the microphone."""

    def __init__(self) -> None:
        self._random = random.Random(0)
        self._quiet, self._strange, self._silence = noise(60), tone(20), noise(25, 1e-6)
        self.expected: Counter[str] = Counter()
        self.lost = 0

    def ten_minutes(self) -> Iterator[Block]:
        yield from pieces(self._strange)
        self.expected["anomaly"] += 1
        for _ in range(4):
            yield from pieces(self._quiet)
        what = self._random.choice(["nothing", "nothing", "silent", "absent", "gap"])
        if what == "silent":
            yield from pieces(self._silence)
        elif what == "absent":
            yield from absent(30)
            self.lost += 30 * RATE
            yield Block(self._quiet[:BLOCK], lost=30 * RATE)
        elif what == "gap":
            self.lost += 12345
            yield Block(self._quiet[:BLOCK], lost=12345)
        if what in ("silent", "absent"):
            self.expected[what] += 1
        for _ in range(5):
            yield from pieces(self._quiet)


def resident_mb() -> float:
    return status.resident_mb()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    state, clock, day = tmp_path / "state", StreamClock(), Day()
    told: list[tuple[Transition, Event]] = []
    sizes: list[tuple[float, int, int]] = []  # memory, threads, open files
    detector = replace(post().detector, windows=SPARSE)
    with ExitStack() as stack:
        memory = stack.enter_context(TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None))
        monkeypatch.setenv("RUNTIME_DIRECTORY", memory)  # as systemd gives it
        stack.enter_context(status.alone(state))
        log = stack.enter_context(Keeper(state / "events.sqlite", KEPT))
        sounds = stack.enter_context(SoundKeeper(state / "sounds", SOUNDS, FrontEnd()))
        courier = Courier(JsonLinesFile(JsonLinesSettings(path=state / "told.jsonl", keep_mb=1)), log)
        stack.callback(courier.close)
        duty = Duty(
            post(detector=detector),
            log,
            state,
            clock=clock,
            sounds=sounds,
            ears=Ears(change=lambda transition, event: told.append((transition, event))),
            sinks=lambda: [courier.status],
            paced=False,
        )
        for _ in range(HOURS):
            for _ in range(6):
                for block in day.ten_minutes():
                    clock.seconds += (0.5 if block.absent else 0.0) + len(block.samples) / RATE
                    duty.take(block)
            sizes.append((resident_mb(), threading.active_count(), len(os.listdir("/proc/self/fd"))))
            while log.unwritten:  # an hour takes seconds here, and a disk takes its time
                log.wait_for_message(log.after(0, 1)[-1].sequence + 10**9, 0.05)
        duty.end()
        while courier.status.waiting:
            log.wait_for_message(10**9, 0.05)
        kept = log.newest(1000)
        messages = log.after(0, 1000)
    capsys.readouterr()

    # Every event: raised and cleared once, in turn, with an end; what happened is what was to happen.
    raised = [event for transition, event in told if transition == "raised"]
    cleared = [event for transition, event in told if transition == "cleared"]
    assert Counter(event.fault or event.kind for event in raised) == day.expected
    assert sorted(event.id for event in raised) == sorted(event.id for event in cleared)
    assert len({event.id for event in raised}) == len(raised)
    assert all(event.ended_s is not None and event.ended_s > event.began_s for event in cleared)
    moments = [event.raised_monotonic for event in raised]
    assert moments == sorted(moments)
    assert duty.summary(stopped=False).lost_samples == day.lost

    # The newest are kept, the newest messages wait for sinks, and the one sink was told all, without a hole.
    assert {event.id for event in kept} == {event.id for event in raised[-KEPT.keep :]}
    assert [message.event.id for message in messages] == [event.id for _, event in told[-KEPT.waiting :]]
    assert messages[-1].sequence == len(told)
    lines = [
        json.loads(line)
        for path in (rotated(state / "told.jsonl"), state / "told.jsonl")
        if path.exists()
        for line in path.read_text().splitlines()
    ]
    assert [line["sequence"] for line in lines] == list(range(1, len(told) + 1))

    # Nothing grows.
    folder = {path.name: path.stat().st_size for path in state.rglob("*") if path.is_file()}
    assert folder["events.sqlite"] + folder.get("events.sqlite-wal", 0) < 3 << 20
    assert sum(path.stat().st_size for path in (state / "sounds").iterdir()) <= SOUNDS.keep_mb << 20
    assert len(list((state / "sounds").glob("*.flac"))) > 3
    settled, last = sizes[2], sizes[-1]
    assert last[0] - settled[0] < 4.0, sizes
    assert last[1:] == settled[1:]
    assert np.isfinite(last[0])
