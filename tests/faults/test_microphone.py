"""A microphone that breaks and mends: it is said once, nothing is scored that wasn't heard, and scores come again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from faults.ledger import Ledger, full
from faults.running import Daemon, Post, running

SPEED = 8
ABSENT = 3.0  # s without a sample, until that is a fault


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "word", "said"),
    [
        ("unplugged", "gone", "absent"),
        ("frozen", "frozen", "absent"),
        ("zeros", "zeros", "stuck"),
        ("noise only", "loud", "clipping"),
    ],
)
def test_a_microphone_that_breaks(
    fault: str, word: str, said: str, tmp_path: Path, tiny_bundle: Path, ledger: Ledger
) -> None:
    """In the middle of an alert, which ends; another one is raised once it hears again."""
    post = Post(tmp_path, tiny_bundle, f"[sensor]\nrate_share = 0\nabsent_seconds = {ABSENT}\n", speed=SPEED)
    with running(post.config) as daemon:
        daemon.first_score()
        for _ in ledger.times(2, 8 if fault == "unplugged" else 25):  # each time it is looked for more seldom
            with ledger.trial(fault) as trial:
                daemon.wait_for(daemon.lasts)
                daemon.score_again()  # the first score raised it: one more, for the pace they come at
                before, raised = settled(post, daemon), len(daemon.raised(said))
                post.microphone.ask(word)
                daemon.wait_for(lambda: len(daemon.raised(said)) > raised)  # noqa: B023 - waited for here
                daemon.wait_for(lambda: not daemon.lasts())
                post.microphone.ask("quiet")
                ended = time.monotonic()
                daemon.wait_for(daemon.lasts, 150)
                trial.again = next(moment for moment in daemon.scored if moment > ended) - ended
                trial.count(before, settled(post, daemon))
                of_it = [change for change in daemon.changes if change[1] == daemon.raised(said)[-1]["id"]]
                if [kind for kind, _ in of_it] != ["raised", "cleared"]:
                    trial.wrong.append(f"{said} was told as {of_it}")
                if len(daemon.raised(said)) != raised + 1:
                    trial.wrong.append("told more than once")
        daemon.end()
    assert post.kept()[:-1] == daemon.changes  # the last one is of an alert that had no end yet
    assert not post.left()
    holes = [round(later - sooner, 3) for sooner, later in zip(daemon.seconds, daemon.seconds[1:], strict=False)]
    assert {hole for hole in holes if hole < 5} == {0.256}


@pytest.mark.slow
@pytest.mark.skipif(not full(), reason="takes minutes, for a rate is measured over minutes: make test-faults")
def test_a_microphone_whose_rate_is_another(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    post = Post(tmp_path, tiny_bundle, "[sensor]\nrate_share = 0.02\n", speed=1)
    with running(post.config) as daemon:
        daemon.first_score()
        for _ in ledger.times(0, 2):
            with ledger.trial("switched rate") as trial:
                daemon.wait_for(daemon.lasts, 200)
                before, raised = settled(post, daemon), len(daemon.raised("rate"))
                post.microphone.ask("twice")
                daemon.wait_for(lambda: len(daemon.raised("rate")) > raised, 200)  # noqa: B023 - as above
                post.microphone.ask("quiet")
                ended = time.monotonic()
                daemon.wait_for(daemon.lasts, 300)
                trial.again = time.monotonic() - ended
                trial.count(before, settled(post, daemon))
        daemon.end()
    assert not post.left()


def settled(post: Post, daemon: Daemon) -> list[str]:
    """What is in the database once all that was said is: an event's every change by itself."""
    said = len(daemon.changes)
    daemon.wait_for(lambda: len(post.kept()) >= said)
    return post.changes()
