"""24 hours of sound through the whole wiring, as fast as it goes: every event is accounted for, and nothing grows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from soak.simulated import KEPT, SOUNDS, soak


@pytest.mark.slow
def test_a_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    day = soak(24, tmp_path / "state")
    capsys.readouterr()
    soaked, told = day.soaked, day.told
    assert not soaked.wrong
    assert (soaked.missed, soaked.lost, soaked.double) == (0, 0, 0)

    # Every event: raised and cleared once, in turn, with an end; what happened is what was to happen.
    raised = [event for transition, event in told if transition == "raised"]
    cleared = [event for transition, event in told if transition == "cleared"]
    assert Counter(event.fault or event.kind for event in raised) == day.expected
    assert sorted(event.id for event in raised) == sorted(event.id for event in cleared)
    assert len({event.id for event in raised}) == len(raised)
    assert all(event.ended_s is not None and event.ended_s > event.began_s for event in cleared)
    moments = [event.raised_monotonic for event in raised]
    assert moments == sorted(moments)

    # The newest are kept, the newest messages wait for sinks, and the one sink was told all, without a hole.
    assert [event.id for event in day.kept] == [event.id for event in raised[-KEPT.keep :]]
    assert [message.event.id for message in day.messages] == [event.id for _, event in told[-KEPT.waiting :]]
    assert day.messages[-1].sequence == len(told)
    assert list(day.lines) == list(range(1, len(told) + 1))

    # Nothing grows.
    files = {path.name: path.stat().st_size for path in day.state.rglob("*") if path.is_file()}
    assert files["events.sqlite"] + files.get("events.sqlite-wal", 0) < 3 << 20
    assert sum(path.stat().st_size for path in (day.state / "sounds").iterdir()) <= SOUNDS.keep_mb << 20
    assert len(list((day.state / "sounds").glob("*.flac"))) > 3
    settled, last = soaked.sizes[2], soaked.sizes[-1]
    assert last.resident_mb - settled.resident_mb < 4.0, soaked.sizes
    assert last.threads <= settled.threads, soaked.sizes
    # A sound that is being written has a file open, too.
    assert min(size.descriptors for size in soaked.sizes[-3:]) <= settled.descriptors, soaked.sizes
