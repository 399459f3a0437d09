"""Samples in, windows out, chunk by chunk: the front end of a stream.

The paper subtracts a clip's mean before the transform; a stream knows the mean only of what it has heard. It is
therefore subtracted when a window is complete, from the transform: under a periodic Hann window a constant touches
FFT bins 0 and 1 alone, so of every frame these two are kept apart, and the few mel bands that hear them are computed
again for every window; all other bands once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge_asd.front_end import FrontEnd, LogMel, Samples
from edge_asd.windows import Windows

CLIP_FRAMES = 313  # T, of a 10 s clip: how far back a stream looks


class WindowStream:
    """Every frame is transformed once, some at a time; kept are few frames of samples and one window of the log-mel."""

    def __init__(
        self, front_end: FrontEnd, windows: Windows, *, padded: bool = False, mean: float | None = None
    ) -> None:
        """Start a stream.

        Args:
            front_end, windows: as in the bundle.
            padded: put half a frame of zeros before its first sample, as a clip has them.
            mean: of all samples to come, where that is known; then the windows are those of the clip.
        """
        self._front_end = front_end
        self._windows = windows
        self._constant = np.fft.rfft(front_end.window)[:2]
        self._samples = np.zeros(front_end.n_fft + (windows.hop + 1) * front_end.hop)
        self._cut = np.lib.stride_tricks.sliding_window_view(self._samples, front_end.n_fft)[:: front_end.hop]
        self._held = front_end.n_fft // 2 if padded else 0
        self._uncounted = 0  # samples held that the mean doesn't know yet
        clip_frames = (windows.count(CLIP_FRAMES) - 1) * windows.hop + windows.frames
        self._mean = _RecentMean(blocks=-(-clip_frames // windows.hop), known=mean)
        self._frames = 0
        self._low_bins = np.zeros((windows.frames, 2), np.complex128)
        self._low_filters = front_end.mel_filters[:2]
        [self._low_bands] = np.nonzero(self._low_filters.any(axis=0))
        self._rest = np.zeros((windows.frames, len(self._low_bands)))
        self._decibel = np.zeros((windows.frames, front_end.mels), np.float32)
        self._head = _Head(front_end) if padded else None

    def push(self, samples: Samples) -> Iterator[tuple[int, LogMel]]:
        """Take (n,) samples, any n; yield for each window that became complete how many were taken, and (mels, P).

        Frames are transformed when the one behind the next window's last has come: B = ceil((T - P) / L) counts a
        window only then.
        """
        taken = 0
        while taken < len(samples):
            frames = self._windows.hop - (self._frames - self._windows.frames) % self._windows.hop
            wanted = self._front_end.n_fft + frames * self._front_end.hop
            some = samples[taken : taken + wanted - self._held]
            self._samples[self._held : self._held + len(some)] = some
            self._held += len(some)
            self._uncounted += len(some)
            taken += len(some)
            if self._held == wanted:
                self._count()
                self._take_frames(frames)
                if self._window_due():
                    yield taken, self._window()

    def finish(self) -> Iterator[LogMel]:
        """Pad half a frame of zeros (the mean, which is subtracted later) and yield the windows that remain."""
        self._count()
        padding = self._front_end.n_fft // 2
        self._samples[self._held : self._held + padding] = self._mean.value()
        self._held += padding
        waits = False  # the window that was due before is out already
        while self._held >= self._front_end.n_fft:
            if waits and self._window_due():
                yield self._window()
            self._take_frames(1)
            waits = True
        if waits and self._last_counts():
            yield self._window()

    def _count(self) -> None:
        if self._uncounted:
            fresh = self._samples[self._held - self._uncounted : self._held]
            self._mean.add(float(fresh.sum()), len(fresh))
            self._uncounted = 0

    def _take_frames(self, count: int) -> None:
        spectrum = self._front_end.spectrum(self._cut[:count])
        if self._head and not self._frames:
            self._head.spectrum = spectrum[:1].copy()
        rows = (self._frames + np.arange(count)) % self._windows.frames
        self._low_bins[rows] = spectrum[:, :2]
        spectrum[:, :2] = 0.0
        power = self._front_end.mel_power(spectrum)
        self._rest[rows] = power[:, self._low_bands]
        self._decibel[rows] = self._front_end.decibel(power)
        self._frames += count
        passed = count * self._front_end.hop
        self._samples[: self._held - passed] = self._samples[passed : self._held]
        self._held -= passed

    def _window_due(self) -> bool:
        beyond = self._frames - self._windows.frames
        return beyond >= 0 and beyond % self._windows.hop == 0

    def _last_counts(self) -> bool:
        """Whether the window that ends with the last frame of all has its place, see `Windows.count`."""
        beyond = self._frames - self._windows.frames
        return beyond == 0 or (self._windows.to_the_end and beyond > 0 and beyond % self._windows.hop == 0)

    def _window(self) -> LogMel:
        mean = self._mean.value()
        low = np.abs(self._low_bins - mean * self._constant) ** self._front_end.power
        power = self._rest + low @ self._low_filters[:, self._low_bands]
        self._decibel[:, self._low_bands] = self._front_end.decibel(power)
        if self._head:
            self._decibel[0] = self._front_end.decibel(self._front_end.mel_power(self._head.without(mean)))[0]
            self._head = None
        return np.roll(self._decibel, -(self._frames % self._windows.frames), axis=0).T


class _Head:
    """The first frame of a padded stream: zeros, then samples, so that a constant there is a step."""

    def __init__(self, front_end: FrontEnd) -> None:
        step = np.arange(front_end.n_fft) >= front_end.n_fft // 2
        self._step = np.fft.rfft(front_end.window * step)
        self.spectrum: NDArray[np.complex128] = np.zeros((1, len(self._step)), np.complex128)

    def without(self, mean: float) -> NDArray[np.complex128]:
        """The spectrum, had the mean been subtracted before the transform."""
        return self.spectrum - mean * self._step


class _RecentMean:
    """The mean of the last so many blocks of samples, or what is known to be that of all."""

    def __init__(self, blocks: int, known: float | None = None) -> None:
        self._known = known
        self._blocks: deque[tuple[float, int]] = deque(maxlen=blocks)

    def add(self, total: float, samples: int) -> None:
        self._blocks.append((total, samples))

    def value(self) -> float:
        if self._known is not None:
            return self._known
        samples = sum(count for _, count in self._blocks)
        return sum(total for total, _ in self._blocks) / samples if samples else 0.0
