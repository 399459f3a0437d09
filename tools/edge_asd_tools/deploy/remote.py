"""Commands of a device, called from here: `edge-asd status pi@shop-floor-7` is `edge-asd status` there."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO

from edge_asd.plain import plain
from edge_asd_tools.deploy.ssh import AS_ACCOUNT, AS_ROOT, LOST, Ssh, no_ssh

PYTHON = "/opt/edge-asd/current/venv/bin/python"
CONFIG = "/etc/edge-asd/device.toml"
NEWLINE = "\r\n"
LONGEST_LINE = 1 << 20  # characters; a longer one comes in pieces


def ask(target: str, command: str, options: Sequence[str] = ()) -> int:
    """Run a command of edge-asd on a device, with its settings; what it says is said here. Gives its exit code.

    Raises:
        UsageError: the target can't be one.
        Unreachable: the device can't be reached, or doesn't let us in.
        MissingRequirement: there is no ssh here.
    """
    return run(target, edge_asd(command, *options), account=AS_ACCOUNT)


def edge_asd(command: str, *options: str) -> list[str]:
    """The words of such a command there."""
    return [PYTHON, "-I", "-m", "edge_asd", command, "--config", CONFIG, *options]


def run(target: str, words: Sequence[str], *, account: str = AS_ROOT) -> int:
    """Run a program on a device; what it says is said here, and its exit code is given. Raises: as `ask`."""
    ssh = Ssh(target)
    try:
        process = subprocess.Popen(
            ssh.command(*words, account=account),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise no_ssh(error) from error
    assert process.stdout  # noqa: S101 - for the type checker: they were asked for
    assert process.stderr  # noqa: S101
    kept: deque[str] = deque(maxlen=50)
    listener = threading.Thread(target=_hear, args=(process.stderr, kept), daemon=True)
    listener.start()
    try:
        while line := process.stdout.readline(LONGEST_LINE):
            sys.stdout.write(f"{plain(line.rstrip(NEWLINE))}\n")
            sys.stdout.flush()
        code = process.wait()
    except KeyboardInterrupt:  # how `logs --follow` ends
        process.terminate()
        process.wait()
        return 130
    listener.join(timeout=5)  # a jump host's ssh may hold the stream for longer
    errors = "".join(kept)
    if code == LOST or (code and not any(line.startswith("edge-asd: ") for line in kept)):
        raise ssh.explain(code, errors)
    return code


def _hear(stream: IO[str], kept: deque[str]) -> None:
    """Say what edge-asd says there; the rest is of ssh or sudo, and said in our words where it comes to that."""
    while line := stream.readline(LONGEST_LINE):
        kept.append(line)
        if line.startswith("edge-asd: "):
            sys.stderr.write(f"{plain(line.rstrip(NEWLINE))}\n")
            sys.stderr.flush()
