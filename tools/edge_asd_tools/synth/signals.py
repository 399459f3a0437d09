"""What every sound here is made of: tones locked to a rotation, noise of a given colour, and modes that ring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

SAMPLE_RATE = 16000
MICROPHONE_LOW_HZ = 25.0  # below this a MEMS microphone hears less and less
POINTS_PER_CYCLE = 64  # of the fastest tone in a table: linear interpolation then errs by (2 pi / 64)^2 / 8, -58 dB


@dataclass(frozen=True)
class Line:
    """A tone that is locked to a shaft. Attributes: order, its frequency over the shaft's; amplitude."""

    order: float
    amplitude: float


def with_sidebands(order: float, amplitude: float, shares: Sequence[float], spacing: float) -> list[Line]:
    """A tone first, then its pairs of sidebands, `spacing` orders apart, each with a share of its amplitude."""
    sidebands = [
        Line(order + steps * spacing, amplitude * share) for i, share in enumerate(shares, start=1) for steps in (-i, i)
    ]
    return [Line(order, amplitude), *sidebands]


def locked_tones(lines: Sequence[Line], period: int, phase: Samples, rng: np.random.Generator) -> Samples:
    """The sum of the lines' tones, each with a phase offset of its own, along a shaft's phase, (samples,).

    The tones together are one waveform that comes back after `period` revolutions (order x period is whole for every
    line). It is computed once over these revolutions and read off along the phase, far cheaper than tone by tone.

    Args:
        lines: at least one, of orders above 0.
        period: revolutions after which everything repeats; for gears the wheel's teeth (the hunting tooth).
        phase: of the shaft, radians, (samples,), rising.
        rng: draws the offsets.
    """
    cycles = np.array([round(line.order * period) for line in lines])
    length = fft_length(POINTS_PER_CYCLE * int(cycles.max()))
    spectrum = np.zeros(length // 2 + 1, np.complex128)
    amplitudes = np.array([line.amplitude for line in lines])
    np.add.at(spectrum, cycles, amplitudes * np.exp(2j * np.pi * rng.uniform(size=len(lines))))
    waveform = np.fft.irfft(spectrum, length) * (length / 2)
    position = phase * (length / (2 * np.pi * period)) % length
    before = position.astype(np.int64)
    share = position - before
    tones: Samples = (1 - share) * waveform[before % length] + share * waveform[(before + 1) % length]
    return tones


def shaped_noise(samples: int, magnitude: Callable[[Samples], Samples], rng: np.random.Generator) -> Samples:
    """Gaussian noise with the given magnitude over frequency (Hz), RMS 1, (samples,)."""
    length = fft_length(samples)
    hertz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    spectrum = rng.standard_normal(2 * len(hertz)).view(np.complex128)
    low = (hertz / MICROPHONE_LOW_HZ) ** 2
    noise = np.fft.irfft(spectrum * (magnitude(hertz) * low / (1 + low)), length)[:samples]
    return noise / rms(noise)


def ring(blows: Samples, hertz: float, damping: float) -> Samples:
    """Blows, (samples,), on a mode of `hertz` and damping ratio z: each rings as exp(-z w t) sin(w t), (samples,)."""
    omega = 2 * np.pi * hertz
    time = np.arange(int(7 / (damping * omega) * SAMPLE_RATE)) / SAMPLE_RATE  # until it has fallen by 60 dB
    decay = np.exp(-damping * omega * time) * np.sin(omega * time)
    length = fft_length(len(blows) + len(decay))
    return np.fft.irfft(np.fft.rfft(blows, length) * np.fft.rfft(decay, length), length)[: len(blows)]


def rms(signal: Samples) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(signal))))


def fft_length(samples: int) -> int:
    """The next power of two, where an FFT is fast."""
    return 1 << (samples - 1).bit_length()
