"""A source that never gives up: a microphone that is pulled out is waited for, and heard again when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from edge_asd import progress
from edge_asd.capture.source import AudioSource, Block, nothing
from edge_asd.errors import CaptureError, MissingRequirement

FIRST_PAUSE = 1.0  # seconds before the first new attempt; twice as long before every other
LONGEST_PAUSE = 60.0
GOOD_SECONDS = 60.0  # of hearing, after which a new absence begins with the first pause again
LOOK_SECONDS = 0.5  # whoever iterates gets to look at the clock so often


class PatientSource:
    """The blocks of a source that is opened anew, as often as it must be.

    While there is nothing to hear it gives empty blocks that say why; the first samples after that come with the gap
    counted by the clock. It has no end.
    """

    def __init__(
        self,
        open_source: Callable[[], AudioSource],
        sample_rate: int,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = progress.say,
    ) -> None:
        """Name the source; it is opened on entering.

        Args:
            open_source: makes the source anew, not entered yet.
            sample_rate: of its blocks, Hz.
            monotonic: the time, seconds.
            sleep: waits so many seconds.
            say: tells the person who watches.
        """
        self._open_source = open_source
        self._sample_rate = sample_rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._say = say
        self._source: AudioSource | None = None

    def __enter__(self) -> Self:
        """Open the source; one that can't be opened yet is waited for. Raises: MissingRequirement."""
        self._why = ""  # there is nothing to hear; "" where there is
        self._pause = FIRST_PAUSE
        self._absent_since = self._heard_since = self._monotonic()
        self._heard: float | None = None  # when samples last came
        try:
            self._open()
        except CaptureError as error:
            self._miss(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __iter__(self) -> Iterator[Block]:
        """What there is to hear, without end."""
        while True:
            if self._source is None:
                yield from self._wait()
            try:
                if self._source is None:
                    self._open()
                yield from self._listen()
                raise CaptureError("it came to an end, which a microphone doesn't have")
            except (CaptureError, MissingRequirement) as error:  # a program may be away while it is updated
                self._close()
                self._miss(error)

    def _open(self) -> None:
        source = self._open_source()
        source.__enter__()
        self._source = source

    def _close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.__exit__(None, None, None)

    def _miss(self, error: Exception) -> None:
        """An absence begins, or goes on: that is said once."""
        now = self._monotonic()
        why = " ".join(str(error).split())
        if not self._why:
            self._absent_since = now if self._heard is None else self._heard
            if now - self._heard_since >= GOOD_SECONDS:
                self._pause = FIRST_PAUSE
            self._say(
                f"edge-asd: hears nothing: {why.rstrip('.')}. Keeps trying, at first after {self._pause:g} s and at "
                f"least every {LONGEST_PAUSE:g} s."
            )
        self._why = why or "there is no reason given"

    def _wait(self) -> Iterator[Block]:
        """Let a pause pass in small steps; the next one is longer."""
        until = self._monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        while (left := until - self._monotonic()) > 0:
            yield nothing(self._why)
            self._sleep(min(left, LOOK_SECONDS))

    def _listen(self) -> Iterator[Block]:
        """The source's blocks, until it raises; the first with samples after an absence has the gap."""
        assert self._source is not None  # noqa: S101 - for the type checker: it was opened
        for block in self._source:
            if not len(block.samples):
                yield replace(block, lost=0, absent=self._why) if self._why else block
                continue
            now = self._monotonic()
            gap = 0
            if self._why:
                if self._heard is not None:
                    gap = round((now - self._heard) * self._sample_rate)
                self._say(f"edge-asd: hears again after {now - self._absent_since:.0f} s.")
                self._why = ""
                self._heard_since = now
            elif self._heard is None:
                self._heard_since = now
            self._heard = now
            yield replace(block, lost=block.lost + gap) if gap else block
