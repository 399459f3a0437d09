"""What tests need by name: where the project lies, a training of a moment, what to do where a program is missing."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess

import pytest

ROOT = Path(__file__).parents[1]

# Enough steps for every stage to do its work, far too few to learn anything.
MOMENT = (
    "pretraining.epochs=1",
    "pretraining.steps_per_epoch=2",
    "pretraining.batch=8",
    "pretraining.expander_width=32",
    "fine_tuning.epochs=1",
    "fine_tuning.steps_per_epoch=2",
    "fine_tuning.batch=8",
    "quantisation.calibration_windows=32",
    "compute.threads=1",
    "compute.checkpoint_seconds=0.0",
)


def missing(what: str) -> None:
    """Skip a test for want of a program or of data; where CI promised to have it, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have what this test needs: {what}")
    pytest.skip(f"not here: {what}")


def free_port() -> int:
    """A port of loopback for a server that binds it itself, later.

    It is none of those that Linux gives to whoever asks for any, from 32768 on, so nobody gets it meanwhile.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something is true; fail where it isn't within so many seconds."""
    patience = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < patience, "it never came"
        time.sleep(0.01)


def interrupted(command: Sequence[str], begun: Callable[[], object], **environment: str) -> CompletedProcess[bytes]:
    """Run a command until it has begun, then press Ctrl-C on it and all that it started, and wait for its end.

    It leads a session of its own (`args` then is its number), so that the signal reaches its workers as from a
    terminal, and nobody else.
    """
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            patience = time.monotonic() + 60
            while not begun() and time.monotonic() < patience:
                time.sleep(0.02)
            assert begun(), "it never began"
            os.killpg(process.pid, signal.SIGINT)
            _, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
    return CompletedProcess(process.pid, process.returncode, stderr=stderr)
