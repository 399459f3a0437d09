"""What every door holds, whatever comes in: a value or a refusal of ours, soon, in little memory, in one line."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from edge_asd.errors import EdgeAsdError

LONGEST_WORDS = 1000  # characters of a refusal
LONGEST_LINE = 1200  # of a line on standard error, which may say what a refusal led to
LONGEST_SECONDS = 1.0  # of this thread's own time, for anything that a fuzzer sends: that is a few KB
MOST_MEMORY = 1 << 30  # bytes of addresses, beyond those that the process has before

_CHANGES = {
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "os.chown",
    "os.link",
    "os.symlink",
    "os.truncate",
}

Look = Callable[[str, tuple[Any, ...]], None]

_look: Look | None = None
_hooked = False


class Breach(AssertionError):
    """A door that doesn't hold what it promises."""


def fit_to_be_read(said: str, longest: int = LONGEST_WORDS) -> None:
    """Words that a person reads: one line, of bounded length, nothing in it that a terminal obeys."""
    if not said or len(said) > longest or not said.isprintable():
        raise Breach(f"not one short line of what can be printed: {len(said)} characters, {said[:400]!r}")


@contextmanager
def refusals(*documented: type[Exception]) -> Iterator[None]:
    """A refusal of ours, or what this door documents, is an answer as good as a value; its words are looked at.

    Whatever else is raised goes on, and is what a fuzzer looks for. So is what takes too long.
    """
    began = time.thread_time()
    try:
        yield
    except (EdgeAsdError, *documented) as error:
        fit_to_be_read(str(error))
    if (taken := time.thread_time() - began) > LONGEST_SECONDS:
        raise Breach(f"took {taken:.1f} s")


@contextmanager
def lines_said() -> Iterator[None]:
    """What is said meanwhile on standard error is looked at, and not shown."""
    with redirect_stderr(StringIO()) as heard:
        yield
    for line in heard.getvalue().split("\n")[:-1]:
        fit_to_be_read(line, LONGEST_LINE)


@contextmanager
def opening_only(folder: Path) -> Iterator[None]:
    """Files are opened in this folder alone, be they there or not."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not isinstance(arguments[0], int):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if Path(path).parent != folder:
                raise Breach(f"opened {path!r}")

    folder = folder.resolve()
    with _watched_by(look):
        yield


@contextmanager
def changing_only(folder: Path) -> Iterator[None]:
    """Nothing outside of this folder is written to, made or removed: it is refused before it happens."""

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if not writes and event not in _CHANGES:
            return
        places = (
            arguments[:2]
            if event in ("os.rename", "os.link")
            else arguments[1:2]
            if event == "os.symlink"
            else arguments[:1]
        )
        below = event in ("os.remove", "os.rmdir", "os.mkdir") and arguments[-1] not in (-1, None)  # of an open folder
        for place in places:
            if isinstance(place, int) or below:
                continue
            path = Path(os.path.realpath(Path(os.fsdecode(place)).parent), os.path.basename(os.fsdecode(place)))
            if path != folder and folder not in path.parents and str(path) != os.devnull:
                raise Breach(f"{event} of {str(path)!r}")

    folder = folder.resolve()
    with _watched_by(look):
        yield


@contextmanager
def _watched_by(look: Look) -> Iterator[None]:
    global _look, _hooked  # noqa: PLW0603 - an audit hook is there for the life of a process, and knows no more than this
    if not _hooked:
        sys.addaudithook(lambda event, arguments: _look(event, arguments) if _look else None)
        _hooked = True
    _look = look
    try:
        yield
    finally:
        _look = None


def limit_memory() -> None:
    """From here on more memory is an error in this process, so that what a stranger's bytes ask for is seen."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_MEMORY, resource.RLIM_INFINITY))
