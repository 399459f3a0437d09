"""Hours as they pass: the real daemon with all that it can do, a microphone and receivers that fail by turns."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle, pairwise
from pathlib import Path

from brokers import Broker, Listener
from common import free_port
from edge_asd import progress
from edge_asd.sinks.json_lines_file import rotated
from faults.running import Daemon, Hook, Post
from soak.figures import Soaked, size

STEP = 0.256  # s from one score to the next
BEGINS = 10.05 + 6.0  # s until a score that listening began anew before, and for a fault to be over
LOOK = 30.0  # s between two looks at how large it is
POLL = 2.0  # s between two looks at its page
QUIET, STRANGE = 150.0, 20.0  # s of a turn
PAGES = ("/api/status", "/api/frames?since=0", "/api/scores?since=0", "/api/minutes", "/api/events", "/metrics")

RATE = 16000


def soak(hours: float, bundle: Path, folder: Path) -> Soaked:
    """Listen for so many hours; what happens meanwhile is the same in all of them, turn by turn."""
    with ExitStack() as stack:
        hook = stack.enter_context(Hook())
        broker = stack.enter_context(Broker(folder)) if shutil.which("mosquitto") else None
        port = free_port()
        mqtt = f'[sinks.mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\nkeepalive = 5\n' if broker else ""
        post = Post(
            folder / "post",
            bundle,
            "[alarm]\ncooldown_seconds = 5\n[sensor]\nsilence_seconds = 5\n"
            "[events]\nkeep = 100\nkeep_mb = 1\nwaiting = 200\n"
            "[clips]\nkeep_mb = 3\nbefore_seconds = 5\nafter_seconds = 5\n"
            f'[page]\nlisten = "127.0.0.1:{port}"\n{mqtt}'
            f'[sinks.webhook]\nurl = "{hook.url}"\ntimeout = 2\n'
            '[sinks.json_lines]\npath = "state/told.jsonl"\nkeep_mb = 1\n',
            speed=1,
        )
        subscriber = stack.enter_context(Listener(broker.port, "edge-asd/pi/event")) if broker else None
        daemon = Daemon(post.config, "--shadow", str(bundle))
        stack.callback(lambda: daemon.process.poll() is None and daemon.kill())
        stack.enter_context(polling(port))
        daemon.first_score()
        turns = Turns(post, daemon, hook, broker)
        soaked = Soaked("In real time", hours)
        with looking(daemon, post, soaked):
            turns.run(hours * 3600)
        with suppress(AssertionError):
            daemon.wait_for(lambda: post.waiting("webhook", "json_lines") == 0, 60)
        status = post.status()
        daemon.end()
        assert status
        soaked.scores, soaked.lost_seconds = len(daemon.seconds), status.lost_samples / RATE
        soaked.missed = missed(daemon, turns.disturbed)
        soaked.disturbances = len(turns.disturbed) + turns.others
        told = {"webhook": hook.taken}
        if subscriber:
            told["mqtt"] = [json.loads(bytes(message.payload)) for message in subscriber.heard]
        path = post.state / "told.jsonl"
        lines = [line for file in (rotated(path), path) if file.exists() for line in file.read_text().splitlines()]
        told["json_lines"] = [json.loads(line) for line in lines]
        account(soaked, daemon, told)
        soaked.wrong += [f"left over: {name}" for name in post.left("told.jsonl", "told.jsonl.1", *OF_ALL_THAT_IT_DOES)]
        if soaked.growth("resident_mb") > 4:
            soaked.wrong.append("memory grows")
        if soaked.growth("descriptors") > 1:
            soaked.wrong.append("descriptors grow")
        soaked.wrong += [line for line in daemon.said if "Traceback" in line or "Error" in line]
    return soaked


OF_ALL_THAT_IT_DOES = ("shadow.json", "commissioned.json", "site.json", "site")


class Turns:
    """What is done to it, turn by turn; it begins quiet, and is strange once a turn."""

    def __init__(self, post: Post, daemon: Daemon, hook: Hook, broker: Broker | None) -> None:
        self._post, self._daemon, self._hook, self._broker = post, daemon, hook, broker
        self.disturbed: list[tuple[float, float]] = []  # of the monotonic clock: when it may not hear
        self.others = 0

    def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        faults: list[Callable[[], None]] = [
            lambda: self._hears("zeros", 15),
            self._without_receivers,
            lambda: self._hears("gone", 20),
            self._commissioning,
            lambda: self._hears("loud", 25),
            self._reload,
            lambda: self._hears("frozen", 15),
            self._stopped,
        ]
        for fault in cycle(faults):
            self._wait(min(QUIET, until - time.monotonic()))
            if time.monotonic() >= until:
                return
            self._post.microphone.ask("strange")
            self._wait(STRANGE)
            self._post.microphone.ask("quiet")
            self._wait(STRANGE)
            fault()

    def _wait(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))
        assert self._daemon.process.poll() is None, self._daemon.said[-5:]

    def _hears(self, word: str, seconds: float) -> None:
        began = time.monotonic()
        self._post.microphone.ask(word)
        self._wait(seconds)
        self._post.microphone.ask("quiet")
        self.disturbed.append((began, time.monotonic() + (seconds if word == "gone" else 1)))  # it is looked for
        progress.say(f"{word} for {seconds:g} s")

    def _stopped(self) -> None:
        began = time.monotonic()
        self._daemon.process.send_signal(signal.SIGSTOP)
        time.sleep(20)
        self._daemon.process.send_signal(signal.SIGCONT)
        self.disturbed.append((began, time.monotonic() + 2))
        progress.say("stopped for 20 s")

    def _without_receivers(self) -> None:
        self.others += 1
        if self._broker:
            self._broker.kill()
        self._hook.answer = 500
        self._wait(40)
        if self._broker:
            self._broker.start()
        self._hook.answer = 204
        progress.say("no broker, no webhook for 40 s")

    def _reload(self) -> None:
        self.others += 1
        self._daemon.process.send_signal(signal.SIGHUP)
        progress.say("reloaded")

    def _commissioning(self) -> None:
        """It is asked for as a user does, and is done while all else goes on."""
        self.others += 1
        command = [sys.executable, "-m", "edge_asd", "commission", "--config", str(self._post.config), "--minutes", "8"]
        subprocess.Popen([*command, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        progress.say("commissioning for 8 minutes")


@contextmanager
def looking(daemon: Daemon, post: Post, soaked: Soaked) -> Iterator[None]:
    """Note every half minute how large it is."""
    over, began = threading.Event(), time.monotonic()

    def look() -> None:
        while not over.wait(LOOK):
            with suppress(OSError, IndexError):
                soaked.sizes.append(size(daemon.process.pid, post.state, time.monotonic() - began))

    yield from _beside(look, over)


@contextmanager
def polling(port: int) -> Iterator[None]:
    """Somebody has the page open, and Prometheus asks."""
    over = threading.Event()

    def poll() -> None:
        for path in cycle(PAGES):
            if over.wait(POLL):
                return
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                answer.read()

    yield from _beside(poll, over)


def _beside(work: Callable[[], None], over: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)


def missed(daemon: Daemon, disturbed: list[tuple[float, float]]) -> int:
    """Windows between two scores that no disturbance explains."""
    found = 0
    moments = zip(pairwise(daemon.seconds), pairwise(daemon.scored), strict=True)
    for (sooner, later), (before, after) in moments:
        hole = later - sooner - STEP
        if hole < STEP / 2:
            continue
        excused = sum(ended - began + BEGINS for began, ended in disturbed if began < after and ended > before - BEGINS)
        found += (without := max(0, round((hole - excused) / STEP)))
        if without:
            progress.say(f"{hole:.1f} s without a score before {later:.1f} s, of which {excused:.1f} s are excused")
    return found


def account(soaked: Soaked, daemon: Daemon, told: dict[str, list[dict[str, object]]]) -> None:
    """Hold what every sink was told against what the daemon said."""
    said = daemon.changes
    soaked.events = len({identity for _, identity in said})
    soaked.double = len(said) - len(set(said))
    for sink, messages in told.items():
        by_number = {message["sequence"]: message for message in messages}
        heard = [(message["transition"], message["event"]["id"]) for _, message in sorted(by_number.items())]  # type: ignore[index]
        heard = [change for change in heard if change[0] != "unfinished"]
        soaked.told[sink] = len(by_number)
        soaked.lost += len(set(said) - set(heard))
        soaked.double += len(heard) - len(set(heard))
        if heard != said[: len(heard)]:
            soaked.wrong.append(f"{sink} was told in another order than it happened")
