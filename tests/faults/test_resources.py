"""Too little memory, too little time: it is said, counted, and over when it is over."""

from __future__ import annotations

import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from common import ROOT, free_port
from edge_asd import commission_desk
from faults.groups import memory_group
from faults.ledger import Ledger
from faults.running import Daemon, Hook, Post, running

RATE = 16000


def of_the_unit() -> float:
    """MemoryMax, MB."""
    unit = (ROOT / "firmware_configs" / "systemd" / "edge-asd.service").read_text()
    [megabytes] = re.findall(r"^MemoryMax=(\d+)M$", unit, re.MULTILINE)
    return int(megabytes) * 1.048576


@pytest.mark.slow
def test_all_that_it_can_do_fits_the_units_limit(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    """A shadow, a page that is looked at, a commissioning, alerts with sounds: at once, in MemoryMax."""
    for number in ledger.times(1, 10):
        folder = tmp_path / str(number)
        folder.mkdir()
        with ledger.trial("memory limit") as trial, Hook() as hook, memory_group() as group:
            port = free_port()
            post = Post(
                folder,
                tiny_bundle,
                f'[page]\nlisten = "127.0.0.1:{port}"\n[sinks.webhook]\nurl = "{hook.url}"\n'
                "[clips]\nbefore_seconds = 20\nafter_seconds = 10\nkeep_mb = 20\n",
                speed=40,
                asked="strange",
                patient=True,
            )
            group.limit(of_the_unit())
            with running(post.config, "--shadow", str(tiny_bundle), group=group) as daemon:
                trial.again = daemon.first_score()
                commission_desk.ask(post.state, commission_desk.Request("1", 8.0, 1e6))
                for _ in range(10):
                    for path in ("/api/frames?since=0", "/api/events", "/metrics", "/api/scores?since=0"):
                        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                            answer.read()
                    time.sleep(1)
                before, request = post.changes(), post.state / commission_desk.REQUEST
                daemon.wait_for(lambda: not request.exists(), 120)  # noqa: B023 - waited for here
                post.microphone.ask("zeros")
                daemon.hear_more(2)
                trial.count(before, post.changes())
                daemon.end()
                if not 30 < group.most_mb < of_the_unit():
                    trial.wrong.append(f"{group.most_mb:.0f} MB at the most")
            trial.left = post.left("shadow.json", "site", "commissioned.json")


@pytest.mark.slow
def test_the_kernel_kills_it_for_want_of_memory(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    """In the middle of an alert, while it learns its site."""
    post = Post(tmp_path, tiny_bundle, asked="episodes", speed=20, patient=True)
    for _ in ledger.times(2, 20):
        with ledger.trial("out of memory") as trial, memory_group() as group:
            with running(post.config, group=group) as daemon:
                daemon.hear_more(3)
                post.microphone.ask("strange")
                before = post.changes()
                squeeze(daemon, post, group.limit)
            post.microphone.ask("episodes")
            commission_desk.withdraw(post.state)
            with running(post.config) as daemon:
                trial.again = daemon.first_score()
                trial.count(before, post.changes())
                daemon.end()
            trial.left = post.left()


def squeeze(daemon: Daemon, post: Post, limit: Callable[[float], None]) -> None:
    """Draw the limit down to what it holds; then somebody asks for something that needs more."""
    with suppress(OSError):  # version 1 refuses a limit below what can't be given back; version 2 kills
        for megabytes in range(100, 5, -1):
            limit(megabytes)
    commission_desk.ask(post.state, commission_desk.Request("1", 8.0, 1e6))
    assert daemon.process.wait(60) == -signal.SIGKILL, daemon.said


@contextmanager
def with_little_of_the_time(daemon: Daemon) -> Iterator[None]:
    """Others take the CPU: of every 40 ms it has 2."""
    over = threading.Event()

    def take_away() -> None:
        while not over.is_set():
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(0.038)
            daemon.process.send_signal(signal.SIGCONT)
            time.sleep(0.002)

    thread = threading.Thread(target=take_away, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_a_cpu_that_is_taken_away(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    """Sound comes so fast that it needs half of a core, and gets a twentieth: what is lost is counted, what is scored
    is the newest, and that nothing can be scored any more is an alert of its own, until it can.
    """
    for number in ledger.times(1, 20):
        post = Post(tmp_path / str(number), tiny_bundle, speed=60)
        with ledger.trial("CPU taken away") as trial, running(post.config) as daemon:
            daemon.first_score()
            before = post.changes()
            with with_little_of_the_time(daemon):
                daemon.wait_for(lambda: daemon.raised("gaps"), 240)
                behind = lag(post)
            ended = time.monotonic()
            daemon.wait_for(lambda: not daemon.lasts("gaps"))
            daemon.score_again()
            trial.again = next(moment for moment in daemon.scored if moment > ended) - ended
            time.sleep(1)
            status, (made, thrown) = post.status(), post.microphone.given
            trial.count(before, post.changes())
            daemon.end()
            assert status
            if behind > 30:
                trial.wrong.append(f"{behind:.0f} s behind, so not the newest is scored")
            if not thrown or status.lost_samples < thrown:
                trial.wrong.append(f"{thrown} samples were lost, and {status.lost_samples} were counted")
            if abs(status.heard_seconds - made / RATE) > 180:  # what passes while one looks
                trial.wrong.append(f"{made / RATE:.0f} s were there, and {status.heard_seconds:.0f} s were heard")
            trial.left = post.left()


def lag(post: Post) -> float:
    """How far behind the microphone it is, s of sound; it reports once a second, in which 60 pass."""
    best = 1e9
    for _ in range(100):
        time.sleep(0.05)
        status = post.status()
        assert status
        best = min(best, post.microphone.given[0] / RATE - status.heard_seconds)
    return best


@pytest.mark.slow
def test_stopped_and_going_on(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    post = Post(tmp_path, tiny_bundle)
    with running(post.config) as daemon:
        daemon.first_score()
        for _ in ledger.times(2, 30):
            with ledger.trial("stopped") as trial:
                daemon.score_again()
                before, thrown = post.changes(), post.microphone.given[1]
                daemon.process.send_signal(signal.SIGSTOP)
                time.sleep(3)
                daemon.process.send_signal(signal.SIGCONT)
                went_on = time.monotonic()
                daemon.wait_for(lambda: post.microphone.given[1] > thrown)  # noqa: B023 - waited for here
                daemon.wait_for(lambda: daemon.scored[-1] > went_on + 1.0)  # noqa: B023 - as above
                gap = next(later for later in daemon.scored if later > went_on + 0.5)
                trial.again = gap - went_on
                trial.count(before, post.changes())
                status = post.status()
                if not status or status.lost_samples < post.microphone.given[1]:
                    trial.wrong.append("lost samples weren't counted")
        daemon.end()
    assert not post.left()
