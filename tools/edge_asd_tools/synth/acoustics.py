"""From forces to what a microphone hears: structure, room, and the factory's own noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_asd_tools.synth.signals import (
    MICROPHONE_LOW_HZ,
    SAMPLE_RATE,
    Line,
    Samples,
    fft_length,
    locked_tones,
    rms,
    shaped_noise,
)

Response = NDArray[np.complex128]

MAINS_HZ = 50.0
MAINS = tuple(Line(k, share) for k, share in ((1, 1.0), (2, 0.7), (3, 0.35), (4, 0.3), (6, 0.2)))
NEIGHBOUR = tuple(Line(k, k**-0.5) for k in (1, 2, 3, 6, 12))


@dataclass(frozen=True)
class Resonance:
    """One mode of a structure. Attributes: hz, natural frequency; damping ratio; gain at resonance."""

    hz: float
    damping: float
    gain: float


@dataclass(frozen=True)
class Room:
    """A hall's reverberation.

    Attributes:
        rt60_s: seconds in which it falls by 60 dB.
        level: of it against the direct sound, RMS over the impulse response.
        seed: makes each place in a hall another one.
    """

    rt60_s: float
    level: float
    seed: int

    def impulse_response(self) -> Samples:
        """The direct sound at 0, then noise that decays exponentially (Sabine's diffuse field), (samples,)."""
        time = np.arange(int(self.rt60_s * SAMPLE_RATE)) / SAMPLE_RATE
        tail = np.random.default_rng(self.seed).standard_normal(len(time)) * 10 ** (-3 * time / self.rt60_s)
        tail *= self.level / np.sqrt(np.sum(tail**2))
        tail[0] = 1.0
        return np.asarray(tail, dtype=np.float64)


@dataclass(frozen=True)
class Factory:
    """Where a unit stands and what else is heard there.

    Attributes:
        room: its reverberation.
        snr_db: the machine at its rated speed and load 1 against the noise, RMS against RMS.
        slope: the background's power falls with frequency to this power; 1 is pink.
        hum: of the mains, amplitude of 50 Hz where the background's RMS is 1.
        neighbour_rpm: speed of another machine, further away.
        neighbour: its amplitude where the background's RMS is 1.
        clanks_per_minute: how often something is dropped or struck in the distance.
    """

    room: Room
    snr_db: float
    slope: float
    hum: float
    neighbour_rpm: float
    neighbour: float
    clanks_per_minute: float

    def noise(self, samples: int, rng: np.random.Generator) -> Samples:
        """The hall without the machine, (samples,); its steady part has an RMS of 1."""
        time = np.arange(samples) / SAMPLE_RATE
        steady = shaped_noise(samples, lambda hertz: np.maximum(hertz, MICROPHONE_LOW_HZ) ** (-self.slope / 2), rng)
        steady += self.hum * locked_tones(MAINS, 1, 2 * np.pi * MAINS_HZ * time, rng)
        neighbour_hz = self.neighbour_rpm / 60 * (1 + rng.normal(0.0, 0.003))
        swell = 1 + 0.3 * np.cos(2 * np.pi * (rng.uniform(0.05, 0.2) * time + rng.uniform()))
        steady += self.neighbour * swell * locked_tones(NEIGHBOUR, 1, 2 * np.pi * neighbour_hz * time, rng)
        steady /= rms(steady)
        return steady + self._clanks(samples, rng)

    def _clanks(self, samples: int, rng: np.random.Generator) -> Samples:
        """Blows at random moments (Poisson), each a few modes that ring and fade, (samples,)."""
        clanks = np.zeros(samples)
        for _ in range(rng.poisson(self.clanks_per_minute * samples / SAMPLE_RATE / 60)):
            start = int(rng.integers(samples))
            time = np.arange(min(SAMPLE_RATE // 2, samples - start)) / SAMPLE_RATE
            modes = rng.uniform(400.0, 2800.0, 4)
            decays = rng.uniform(0.04, 0.12, 4)
            ringing = np.exp(-time / decays[:, None]) * np.cos(2 * np.pi * modes[:, None] * time)
            clanks[start : start + len(time)] += rng.uniform(0.2, 1.0) * ringing.mean(axis=0)
        return clanks


def structure(hertz: Samples, resonances: tuple[Resonance, ...]) -> Response:
    """How the structure answers a force, over frequency in Hz: 1, the direct way, and each mode's mobility.

    A plate radiates with its velocity, so a mode of damping ratio z counts with its mobility
    2jzr / (1 - r^2 + 2jzr), r = f / f0, which is 1 at resonance.
    """
    response = np.ones(len(hertz), np.complex128)
    for mode in resonances:
        ratio = hertz / mode.hz
        damping = 2j * mode.damping * ratio
        response += mode.gain * damping / (1 - ratio**2 + damping)
    return response


def radiate(force: Samples, resonances: tuple[Resonance, ...], room: Room) -> Samples:
    """`force`, (samples,), through structure and room, at the microphone, (samples,). One fast convolution."""
    length = fft_length(len(force) + int(room.rt60_s * SAMPLE_RATE))
    return np.fft.irfft(np.fft.rfft(force, length) * _path(length, resonances, room), length)[: len(force)]


@lru_cache(maxsize=2)
def _path(length: int, resonances: tuple[Resonance, ...], room: Room) -> Response:
    """Structure and room over the frequencies of an FFT of this length; the clips of a section share it."""
    path = np.fft.rfft(room.impulse_response(), length)
    path *= structure(np.fft.rfftfreq(length, 1 / SAMPLE_RATE), resonances)
    path.flags.writeable = False
    return path
