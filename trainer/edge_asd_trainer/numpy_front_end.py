"""The log-mels of a data set by the device's own front end, in as many processes as there are cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from edge_asd import logs
from edge_asd.front_end import FrontEnd, LogMel
from edge_asd.windows import Windows
from edge_asd.workers import Item, Result, each
from edge_asd_trainer.data import Clip
from edge_asd_trainer.memory import keep_freed
from edge_asd_trainer.waveforms import read_waveform

CLIPS_A_TASK = 8


class Share(Protocol):
    """How work is shared among processes: `edge_asd.workers.each`, or a pool that has long started."""

    def __call__(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        processes: int,
        *,
        initializer: Callable[[], object] | None = None,
    ) -> AbstractContextManager[Iterator[Result]]:
        """Inside, iterate over function(item) in the items' order."""


def log_mels_of(clips: Sequence[Clip], front_end: FrontEnd, windows: Windows, share: Share = each) -> Generator[LogMel]:
    """The log-mel of each clip, (frames, mels) in dB, in order.

    Raises:
        ClipError: a clip can't be read.
        DataError: a clip is shorter than one window; names it.
        StorageError: a process was ended from outside.
    """
    tasks = [clips[start : start + CLIPS_A_TASK] for start in range(0, len(clips), CLIPS_A_TASK)]
    processes = min(os.cpu_count() or 1, len(tasks))
    with share(partial(_transform, front_end, windows), tasks, processes, initializer=start) as transformed:
        for log_mels in transformed:
            yield from log_mels


def start() -> None:
    """What every one of the processes begins with."""
    logs.start()
    keep_freed()  # what a clip takes does for the next one


def _transform(front_end: FrontEnd, windows: Windows, clips: Sequence[Clip]) -> list[LogMel]:
    return [front_end.log_mel(read_waveform(clip, front_end, windows)) for clip in clips]
