"""Processes for a measurement, long started when it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

from edge_asd.workers import Item, Result

START_SECONDS = 300.0


class StartedPool:
    """So many processes that wait for work."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor

    @contextmanager
    def each(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        processes: int,
        *,
        initializer: Callable[[], object] | None = None,
    ) -> Iterator[Iterator[Result]]:
        """Stands in for `edge_asd.workers.each`; how many processes there are and what they begin with is settled."""
        yield self._executor.map(function, items)


@contextmanager
def started_pool(processes: int, prepare: Callable[[], object]) -> Iterator[StartedPool]:
    """So many processes, each of which has called `prepare`."""
    context = get_context("spawn")
    started = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(prepare, started)) as executor:
        list(executor.map(abs, range(processes)))  # for each a process is started, and waits for the others
        yield StartedPool(executor)


def _start(prepare: Callable[[], object], all_started: Barrier) -> None:
    prepare()
    all_started.wait(START_SECONDS)
