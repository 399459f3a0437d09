"""Waveform to log-mel spectrogram: the one front end of host and device (paper, section 2.1).

A frame is 1024 samples (64 ms) under a periodic Hann window, one every 512 (32 ms); its power spectrum is weighed by
128 triangular mel filters on Slaney's scale and expressed in decibels. The numbers are those of librosa 0.9.1, which
the challenge's baselines use (largest difference 1e-3 dB, tested).

Everything up to the decibel is computed in float64: a log-mel value then differs between two processors, FFT libraries
or batch sizes by 1e-12 dB, far below what could move it over the border between two of the int8 model's input steps,
and the golden clip of a bundle scores bit for bit the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
LogMel = NDArray[np.float32]
Spectrum = NDArray[np.complex128]

FRAMES_AT_ONCE = 512  # bounds the memory that a long recording takes, 8 MB of spectrum


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
        centred = waveform.astype(np.float64) - np.mean(waveform, dtype=np.float64)
        padded = np.pad(centred, self.n_fft // 2)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop]
        log_mel = np.empty((len(frames), self.mels), np.float32)
        for start in range(0, len(frames), FRAMES_AT_ONCE):
            some = slice(start, start + FRAMES_AT_ONCE)
            log_mel[some] = self.decibel(self.mel_power(self.spectrum(frames[some])))
        return log_mel

    def spectrum(self, frames: NDArray[np.float64]) -> Spectrum:
        """(n, n_fft) samples to (n, n_fft / 2 + 1) complex bins, under the window."""
        return np.fft.rfft(frames * self.window, axis=1)

    def mel_power(self, spectrum: Spectrum) -> NDArray[np.float64]:
        """(n, n_fft / 2 + 1) complex bins to (n, mels) mel power."""
        if self.power == 2.0:
            magnitudes = np.square(spectrum.real) + np.square(spectrum.imag)
        else:
            magnitudes = np.abs(spectrum) ** self.power
        mel_power: NDArray[np.float64] = magnitudes @ self.mel_filters
        return mel_power

    def decibel(self, mel_power: NDArray[np.float64]) -> LogMel:
        """Mel power to dB, 10 log10(max(S, floor))."""
        decibel: LogMel = (10.0 * np.log10(np.maximum(mel_power, self.floor))).astype(np.float32)
        return decibel

    @property
    def window(self) -> NDArray[np.float64]:
        """Periodic Hann window, (n_fft,)."""
        return _hann(self.n_fft)

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
