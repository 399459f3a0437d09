"""A daemon of its own process, and what it hears, says and keeps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from edge_asd import status
from edge_asd.errors import StorageError
from edge_asd.status import Status
from edge_asd.store import FILE_NAME, EventStore
from faults.groups import MemoryGroup

# What may lie in a state folder once a daemon has ended, below its sounds and beside them.
OF_A_STATE = {"events.sqlite", "events.sqlite-wal", "events.sqlite-shm", "status.json", "lock", "sounds"}


class Microphone:
    """What it hears; see `microphone`."""

    def __init__(
        self, folder: Path, speed: float = 8, rate: int = 16000, asked: str = "quiet", buffer: float = 2.0
    ) -> None:
        self._folder = folder
        self.command = [
            *(sys.executable, str(Path(__file__).with_name("microphone.py"))),
            *(str(folder), f"{speed:g}", str(rate), f"{buffer:g}"),
        ]
        self.ask(asked)

    def ask(self, word: str) -> None:
        beside = self._folder / "asked.new"
        beside.write_text(word)
        beside.replace(self._folder / "asked")

    @property
    def given(self) -> tuple[int, int]:
        """Samples that it made and that it threw away since its program began, at its last full second."""
        made, thrown = (self._folder / "given").read_text().split()
        return int(made), int(thrown)


class Post:
    """A folder with a device's configuration, its state and its microphone."""

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        more: str = "",
        *,
        speed: float = 8,
        asked: str = "quiet",
        patient: bool = False,
    ) -> None:
        """Write the configuration.

        Args:
            folder: of all this.
            bundle: that listens.
            more: tables of the configuration; an [alarm] among them where the one below isn't wanted.
            speed: of the sound.
            asked: what the microphone hears at first.
            patient: its buffer is so long that a busy machine loses nothing, however fast the sound is.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.state = folder, folder / "state"
        self.microphone = Microphone(folder, speed, asked=asked, buffer=5.0 * speed if patient else 2.0)
        self.config = folder / "device.toml"
        alarm = "" if "[alarm]" in more else "[alarm]\nthreshold = 1e-9\nminimum_seconds = 0\ncooldown_seconds = 0\n"
        sensor = "" if "[sensor]" in more else "[sensor]\nrate_share = 0\n"
        clips = "" if "[clips]" in more else "[clips]\nbefore_seconds = 1\nafter_seconds = 1\nkeep_mb = 1\n"
        self.config.write_text(
            f'bundle = "{bundle}"\nsection = "00"\nstate = "state"\nname = "pi"\n'
            f"[capture]\ncommand = {json.dumps(self.microphone.command)}\n{alarm}{sensor}{clips}{more}"
        )

    def kept(self) -> list[tuple[str, str]]:
        """The messages in the database, what became of which event; their numbers count up without a hole."""
        with EventStore(self.state / FILE_NAME, read_only=True) as store:
            messages = store.after(0, 1_000_000)
        numbers = [message.sequence for message in messages]
        assert not numbers or numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        return [(message.transition, message.event.id) for message in messages]

    def changes(self) -> list[str]:
        """The same as one word each; nothing where there is no database yet."""
        try:
            return [f"{kind} {identity}" for kind, identity in self.kept()]
        except StorageError:
            return []

    def waiting(self, *sinks: str) -> int:
        """Messages that these sinks have yet to be told."""
        with EventStore(self.state / FILE_NAME, read_only=True) as store:
            return sum(store.waiting(sink) for sink in sinks)

    def left(self, *known: str) -> list[str]:
        """What lies in the state folder and is nobody's."""
        found = [path.name for path in self.state.iterdir() if path.name not in {*OF_A_STATE, *known}]
        sounds = self.state / "sounds"
        if sounds.is_dir():
            found += [path.name for path in sounds.iterdir() if path.suffix not in (".flac", ".png")]
        return found

    def status(self) -> Status | None:
        return status.read(self.state)


class Daemon:
    """A running daemon, and what it says line by line."""

    def __init__(self, config: Path, *flags: str, group: MemoryGroup | None = None, **environment: str) -> None:
        """Start it, in a control group from its first page on, with more in its environment."""
        command = [sys.executable, "-m", "edge_asd", "run", "--config", str(config), "--json", *flags]
        if group:
            command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group.processes), *command]
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        self.told: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.scored: list[float] = []  # when a score was told, of the monotonic clock
        self._readers = [threading.Thread(target=work, daemon=True) for work in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            with suppress(ValueError):  # half a line, of one that was killed
                self.told.append(json.loads(line))
                if self.told[-1]["kind"] == "score":
                    self.scored.append(time.monotonic())

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

    @property
    def troubles(self) -> list[str]:
        """What it complained of."""
        return [line for line in list(self.said) if "edge-asd: " in line]

    def raised(self, fault: str = "") -> list[dict[str, Any]]:
        """The events that were raised: of the machine, or of a fault of the microphone."""
        found = [line["event"] for line in list(self.told) if line["kind"] == "raised"]
        return [event for event in found if event.get("fault", "") == fault]

    def lasts(self, fault: str = "") -> bool:
        """Whether there is an alert of the machine, or of a fault of the microphone, that has no end yet."""
        of_it = {event["id"] for event in self.raised(fault)}
        return sum(1 if kind == "raised" else -1 for kind, identity in self.changes if identity in of_it) > 0

    def wait_for(self, condition: Callable[[], object], patience: float = 60.0) -> None:
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.01)

    def hear_more(self, changes: int = 4) -> None:
        """Let so many more things happen."""
        wanted = len(self.changes) + changes
        self.wait_for(lambda: len(self.changes) >= wanted)

    def score_again(self, patience: float = 60.0) -> float:
        """Wait for a score that isn't there yet; how long that took."""
        before, began = len(self.scored), time.monotonic()
        self.wait_for(lambda: len(self.scored) > before, patience)
        return self.scored[before] - began

    def first_score(self, patience: float = 60.0) -> float:
        """Wait for the first score; how long after the start it came."""
        self.wait_for(lambda: self.scored, patience)
        return self.scored[0] - self.began

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close()

    def end(self, patience: float = 60.0) -> None:
        """End it as systemd does, and see that it ends well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(patience) == 0, self.said
        self._close()

    def _close(self) -> None:
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                with suppress(OSError):
                    stream.close()


@contextmanager
def running(config: Path, *flags: str, group: MemoryGroup | None = None, **environment: str) -> Iterator[Daemon]:
    daemon = Daemon(config, *flags, group=group, **environment)
    try:
        yield daemon
    finally:
        daemon.kill()


class Hook:
    """A web address of the test's own, to which messages are posted; it keeps what it acknowledged."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.answer = 204
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
                answer = hook.answer
                if answer == 0:  # hangs up without a word
                    self.close_connection = True
                    return
                if answer < 0:  # hangs for so long
                    time.sleep(-answer)
                    self.close_connection = True
                    return
                if answer < 300:
                    hook.taken.append(message)  # before it is acknowledged: it may be told twice, not never
                self.send_response(answer)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Hook:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def events(self) -> list[tuple[str, str]]:
        """What it was told became of which event, each message once, by its number."""
        told = {message["sequence"]: (message["transition"], message["event"]["id"]) for message in list(self.taken)}
        return [told[number] for number in sorted(told)]
