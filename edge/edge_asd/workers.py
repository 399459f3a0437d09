"""The same work on many things by several processes: in order, a few at a time, and Ctrl-C leaves no knot."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

from edge_asd.errors import StorageError

IN_FLIGHT = 2  # tasks a process that are waited for at once

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def each(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    processes: int,
    *,
    initializer: Callable[[], object] | None = None,
) -> Iterator[Iterator[Result]]:
    """Inside, iterate over function(item) in the items' order; on leaving, nobody works any more.

    The processes are spawned, not forked: a forked one would inherit the locks of whatever threads there are.

    Args:
        function: can be pickled, as can items and results.
        items: drawn as they are needed.
        processes: how many.
        initializer: called first in each of them.

    Raises:
        StorageError: a process was ended from outside.
    """
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=initializer)
    try:
        yield _results(pool, function, items, IN_FLIGHT * processes)
    except BrokenProcessPool as error:
        raise StorageError(
            "a worker process was ended from outside, perhaps for want of memory; nothing was left behind. "
            "Free some memory and run the command again."
        ) from error
    finally:
        pool.shutdown()  # waits for the few tasks in hand


def _results(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], at_once: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for item in items:
        if len(waiting) == at_once:
            yield waiting.popleft().result()
        with _interrupts_held():
            waiting.append(pool.submit(function, item))
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start worker processes inside: they inherit that SIGINT is blocked, from their first instruction on.

    The terminal interrupts all processes at once, and the parent alone must answer: a worker that is interrupted
    while it starts, or while it holds the queue's lock, would leave the pool waiting for ever. A Ctrl-C that comes
    meanwhile reaches the parent on leaving.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
