"""Progress bars on standard error, where a person watches; silence where none does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)


class Bar:
    """One bar: `advance` it, and `say` beside it what the moment's figures are."""

    def __init__(self, progress: Progress, title: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, completed=done, figures="")

    def advance(self, steps: int = 1) -> None:
        """So many steps are done."""
        self._progress.advance(self._task, steps)

    def say(self, figures: str) -> None:
        """Show some figures behind the bar."""
        self._progress.update(self._task, figures=figures)


@contextmanager
def bar(title: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A bar of `total` steps under a title, some done before; without a terminal it draws nothing."""
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    # rich would send standard output to this console as well, away from the file it was redirected to
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False) as progress:
        yield Bar(progress, title, total, done)


def say(line: str) -> None:
    """A line for the person who watches, on standard error."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)
