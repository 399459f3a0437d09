"""Frames of any rate and number of channels to one channel at the detector's rate, piece by piece."""

from __future__ import annotations

import numpy as np

from edge_asd.front_end import Samples

MIX = -1


class MonoStream:
    """Picks or mixes channels, then resamples (soxr, high quality); the result doesn't depend on the pieces."""

    def __init__(self, rate: int, sample_rate: int, channel: int = MIX) -> None:
        """From `rate` to `sample_rate`, Hz; `channel` is the one to take, -1 is the mean of all."""
        self._channel = channel
        self._resampler = None
        if rate != sample_rate:
            import soxr

            self._resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")

    def convert(self, frames: Samples, *, last: bool = False) -> Samples:
        """(n, channels) to the (m,) samples that are ready; with `last` all that remain."""
        if self._channel == MIX and frames.shape[1] > 1:
            mono: Samples = frames.mean(axis=1, dtype=np.float32)
        else:
            mono = np.ascontiguousarray(frames[:, max(0, self._channel)])
        if self._resampler is None:
            return mono
        resampled: Samples = self._resampler.resample_chunk(mono, last=last)
        return resampled
