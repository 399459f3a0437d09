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
from typing import IO, Annotated, Any

import msgspec
from msgspec import Meta

from edge_asd import arrival
from edge_asd.arrival.places import LARGEST_TEXT
from edge_asd.errors import DeploymentError, EdgeAsdError, StorageError, Unreachable
from edge_asd.plain import plain
from edge_asd_tools.deploy.ssh import Transport, no_ssh

PIECE = 1 << 16
LONGEST_LINE = 1 << 20
MOST_NOISE = 200  # lines that a login script may say before the first answer
ANSWER_SECONDS = 120.0  # for a question; a step waits for its daemon for minutes, and nothing takes half an hour
STEP_SECONDS = 1800.0
SLOWEST = 2000  # bytes a second, below which an upload is given up

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


Called = Annotated[str, Meta(max_length=256)]
Word = Annotated[str, Meta(pattern=r"^[0-9A-Za-z_.-]{1,64}\Z")]
Version = Annotated[str, Meta(pattern=r"^([0-9]{1,4}(\.[0-9]{1,4}){0,3})?\Z")]  # "" where it isn't known
File = Annotated[str, Meta(max_length=LARGEST_TEXT)]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is, and what is on it: `arrival.desk` has the words."""

    host: Called
    model: Called
    machine: Word
    python: Version
    glibc: Version
    systemd: bool
    busy: bool
    serves: bool
    config: File | None
    signers: bool
    record: File | None
    current: Word | None
    runtimes: Annotated[list[Word], Meta(max_length=1000)]


class _Answer(msgspec.Struct):
    """One of three: what is said meanwhile; what was done; why it was refused, with its exit code."""

    say: tuple[str, str] | None = None
    refused: str | None = None
    code: int = DeploymentError.exit_code
    done: Any = msgspec.UNSET

    @property
    def is_one(self) -> bool:
        """Whether it is any of them."""
        return self.say is not None or self.refused is not None or self.done is not msgspec.UNSET


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
        facts: Facts = self._understood(self._ask({"do": "look"}), Facts)
        return msgspec.structs.replace(facts, host=plain(facts.host), model=plain(facts.model))

    def expect(self, files: list[tuple[str, int, str]], room: int, *, dry: bool = False) -> dict[str, int]:
        """How many bytes of each file are there, as (SHA-256, size, kind). Raises: as `look`, StorageError."""
        answer = self._ask({"do": "expect", "files": files, "room": room, "dry": dry}, seconds=STEP_SECONDS)
        found: dict[str, int] = self._understood(answer, dict[str, int])
        return {digest: min(max(0, found.get(digest, 0)), size) for digest, size, _ in files}

    def take(self, file: tuple[str, int, str], begin: int, content: IO[bytes], sent: Callable[[int], None]) -> None:
        """Send a file from one byte on; `sent` is told how many more went. Raises: Broken, and as `expect`."""

        def body(to: IO[bytes]) -> None:
            content.seek(begin)
            left = file[1] - begin
            while left:
                if not (piece := content.read(min(PIECE, left))):
                    self._process.kill()  # what would follow would be taken for its rest
                    raise StorageError(f"{file[0]}: became shorter while it was sent; run the same command again.")
                to.write(piece)
                left -= len(piece)
                sent(len(piece))

        seconds = ANSWER_SECONDS + (file[1] - begin) / SLOWEST
        self._ask({"do": "take", "file": file, "begin": begin}, body=body, seconds=seconds)

    def build(self, runtime: dict[str, object], say: Say) -> None:
        """Have a runtime laid. Raises: as `expect`."""
        self._ask({"do": "build", "runtime": runtime}, say, seconds=STEP_SECONDS)

    def run(self, step: str, say: Say, **arguments: object) -> None:
        """Have a step of `edge-asd release` done. Raises: as the step does, by its exit code."""
        self._ask({"do": "run", "step": step, **arguments}, say, seconds=STEP_SECONDS)

    def remove(self, *, data: bool) -> list[str]:
        """Have everything removed; what was. Raises: as `expect`."""
        found = self._understood(self._ask({"do": "remove", "data": data}, seconds=STEP_SECONDS), list[str])
        return [plain(one) for one in found]

    def _understood(self, answer: Any, kind: Any) -> Any:
        try:
            return msgspec.convert(answer, kind)
        except msgspec.ValidationError as error:
            raise DeploymentError(f"{self._transport.name}: answers what can't be understood ({error}).") from error

    def _ask(
        self,
        request: dict[str, object],
        say: Say = lambda step, outcome: None,
        body: Callable[[IO[bytes]], None] | None = None,
        *,
        seconds: float | None = None,
    ) -> Any:
        assert self._process.stdin  # noqa: S101 - for the type checker: it was asked for
        late = threading.Timer(seconds or ANSWER_SECONDS, self._process.kill)
        late.start()
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            if body:
                body(self._process.stdin)
            self._process.stdin.flush()
            for answer in self._answers():
                if answer.say is not None:
                    say(*map(plain, answer.say))
                elif answer.refused is not None:
                    raise _refusal(self._transport.name, plain(answer.refused), answer.code)
                else:
                    return answer.done
        except OSError:
            pass  # the other end is gone; why, it has said
        finally:
            late.cancel()
        raise self._lost()

    def _answers(self) -> Iterator[_Answer]:
        assert self._process.stdout  # noqa: S101 - as above
        noise = 0
        while line := self._process.stdout.readline(LONGEST_LINE):
            with suppress(ValueError, RecursionError):
                answer = msgspec.json.decode(line, type=_Answer)
                if answer.is_one:
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
        last = plain((errors.strip().splitlines() or [f"it ended with {code}"])[-1].strip())
        return Broken(
            f"{self._transport.name}: the connection broke off ({last}). What the device had begun it finishes or "
            "takes back by itself; run the same command again."
        )

    def close(self) -> None:
        """The streams; of standard error only what nobody else holds, such as a jump host's ssh that lives on."""
        self._listener.join(timeout=5)
        for stream in (self._process.stdout, None if self._listener.is_alive() else self._process.stderr):
            if stream:
                stream.close()

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
    begun = Visit(transport, process)  # it hears what ssh says from now on
    with suppress(OSError):  # gone already: the first question will say why
        process.stdin.write(b"%d\n%s" % (len(text), text))
        process.stdin.flush()
    try:
        yield begun
    finally:
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
        begun.close()


def _sources() -> bytes:
    """The modules that the device is to be: their names and texts."""
    folder = resources.files(arrival)
    modules = [("edge_asd", ""), (arrival.__name__, "")]
    modules += [(f"{arrival.__name__}.{name}", (folder / f"{name}.py").read_text()) for name in arrival.SOURCES]
    return json.dumps(modules).encode()


def _refusal(name: str, why: str, code: int) -> EdgeAsdError:
    """What the device refused, as the error that it would be here."""
    kinds = {kind.exit_code: kind for kind in EdgeAsdError.__subclasses__() if kind is not Unreachable}
    return kinds.get(code, DeploymentError)(f"{name}: {why}")
