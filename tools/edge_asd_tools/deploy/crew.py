"""Threads that do jobs side by side, so many at a time, until they are told to begin no more of them.

They are daemons, unlike those of `concurrent.futures`: who presses Ctrl-C twice leaves, and waits for none of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from threading import Condition, Thread

Job = Callable[[], bool]  # whether the next one may begin


class Crew:
    """Does jobs, which raise nothing."""

    def __init__(self, jobs: Iterable[Job], at_once: int) -> None:
        self._waiting = deque(jobs)
        self._wanted = min(at_once, len(self._waiting))
        self._at_work = 0
        self._changed = Condition()

    def begin(self) -> None:
        """Start the threads."""
        while self._wanted:
            with self._changed:
                self._wanted -= 1
                self._at_work += 1
                Thread(target=self._work, daemon=True).start()

    def dismiss(self) -> None:
        """Begin no more jobs; those that were begun go on."""
        with self._changed:
            self._waiting.clear()

    def wait(self) -> None:
        """Until the last job that was begun is done. May be interrupted, and called again."""
        with self._changed:
            self._changed.wait_for(lambda: not self._at_work)

    def _work(self) -> None:
        try:
            while job := self._next():
                if not job():
                    self.dismiss()
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def _next(self) -> Job | None:
        with self._changed:
            return self._waiting.popleft() if self._waiting else None
