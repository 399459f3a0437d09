"""Run another program to its end, with a limit on its time and on what is kept of its output."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge_asd.errors import CheckFailed

MOST_OUTPUT = 64 << 10


@dataclass(frozen=True)
class Finished:
    """A program that came to its end: its exit code, and the last 64 KiB of what it wrote."""

    code: int
    output: str
    errors: str

    @property
    def last_line(self) -> str:
        """Its last word, which says why it left."""
        lines = (self.errors.strip() or self.output.strip()).splitlines()
        return lines[-1].strip() if lines else "it said nothing"


def run(
    command: Sequence[str],
    *,
    seconds: float,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    account: str | None = None,
) -> Finished:
    """Run a command until it ends. Whatever it started is ended with it when its time is up.

    Args:
        command: the program and its arguments.
        seconds: how long it may take.
        stdin: an open file that it reads; by default there is nothing to read.
        account: as whom it runs, and with that account's group alone; as ourselves by default.

    Raises:
        CheckFailed: it can't be started, or took longer than `seconds`.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # its own process group, so that its children end with it
            user=account,
            group=account,
            extra_groups=None if account is None else [],
            env=None if account is None else {"PATH": os.defpath, "LC_ALL": "C.UTF-8"},  # nothing of root's
        )
    except (OSError, KeyError) as error:  # KeyError: there is no such account
        why = error.strerror if isinstance(error, OSError) else f"there is no account {account}"
        raise CheckFailed(f"{command[0]} can't be started ({why}).") from error
    if account is not None:  # where memory runs out it is this one that goes, and not a daemon or an sshd
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
    assert process.stdout  # noqa: S101 - for the type checker: it was asked for
    assert process.stderr  # noqa: S101 - as above
    with process:
        try:
            output, errors = _collect([process.stdout, process.stderr], time.monotonic() + seconds)
            code = process.wait(timeout=1)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise CheckFailed(f"`{' '.join(command)}` was not done after {seconds:g} s and was ended.") from None
        finally:
            if process.returncode is None:
                _end(process)
    return Finished(code, output, errors)


def _collect(streams: Sequence[IO[bytes]], deadline: float) -> list[str]:
    """Read streams to their ends, keeping the last of each. Raises: TimeoutError."""
    kept = dict.fromkeys(streams, b"")
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            if time.monotonic() > deadline:
                raise TimeoutError
            for key, _ in selector.select(timeout=0.2):
                stream = next(stream for stream in streams if stream.fileno() == key.fd)
                piece = os.read(key.fd, MOST_OUTPUT)
                kept[stream] = (kept[stream] + piece)[-MOST_OUTPUT:]
                if not piece:
                    selector.unregister(stream)
    return [kept[stream].decode(errors="replace") for stream in streams]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that nobody has waited for yet, so that its number is still its own, and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
