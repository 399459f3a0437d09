"""Faults that nobody recorded: what a normal clip's log-mel might look like if its machine had one.

They are no claim about real faults. They only serve to see what a smaller bank misses that the whole one finds, so
their severities spread from what hardly shows to what shows clearly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_asd.front_end import LogMel

Draw = np.random.Generator
Power = NDArray[np.float64]


def made_up_fault(log_mel: LogMel, random: Draw) -> LogMel:
    """A clip's log-mel (frames, mels) in dB with one of the `KINDS` of fault, of random severity."""
    power = 10.0 ** (log_mel.astype(np.float64) / 10)
    changed = KINDS[random.integers(len(KINDS))](power, random)
    return (10 * np.log10(changed)).astype(np.float32)


def _tone(power: Power, random: Draw) -> Power:
    """A bearing that whines: a steady tone of two bands, up to 15 dB above what was there."""
    band, level = random.integers(power.shape[1] - 2), power.mean(axis=0)
    added = np.zeros(power.shape[1])
    added[band : band + 2] = level[band : band + 2] * _times(random, 15)
    return power + added


def _resonance(power: Power, random: Draw) -> Power:
    """Something is loose: what happens in a region of some bands is up to 10 dB louder."""
    bands, centre, width = np.arange(power.shape[1]), random.uniform(0, power.shape[1]), random.uniform(3, 12)
    gain = random.uniform(1, 10) * np.exp(-0.5 * np.square((bands - centre) / width))
    louder: Power = power * 10 ** (gain / 10)
    return louder


def _blows(power: Power, random: Draw) -> Power:
    """A chipped tooth: every so often a frame of noise over all bands."""
    every, level = random.integers(5, 60), np.median(power, axis=0)
    changed = power.copy()
    changed[random.integers(every) :: every] += level * _times(random, 20)
    return changed


def _hiss(power: Power, random: Draw) -> Power:
    """A leak: noise that grows with the frequency."""
    slope = np.linspace(0, 1, power.shape[1]) ** 2
    return power + slope * float(np.median(power)) * _times(random, 15)


def _speed(power: Power, random: Draw) -> Power:
    """It runs slower or faster: the spectrum moves by up to three bands, for a part of the clip."""
    bands, by = np.arange(power.shape[1]), random.uniform(0.5, 3) * random.choice([-1, 1])
    moved = np.stack([np.interp(bands - by, bands, frame) for frame in power])
    part = np.arange(len(power)) < random.uniform(0.3, 1) * len(power)
    return np.where(part[:, None], moved, power)


def _fading(power: Power, random: Draw) -> Power:
    """It labours: the level sways by up to 6 dB, some times in a clip."""
    times, depth = random.uniform(1, 10), random.uniform(1, 6)
    sway = depth * np.sin(2 * np.pi * (times * np.arange(len(power)) / len(power) + random.uniform()))
    swaying: Power = power * 10 ** (sway[:, None] / 10)
    return swaying


def _times(random: Draw, most: float) -> float:
    """A factor of power, from -5 dB to so many."""
    return float(10 ** (random.uniform(-5, most) / 10))


KINDS: tuple[Callable[[Power, Draw], Power], ...] = (_tone, _resonance, _blows, _hiss, _speed, _fading)
