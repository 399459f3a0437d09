"""What every source of sound promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from edge_asd.front_end import Samples

BLOCK_SECONDS = 0.128  # half of the time from score to score: what is done for every block is done seldom enough


@dataclass(frozen=True, eq=False)
class Block:
    """Some samples, in order.

    Attributes:
        samples: (n,) in [-1, 1], mono, at the rate that was asked for. None at all where the source was quiet for
            a while: whoever iterates gets to look at the clock.
        lost: so many samples were lost just before these.
        clipped: so many samples of the source itself, of any channel and before they were mixed and resampled, were
            at full scale.
        recording: these samples begin another recording, of this name, that has nothing to do with what came before;
            "" goes on with what there was.
        mean: of all samples of the recording that begins here; None where nothing begins, or nobody knows it.
        absent: why there is nothing to hear at present, such as a microphone that isn't plugged in; "" where there is.
    """

    samples: Samples
    lost: int = 0
    clipped: int = 0
    recording: str = ""
    mean: float | None = None
    absent: str = ""


class AudioSource(Protocol):
    """A microphone, or what stands for it. Entering opens it, leaving closes it; iterating gives its blocks.

    It ends where the recording ends; a microphone has no end.

    Raises, on entering or iterating:
        CaptureError: it can't be opened, or gave up.
        MissingRequirement: its program isn't installed.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[Block]: ...


def nothing(absent: str = "") -> Block:
    """A block without samples."""
    return Block(np.empty(0, np.float32), absent=absent)
