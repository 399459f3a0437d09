"""Waveform to log-mel spectrogram: the one front end of host and device (paper, section 2.1).

A frame is 1024 samples (64 ms) under a periodic Hann window, one every 512 (32 ms); its power spectrum is weighed by
128 triangular mel filters on Slaney's scale and expressed in decibels. The numbers are those of librosa 0.9.1, which
the challenge's baselines use (largest difference 1e-3 dB, tested).

Everything up to the decibel is computed in float64: a log-mel value then differs between two processors, FFT libraries
or batch sizes by 1e-12 dB, far below what could move it over the border between two of the int8 model's input steps,
and the golden clip of a bundle scores bit for bit the same on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
LogMel = NDArray[np.float32]
Spectrum = NDArray[np.complex128]
_Bands = tuple[slice, slice, NDArray[np.float64]]  # some mel bands, the FFT bins that they touch, weights (bins, bands)

FRAMES_AT_ONCE = 48  # 400 kB in each step: it stays near the core, and a long recording takes no more
BANDS_AT_ONCE = 32
HIGHEST_RATE, LONGEST_FRAME, MOST_MELS = 384_000, 1 << 14, 512  # a bundle says them, and memory follows


@dataclass(frozen=True)
class FrontEnd:
    """The parameters of the log-mel, and the transform that they define. Stored in every bundle.

    Attributes:
        sample_rate: of the waveform, Hz.
        n_fft: samples in a frame.
        hop: samples from one frame to the next.
        mels: number of mel bands.
        fmin, fmax: range of the mel filters, Hz.
        mel_scale: "slaney" (linear below 1 kHz, logarithmic above).
        mel_norm: "slaney" (every filter has the same area).
        padding: "zeros": a clip is centred, with n_fft / 2 zeros before and after it.
        power: exponent of the magnitude spectrum; 2 is power.
        floor: smallest power that enters the logarithm.
    """

    sample_rate: int = 16000
    n_fft: int = 1024
    hop: int = 512
    mels: int = 128
    fmin: float = 0.0
    fmax: float = 8000.0
    mel_scale: Literal["slaney"] = "slaney"
    mel_norm: Literal["slaney"] = "slaney"
    padding: Literal["zeros"] = "zeros"
    power: float = 2.0
    floor: float = 2.22e-16

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.n_fft or self.n_fft % 2:
            raise ValueError(f"hop must lie in 1..n_fft and n_fft be even, found hop {self.hop}, n_fft {self.n_fft}")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ValueError(
                f"0 <= fmin < fmax <= sample_rate / 2 must hold, found {self.fmin}, {self.fmax}, {self.sample_rate}"
            )
        if self.sample_rate > HIGHEST_RATE or self.n_fft > LONGEST_FRAME or self.mels > MOST_MELS:
            raise ValueError(
                f"at most {HIGHEST_RATE} Hz, {LONGEST_FRAME} samples a frame and {MOST_MELS} mels, found "
                f"{self.sample_rate}, {self.n_fft}, {self.mels}"
            )
        if self.mels < 1 or self.power <= 0 or self.floor <= 0:
            raise ValueError("mels, power and floor must be positive")

    def frames(self, samples: int) -> int:
        """Number of frames of a clip of so many samples (313 for 10 s)."""
        return 1 + samples // self.hop

    def log_mel(self, waveform: Samples) -> LogMel:
        """The log-mel of a whole clip.

        Args:
            waveform: (samples,) in [-1, 1], at `sample_rate`.

        Returns:
            (frames, mels) in dB. The clip's mean is subtracted first (paper, section 2.1), then zeros are
            padded at both ends.
        """
        log_mel = np.empty((self.frames(len(waveform)), self.mels), np.float32)
        for start, frames in self._centred_frames(waveform):
            log_mel[start : start + len(frames)] = self.decibel(self.mel_power(self.spectrum(frames)))
        return log_mel

    def _centred_frames(self, waveform: Samples) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """The frames of a clip less its mean, a few at once: the first one's number, and a view (n, n_fft).

        All are views of one block of samples, which the next frames overwrite: with a block for the whole clip, getting
        the memory's pages costs more than the arithmetic.
        """
        mean, count = np.mean(waveform, dtype=np.float64), self.frames(len(waveform))
        samples = np.empty((FRAMES_AT_ONCE - 1) * self.hop + self.n_fft)
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.n_fft)[:: self.hop]
        for start in range(0, count, FRAMES_AT_ONCE):
            begin = start * self.hop - self.n_fft // 2  # of the block, in the clip; what lies outside of it is padding
            some = waveform[max(begin, 0) : begin + len(samples)]
            samples.fill(0.0)
            np.subtract(some, mean, out=samples[max(-begin, 0) :][: len(some)], dtype=np.float64)
            yield start, frames[: count - start]

    def spectrum(self, frames: NDArray[np.float64]) -> Spectrum:
        """(n, n_fft) samples to (n, n_fft / 2 + 1) complex bins, under the window."""
        return np.fft.rfft(frames * self.window, axis=1)

    def mel_power(self, spectrum: Spectrum) -> NDArray[np.float64]:
        """(n, n_fft / 2 + 1) complex bins to (n, mels) mel power."""
        if self.power == 2.0:
            powers = np.square(spectrum.real)
            powers += np.square(spectrum.imag)
        else:
            powers = np.abs(spectrum) ** self.power
        mel_power = np.empty((len(powers), self.mels))
        for bands, bins, weights in _bands(self.sample_rate, self.n_fft, self.mels, self.fmin, self.fmax):
            np.matmul(powers[:, bins], weights, out=mel_power[:, bands])
        return mel_power

    def decibel(self, mel_power: NDArray[np.float64]) -> LogMel:
        """Mel power to dB, 10 log10(max(S, floor))."""
        decibel = np.maximum(mel_power, self.floor)
        np.log10(decibel, out=decibel)
        decibel *= 10.0
        return decibel.astype(np.float32)

    @property
    def window(self) -> NDArray[np.float64]:
        """Periodic Hann window, (n_fft,)."""
        return _hann(self.n_fft)

    @property
    def band_edges(self) -> NDArray[np.float64]:
        """Where filters begin, peak and end, Hz, (mels + 2,): filter i rises from edge i to i + 1 and ends at i + 2."""
        return _hertz(np.linspace(_slaney(self.fmin), _slaney(self.fmax), self.mels + 2))

    @property
    def mel_filters(self) -> NDArray[np.float64]:
        """Triangular filters of equal area on Slaney's mel scale, (n_fft / 2 + 1, mels)."""
        return _mel_filters(self.sample_rate, self.n_fft, self.mels, self.fmin, self.fmax)


@lru_cache(maxsize=8)
def _hann(n_fft: int) -> NDArray[np.float64]:
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)
    return window


@lru_cache(maxsize=8)
def _mel_filters(sample_rate: int, n_fft: int, mels: int, fmin: float, fmax: float) -> NDArray[np.float64]:
    bins = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    edges = _hertz(np.linspace(_slaney(fmin), _slaney(fmax), mels + 2))
    rising = (bins[:, None] - edges[None, :-2]) / np.diff(edges)[None, :-1]
    falling = (edges[None, 2:] - bins[:, None]) / np.diff(edges)[None, 1:]
    area = 2.0 / (edges[2:] - edges[:-2])
    return np.ascontiguousarray(np.maximum(0.0, np.minimum(rising, falling)) * area)


@lru_cache(maxsize=8)
def _bands(sample_rate: int, n_fft: int, mels: int, fmin: float, fmax: float) -> list[_Bands]:
    """The filters without most of their zeros, which are 98 in 100: some neighbours, and the bins that they touch."""
    filters = _mel_filters(sample_rate, n_fft, mels, fmin, fmax)
    found = []
    for first in range(0, mels, BANDS_AT_ONCE):
        bands = slice(first, first + BANDS_AT_ONCE)
        touched = np.flatnonzero(filters[:, bands].any(axis=1))
        bins = slice(touched[0], touched[-1] + 1) if len(touched) else slice(0, 0)
        found.append((bands, bins, np.ascontiguousarray(filters[bins, bands])))
    return found


# Slaney's Auditory Toolbox: 3 mels each 200 Hz up to 1 kHz, then 27 mels each factor of 6.4.
_HERTZ_PER_MEL = 200.0 / 3.0
_LOG_FROM_HERTZ = 1000.0
_LOG_FROM_MEL = _LOG_FROM_HERTZ / _HERTZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _slaney(hertz: float) -> float:
    if hertz < _LOG_FROM_HERTZ:
        return hertz / _HERTZ_PER_MEL
    return float(_LOG_FROM_MEL + np.log(hertz / _LOG_FROM_HERTZ) / _LOG_STEP)


def _hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _LOG_FROM_HERTZ * np.exp(_LOG_STEP * (np.maximum(mels, _LOG_FROM_MEL) - _LOG_FROM_MEL))
    return np.where(mels < _LOG_FROM_MEL, mels * _HERTZ_PER_MEL, logarithmic)
