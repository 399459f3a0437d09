"""Worker processes and Ctrl-C: the terminal interrupts all of them at once, and the parent alone must answer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start worker processes inside: they inherit that SIGINT is blocked, from their first instruction on.

    A worker that is interrupted while it starts, or while it holds the queue's lock, would leave the pool waiting for
    ever. A Ctrl-C that comes meanwhile reaches the parent on leaving.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
