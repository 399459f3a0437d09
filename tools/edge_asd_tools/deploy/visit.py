"""A visit to a device: one connection, over which the device is asked for one thing after the other.

What answers there is `edge_asd.arrival`, whose text goes over first, for a device may be bare.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from typing import IO, Any

import msgspec

from edge_asd import arrival
from edge_asd.errors import (
    CheckFailed,
    DeploymentError,
    EdgeAsdError,
    StorageError,
    Unreachable,
)
from edge_asd_tools.deploy.ssh import Transport, no_ssh

PIECE = 1 << 16
LONGEST_LINE = 1 << 20
MOST_NOISE = 200  # lines that a login script may say before the first answer
STEP_SECONDS = 1800.0  # a deployment waits for its daemon for minutes; nothing takes half an hour

# Reads the modules of `arrival` from its input, and is them.
_BEGIN = (
    "import json,sys,types\n"
    "for name, text in json.loads(sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))):\n"
    "    module = sys.modules[name] = types.ModuleType(name)\n"
    "    module.__path__ = []\n"
    "    exec(compile(text, name, 'exec'), module.__dict__)\n"
    "module.main(sys.argv[1])\n"
)

Say = Callable[[str, str], None]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is, and what is on it: `arrival.desk` has the words."""

    host: str
    model: str
    machine: str
    python: str
    glibc: str
    systemd: bool
    free: int
    config: str | None
    signers: bool
    record: str | None
    current: str | None
    runtimes: list[str]
    releases: dict[str, str]


class Broken(Unreachable):
    """The connection ended in the middle: what arrived is kept there, and may be gone on with."""


class Visit:
    """A connection that is open."""

    def __init__(self, transport: Transport, process: subprocess.Popen[bytes]) -> None:
        self._transport = transport
        self._process = process
        self._errors: deque[bytes] = deque(maxlen=200)
        self._listener = threading.Thread(target=self._hear_errors, daemon=True)
        self._listener.start()
        self._answered = False

    def look(self) -> Facts:
        """What the device is. Raises: NotAdmitted, Unreachable, DeploymentError."""
        try:
            return msgspec.convert(self._ask({"do": "look"}), Facts)
        except msgspec.ValidationError as error:
            raise DeploymentError(f"{self._transport.name}: answers what can't be understood ({error}).") from error

    def expect(self, files: list[tuple[str, int, str]], room: int, *, dry: bool = False) -> dict[str, int]:
        """How many bytes of each file are there, as (SHA-256, size, kind). Raises: as `look`, StorageError."""
        found = self._ask({"do": "expect", "files": files, "room": room, "dry": dry})
        return {str(digest): int(size) for digest, size in found.items()}

    def take(self, file: tuple[str, int, str], begin: int, content: IO[bytes], sent: Callable[[int], None]) -> None:
        """Send a file from one byte on; `sent` is told how many more went. Raises: Broken, and as `expect`."""

        def body(to: IO[bytes]) -> None:
            content.seek(begin)
            while piece := content.read(PIECE):
                to.write(piece)
                sent(len(piece))

        self._ask({"do": "take", "file": file, "begin": begin}, body=body)

    def build(self, runtime: dict[str, object], say: Say) -> None:
        """Have a runtime laid. Raises: as `expect`."""
        self._ask({"do": "build", "runtime": runtime}, say)

    def run(self, step: str, say: Say, **arguments: object) -> None:
        """Have a step of `edge-asd release` done. Raises: as the step does, by its exit code."""
        self._ask({"do": "run", "step": step, **arguments}, say)

    def remove(self, *, data: bool) -> list[str]:
        """Have everything removed; what was. Raises: as `expect`."""
        return [str(one) for one in self._ask({"do": "remove", "data": data})]

    def _ask(
        self,
        request: dict[str, object],
        say: Say = lambda step, outcome: None,
        body: Callable[[IO[bytes]], None] | None = None,
    ) -> Any:
        assert self._process.stdin  # noqa: S101 - for the type checker: it was asked for
        late = threading.Timer(STEP_SECONDS, self._process.kill)
        late.start()
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            if body:
                body(self._process.stdin)
            self._process.stdin.flush()
            for answer in self._answers():
                if "say" in answer:
                    say(*answer["say"])
                elif "refused" in answer:
                    raise _refusal(self._transport.name, str(answer["refused"]), int(answer["code"]))
                else:
                    return answer["done"]
        except OSError:
            pass  # the other end is gone; why, it has said
        finally:
            late.cancel()
        raise self._lost()

    def _answers(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout  # noqa: S101 - as above
        noise = 0
        while line := self._process.stdout.readline(LONGEST_LINE):
            with suppress(ValueError):
                answer = json.loads(line)
                if isinstance(answer, dict) and answer.keys() & {"say", "done", "refused"}:
                    self._answered = True
                    yield answer
                    continue
            noise += 1
            if noise > MOST_NOISE:
                raise DeploymentError(
                    f"{self._transport.name}: says too much of its own, such as {line[:80]!r}; its login script must "
                    "be silent where there is no terminal."
                )

    def _lost(self) -> EdgeAsdError:
        """The connection ended before the answer: why."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait(timeout=10)
        self._listener.join(timeout=5)
        errors = b"".join(self._errors).decode(errors="replace")
        if not self._answered:
            return self._transport.explain(code, errors)
        last = (errors.strip().splitlines() or [f"it ended with {code}"])[-1].strip()
        return Broken(
            f"{self._transport.name}: the connection broke off ({last}). What the device had begun it finishes or "
            "takes back by itself; run the same command again."
        )

    def _hear_errors(self) -> None:
        assert self._process.stderr  # noqa: S101 - as above
        while line := self._process.stderr.readline(PIECE):
            self._errors.append(line)


@contextmanager
def visit(transport: Transport) -> Iterator[Visit]:
    """Connect to a device, and begin there. Raises: MissingRequirement where there is no ssh."""
    command = transport.command("python3", "-I", "-B", "-c", _BEGIN, transport.root)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours: we end it, and it doesn't tear the device's work apart
        )
    except OSError as error:
        raise no_ssh(error) from error
    assert process.stdin  # noqa: S101 - as above
    text = _sources()
    with suppress(OSError):  # gone already: the first question will say why
        process.stdin.write(b"%d\n%s" % (len(text), text))
        process.stdin.flush()
    try:
        yield Visit(transport, process)
    finally:
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def _sources() -> bytes:
    """The modules that the device is to be: their names and texts."""
    folder = resources.files(arrival)
    modules = [("edge_asd", ""), (arrival.__name__, "")]
    modules += [(f"{arrival.__name__}.{name}", (folder / f"{name}.py").read_text()) for name in arrival.SOURCES]
    return json.dumps(modules).encode()


def _refusal(name: str, why: str, code: int) -> EdgeAsdError:
    """What the device refused, as the error that it would be here."""
    kinds: dict[int, type[EdgeAsdError]] = {StorageError.exit_code: StorageError, CheckFailed.exit_code: CheckFailed}
    kinds |= {kind.exit_code: kind for kind in EdgeAsdError.__subclasses__() if kind.exit_code > CheckFailed.exit_code}
    return kinds.get(code, DeploymentError)(f"{name}: {why}")
