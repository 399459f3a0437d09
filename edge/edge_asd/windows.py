"""A log-mel cut into overlapping images (paper, section 2.1): P = 64 frames, one every L = 8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

LONGEST = 1024  # frames; a bundle says how many, and memory follows

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Windows:
    """How images are cut from a log-mel.

    Attributes:
        frames: P, frames in a window.
        hop: L, frames from one window to the next.
        to_the_end: whether a window that ends with the clip's very last frame counts. By the paper's formula it
            doesn't; the challenge's baselines take it.
    """

    frames: int = 64
    hop: int = 8
    to_the_end: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.frames <= LONGEST:
            raise ValueError(f"0 < hop <= frames <= {LONGEST} must hold, found hop {self.hop}, frames {self.frames}")

    def count(self, frames: int) -> int:
        """B = ceil((T - P) / L) windows of T frames: 32 of 313. With `to_the_end`, floor((T - P) / L) + 1.

        A clip of exactly P frames has one window (the formula would give none), a shorter one has none.
        """
        beyond = frames - self.frames
        if beyond < 0:
            return 0
        return beyond // self.hop + 1 if self.to_the_end else max(1, -(-beyond // self.hop))

    def cut(self, log_mel: NDArray[Number]) -> NDArray[Number]:
        """(T, mels) to a read-only view (B, mels, P): mel bands down, time across, as the network sees them."""
        views = np.lib.stride_tricks.sliding_window_view(log_mel, self.frames, axis=0)
        return views[:: self.hop][: self.count(len(log_mel))]
