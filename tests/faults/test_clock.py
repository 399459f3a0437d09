"""A wall clock that jumps under a running daemon: after a power cut, at the hand of NTP or of somebody."""

from __future__ import annotations

import struct
from datetime import datetime
from pathlib import Path

import pytest

from edge_asd.store import FILE_NAME, EventStore
from faults.ledger import Ledger
from faults.preloaded import library
from faults.running import Post, running

HOUR, DAY, YEAR = 3600, 86400, 365 * 86400
JUMPS = (HOUR, -HOUR, DAY, -400 * DAY, 1000 * DAY, -20 * YEAR, 30 * YEAR, 0)  # seconds beside the true time


@pytest.mark.slow
def test_a_clock_that_jumps(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    """Durations and the order of events are what they are; none is dropped for its age; the page's health recovers."""
    offset = tmp_path / "offset"
    offset.write_bytes(bytes(8))
    wrong = {"LD_PRELOAD": str(library("clock", tmp_path)), "CLOCK_OFFSET": str(offset)}
    post = Post(tmp_path / "post", tiny_bundle, asked="episodes")
    with running(post.config, **wrong) as daemon:
        daemon.first_score()
        for number in ledger.times(len(JUMPS), 10 * len(JUMPS)):
            with ledger.trial("clock jumps") as trial:
                daemon.hear_more(2)
                before = post.changes()
                with offset.open("r+b") as file:
                    file.write(struct.pack("<q", JUMPS[number % len(JUMPS)]))
                trial.again = daemon.score_again()
                daemon.hear_more(2)
                trial.count(before, post.changes())
                told = daemon.scored[-1] - daemon.scored[0]
                heard = daemon.seconds[-1] - daemon.seconds[0]
                if abs(heard / 8 - told) > 10:
                    trial.wrong.append(f"{heard} s were heard in {told} s")
        daemon.end()
    with EventStore(post.state / FILE_NAME, read_only=True) as store:
        events = store.newest(10_000)[::-1]
    moments = [event.raised_monotonic for event in events]
    assert moments == sorted(moments)
    assert all(event.ended_s is None or 0 <= event.ended_s - event.began_s < 30 for event in events)
    years = {datetime.fromisoformat(event.raised_utc).year for event in events}
    assert max(years) - min(years) >= 49
    steps = {round(later - sooner, 3) for sooner, later in zip(daemon.seconds, daemon.seconds[1:], strict=False)}
    assert {step for step in steps if step < 5} == {0.256}
    assert not post.left()
