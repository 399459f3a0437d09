"""A daemon whose disk and whose receivers fail under it: it goes on scoring, and all arrives, once and in order."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from brokers import Broker, Listener
from edge_asd.store import EventStore

# A machine that always sounds strange, for the threshold is nothing, heard eight times as fast as it sounds. Every 20 s
# its microphone gives zeros for 3 s, which ends the alert: four messages each time.
MICROPHONE = """
import sys, time, numpy
random, began, seconds = numpy.random.default_rng(0), time.monotonic(), 0.0
while True:
    samples = 0.05 * random.standard_normal(1600) * (seconds % 23 < 20)
    sys.stdout.buffer.write((samples * 32768).astype("<i2").tobytes())
    sys.stdout.flush()
    seconds += 0.1
    time.sleep(max(0.0, began + seconds / 8 - time.monotonic()))
"""


class Daemon:
    """A running daemon, and what it says line by line."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-m", "edge_asd", "run", "--config", str(config), "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.told: list[dict[str, Any]] = []
        self.said: list[str] = []
        self._readers = [threading.Thread(target=work, daemon=True) for work in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.told.append(json.loads(line))

    def _read_errors(self) -> None:
        for line in self.process.stderr or ():
            self.said.append(line.rstrip())

    @property
    def changes(self) -> list[tuple[str, str]]:
        """What was told of events: what became of which."""
        found = [line for line in list(self.told) if line["kind"] in ("raised", "cleared")]
        return [(line["kind"], line["event"]["id"]) for line in found]

    @property
    def seconds(self) -> list[float]:
        return [line["seconds"] for line in list(self.told) if line["kind"] == "score"]

    def wait_for(self, condition: Callable[[], object], patience: float = 60.0) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.02)

    def hear_more(self, changes: int = 4) -> None:
        """Let so many more things happen."""
        wanted = len(self.changes) + changes
        self.wait_for(lambda: len(self.changes) >= wanted)

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.said
        for reader in self._readers:
            reader.join(10)


@contextmanager
def running(config: Path) -> Iterator[Daemon]:
    daemon = Daemon(config)
    try:
        daemon.wait_for(lambda: daemon.changes)
        yield daemon
    finally:
        daemon.process.kill()
        daemon.process.wait()
        for stream in (daemon.process.stdout, daemon.process.stderr):
            if stream:
                with suppress(OSError):
                    stream.close()


def device_toml(folder: Path, bundle: Path, sinks: str = "") -> Path:
    path = folder / "device.toml"
    path.write_text(
        f'bundle = "{bundle}"\nsection = "00"\nstate = "state"\nname = "pi"\n'
        f"[capture]\ncommand = {json.dumps([sys.executable, '-c', MICROPHONE])}\n"
        "[alarm]\nthreshold = 1e-9\nminimum_seconds = 0\ncooldown_seconds = 0\n"
        f"[sensor]\nrate_share = 0\n[clips]\nbefore_seconds = 1\nafter_seconds = 1\nkeep_mb = 1\n{sinks}"
    )
    return path


def logged(path: Path) -> list[tuple[str, str]]:
    """The messages in the database; the last ones are of what had no end when the daemon ended."""
    with EventStore(path, read_only=True) as store:
        messages = store.after(0, 100_000)
    assert [message.sequence for message in messages] == list(range(1, len(messages) + 1))
    return [(message.transition, message.event.id) for message in messages if message.transition != "unfinished"]


def assert_it_never_stopped_scoring(daemon: Daemon) -> None:
    """Between two faults of the microphone scores follow each other without a hole."""
    steps = [round(later - sooner, 3) for sooner, later in zip(daemon.seconds, daemon.seconds[1:], strict=False)]
    assert {step for step in steps if step < 5} == {0.256}
    spells = sum(line["kind"] == "cleared" and line["event"]["kind"] == "sensor" for line in daemon.told)
    assert sum(step >= 5 for step in steps) <= spells + 1


def overwrite(path: Path) -> None:
    """Garbage in the database and in its log, as of a card that loses its mind."""
    for file, start in ((path, 0), (path.with_name(f"{path.name}-wal"), 32)):
        with file.open("r+b") as content:
            content.seek(start)
            content.write(b"\x5a" * max(0, file.stat().st_size - start))


@pytest.mark.slow
def test_whatever_becomes_of_its_disk(tmp_path: Path, tiny_bundle: Path) -> None:
    state = tmp_path / "state"
    path = state / "events.sqlite"
    with running(device_toml(tmp_path, tiny_bundle)) as daemon:
        daemon.hear_more()
        for each in state.iterdir():  # the folder stays, so that a lock that is held is
            if each.is_file() and each.name != "lock":
                each.unlink()
        daemon.hear_more()
        other = sqlite3.connect(path, isolation_level=None, timeout=30)
        other.execute("BEGIN EXCLUSIVE")
        daemon.hear_more()
        other.execute("ROLLBACK")
        other.close()
        daemon.hear_more(2)
        limits = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(
            daemon.process.pid, resource.RLIMIT_FSIZE, (0, limits[1])
        )  # no file may be written: a full disk
        daemon.hear_more(6)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, limits)
        daemon.wait_for(lambda: any("can be used again" in line for line in daemon.said[-3:]), 90)
        daemon.hear_more()
        daemon.end()
    assert logged(path) == daemon.changes
    assert_it_never_stopped_scoring(daemon)
    said = "\n".join(daemon.said)
    for words in ("was deleted, and is written anew; nothing is lost", "events wait in memory: ", "can be used again"):
        assert words in said
    assert "listening without a status" in said
    assert len([line for line in daemon.said if "edge-asd: " in line]) < 30  # each is said once


@pytest.mark.slow
def test_a_database_that_is_damaged_when_it_starts(tmp_path: Path, tiny_bundle: Path) -> None:
    config, path = device_toml(tmp_path, tiny_bundle), tmp_path / "state" / "events.sqlite"
    with running(config) as daemon:
        daemon.hear_more()
        daemon.process.kill()
    overwrite(path)
    garbage = path.read_bytes()
    with running(config) as daemon:
        daemon.hear_more()
        daemon.end()
    [aside] = [one for one in path.parent.glob("events.sqlite.damaged-*") if not one.name.endswith(("-wal", "-shm"))]
    assert aside.read_bytes() == garbage
    assert logged(path) == daemon.changes
    assert any("was damaged and is now events.sqlite.damaged-" in line for line in daemon.said)


class Hook(BaseHTTPRequestHandler):
    """Takes what is posted."""

    taken: list[dict[str, Any]] = []  # noqa: RUF012 - of the one test that uses it

    def do_POST(self) -> None:
        self.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.mark.slow
def test_whatever_becomes_of_its_receivers(tmp_path: Path, tiny_bundle: Path) -> None:
    """The broker is killed twice, the web address comes up late, and the daemon itself is killed in between."""
    broker = Broker(tmp_path, "autosave_interval 1", "autosave_on_changes true")
    hook = HTTPServer(("127.0.0.1", 0), Hook)
    address = f"http://127.0.0.1:{hook.server_address[1]}/"
    lines = tmp_path / "told.jsonl"
    config = device_toml(
        tmp_path,
        tiny_bundle,
        f'[sinks.mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n[sinks.webhook]\nurl = "{address}"\ntimeout = 2\n'
        f'[sinks.json_lines]\npath = "{lines}"\n',
    )
    serving = threading.Thread(target=hook.serve_forever, daemon=True)
    try:
        with broker, ExitStack() as stack:
            subscriber = stack.enter_context(Listener(broker.port, "edge-asd/pi/event"))
            broker.save()
            with running(config) as daemon:
                daemon.hear_more()
                broker.kill()
                daemon.hear_more()
                broker.start()
                serving.start()
                daemon.hear_more()
                daemon.process.kill()  # no farewell
            first = daemon.changes
            with running(config) as daemon:
                daemon.hear_more()
                broker.kill()
                daemon.hear_more(2)
                broker.start()
                assert subscriber.connected.wait(30)
                daemon.hear_more()
                wanted = len(daemon.changes)
                path = tmp_path / "state" / "events.sqlite"

                def arrived() -> bool:
                    with EventStore(path, read_only=True) as store:
                        last = store.last()
                        return all(store.waiting(sink) == 0 for sink in ("mqtt", "webhook", "json_lines")) and last > 0

                daemon.wait_for(lambda: len(daemon.changes) >= wanted and arrived(), 90)
                daemon.end()
            told = [json.loads(bytes(message.payload))["sequence"] for message in subscriber.heard]
            again = [message.dup for message in subscriber.heard]
    finally:
        hook.shutdown()
        hook.server_close()
    with EventStore(path, read_only=True) as store:
        messages = store.after(0, 1000)
    everything = [message.sequence for message in messages]
    assert everything == list(range(1, len(messages) + 1))
    in_log = [(message.transition, message.event.id) for message in messages if message.transition != "unfinished"]
    # What was said in the last moment before the kill may not have reached the disk.
    assert in_log == [*first, *daemon.changes] or in_log == [*first[:-1], *daemon.changes]
    assert [json.loads(line)["sequence"] for line in lines.read_text().splitlines()] == everything
    posted = [message["sequence"] for message in Hook.taken]
    assert list(dict.fromkeys(posted)) == everything[: len(set(posted))]
    assert len(set(posted)) >= len(everything) - 2  # the last ones are of the end itself
    assert sorted(set(told)) == everything[: len(set(told))]
    assert len(set(told)) >= len(everything) - 2
    repeated = len(told) - len(set(told))
    assert repeated <= sum(again) + 1  # by DUP, or one that the killed daemon hadn't noted as told
