"""Progress bars on standard error, where a person watches; silence where none does.

What draws them is loaded where there is a terminal: a daemon that says a line a week needn't hold it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

from edge_asd.plain import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_others_speak = False


@cache
def console() -> Console:
    """Standard error, as rich sees it."""
    from rich.console import Console

    return Console(stderr=True)


def be_quiet(*, quiet: bool) -> None:
    """Of several processes that do one thing, one speaks."""
    global _others_speak  # noqa: PLW0603 - the process as a whole speaks, or doesn't
    _others_speak = quiet
    console().quiet = quiet


class Bar:
    """One bar: `advance` it, and `say` beside it what the moment's figures are."""

    def __init__(self, progress: Progress | None, title: str, total: int, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, completed=done, figures="") if progress else None

    def advance(self, steps: int = 1) -> None:
        """So many steps are done."""
        if self._progress and self._task is not None:
            self._progress.advance(self._task, steps)

    def say(self, figures: str) -> None:
        """Show some figures behind the bar."""
        if self._progress and self._task is not None:
            self._progress.update(self._task, figures=figures)


@contextmanager
def bar(title: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A bar of `total` steps under a title, some done before; without a terminal it draws nothing."""
    if not sys.stderr.isatty():
        yield Bar(None, title, total, done)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

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
    with Progress(*columns, console=console(), redirect_stdout=False) as progress:
        yield Bar(progress, title, total, done)


def say(line: str) -> None:
    """A line for the person who watches, on standard error; some of it may come from elsewhere."""
    if _others_speak:
        return
    line = plain(line)
    with suppress(OSError):  # nobody reads it any more, which must end no daemon
        if sys.stderr.isatty():
            console().print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
