"""A daemon whose disk and whose receivers fail under it: it goes on scoring, and all arrives, once and in order."""

from __future__ import annotations

import json
import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from brokers import Broker, Listener
from edge_asd.store import EventStore
from faults import running as daemons
from faults.running import Daemon, Post


@contextmanager
def running(post: Post) -> Iterator[Daemon]:
    """Once something has happened."""
    with daemons.running(post.config) as daemon:
        daemon.wait_for(lambda: daemon.changes)
        yield daemon


def logged(post: Post) -> list[tuple[str, str]]:
    """What is kept, but for what had no end when the daemon ended."""
    return [change for change in post.kept() if change[0] != "unfinished"]


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
    post = Post(tmp_path, tiny_bundle, asked="episodes")
    path = post.state / "events.sqlite"
    with running(post) as daemon:
        daemon.hear_more()
        for each in post.state.iterdir():  # the folder stays, so that a lock that is held is
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
        before = len(daemon.said)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, limits)
        daemon.wait_for(lambda: any("can be used again" in line for line in daemon.said[before:]), 90)
        daemon.hear_more()
        daemon.end()
    assert logged(post) == daemon.changes
    assert_it_never_stopped_scoring(daemon)
    said = "\n".join(daemon.said)
    for words in ("was deleted, and is written anew; nothing is lost", "events wait in memory: ", "can be used again"):
        assert words in said
    assert "listening without a status" in said
    assert len([line for line in daemon.said if "edge-asd: " in line]) < 30  # each is said once


@pytest.mark.slow
def test_a_database_that_is_damaged_when_it_starts(tmp_path: Path, tiny_bundle: Path) -> None:
    post = Post(tmp_path, tiny_bundle, asked="episodes")
    path = post.state / "events.sqlite"
    with running(post) as daemon:
        daemon.hear_more()
        daemon.kill()
    overwrite(path)
    garbage = path.read_bytes()
    with running(post) as daemon:
        daemon.hear_more()
        daemon.end()
    [aside] = [one for one in path.parent.glob("events.sqlite.damaged-*") if not one.name.endswith(("-wal", "-shm"))]
    assert aside.read_bytes() == garbage
    assert logged(post) == daemon.changes
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
    post = Post(
        tmp_path,
        tiny_bundle,
        f'[sinks.mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n[sinks.webhook]\nurl = "{address}"\ntimeout = 2\n'
        f'[sinks.json_lines]\npath = "{lines}"\n',
        asked="episodes",
    )
    serving = threading.Thread(target=hook.serve_forever, daemon=True)
    try:
        with broker, ExitStack() as stack:
            subscriber = stack.enter_context(Listener(broker.port, "edge-asd/pi/event"))
            broker.save()
            with running(post) as daemon:
                daemon.hear_more()
                broker.kill()
                daemon.hear_more()
                broker.start()
                serving.start()
                daemon.hear_more()
                # A fault and the alert that it ends are said at once: of such a pair one has to be kept.
                daemon.wait_for(lambda: len(logged(post)) >= len(daemon.changes) - 1)
                daemon.kill()  # no farewell
            first = daemon.changes
            with running(post) as daemon:
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
