"""The same work on many things by several processes: in order, a few at a time, and Ctrl-C leaves no knot."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from edge_asd.errors import StorageError

IN_FLIGHT = 2  # tasks a process that are waited for at once
AHEAD = 128  # results of this process that may wait for an earlier one from another
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def each(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    processes: int,
    *,
    initializer: Callable[[], object] | None = None,
    here: Callable[[Item], Result] | None = None,
) -> Iterator[Iterator[Result]]:
    """Inside, iterate over function(item) in the items' order; on leaving, nobody works any more.

    The processes are spawned, not forked: a forked one would inherit the locks of whatever threads there are. Their
    native libraries compute with one thread: as many threads as cores in each of them would fight.

    Args:
        function: can be pickled, as can items and results.
        items: drawn as they are needed.
        processes: how many, beside this one.
        initializer: called first in each of them.
        here: the same as `function`, for what this process does itself while the others start or are busy; without it,
            this process waits.

    Raises:
        StorageError: a process was ended from outside.
    """
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=partial(_begin, initializer))
    try:
        yield _results(pool, function, items, IN_FLIGHT * processes, here)
    except BrokenProcessPool as error:
        raise StorageError(
            "a worker process was ended from outside, perhaps for want of memory; nothing was left behind. "
            "Free some memory and run the command again."
        ) from error
    finally:
        pool.shutdown()  # waits for the few tasks in hand


@contextmanager
def one_thread() -> Iterator[None]:
    """Native libraries compute with one thread: those that are first imported inside, and those of processes that are
    started inside, as far as such a library asks its environment.
    """
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _results(
    pool: ProcessPoolExecutor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    at_once: int,
    here: Callable[[Item], Result] | None,
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    most = at_once + AHEAD if here else at_once
    for item in items:
        while waiting and (len(waiting) == most or waiting[0].done()):
            yield waiting.popleft().result()
        if not here or sum(not one.done() for one in waiting) < at_once:
            with _interrupts_held(), one_thread():
                waiting.append(pool.submit(function, item))
        else:
            waiting.append(_done(here, item))
    while waiting:
        yield waiting.popleft().result()


def _begin(initializer: Callable[[], object] | None) -> None:
    """What a process begins with: it shall not wait for work for ever when the one that it works for was killed."""
    Thread(target=_end_with_parent, daemon=True).start()
    if initializer:
        initializer()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _done(function: Callable[[Item], Result], item: Item) -> Future[Result]:
    """The work done at once; an error waits for its turn, as another process's does."""
    future: Future[Result] = Future()
    try:
        future.set_result(function(item))
    except Exception as error:
        future.set_exception(error)
    return future


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
