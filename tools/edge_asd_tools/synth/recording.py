"""One unit, at one operating point, sound or broken, as a microphone in its hall records it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_asd_tools.synth.acoustics import Factory, radiate
from edge_asd_tools.synth.faults import Fault
from edge_asd_tools.synth.machines import Domain, OperatingPoint, Unit, rotation
from edge_asd_tools.synth.signals import SAMPLE_RATE, Samples, rms

Pcm = NDArray[np.int16]

RATED_RMS = 0.04  # of a machine at its rated speed and load 1, full scale 1: impacts and clanks stay below clipping
GAIN_DB = 0.7  # standard deviation from clip to clip: somebody has moved the microphone a little
SNR_DB = 0.7  # standard deviation from clip to clip: the hall is not equally busy
LEAD_SECONDS = 0.75  # rendered before the clip and cut off, so that it begins in a hall that already sounds
ONSET_SECONDS = 1.0  # in which a fault grows in


@dataclass(frozen=True)
class Onset:
    """A fault, and the second of the recording at which it begins to grow in (0 or less: it was always there)."""

    fault: Fault
    begins_s: float = -LEAD_SECONDS - ONSET_SECONDS

    def envelope(self, time: Samples) -> Samples:
        """0 before the fault, 1 from `ONSET_SECONDS` after, half a cosine between; over time in seconds."""
        progress = np.clip((time - self.begins_s) / ONSET_SECONDS, 0.0, 1.0)
        envelope: Samples = 0.5 - 0.5 * np.cos(np.pi * progress)
        return envelope


@dataclass(frozen=True)
class Take:
    """What is recorded: a unit in one of its settings, at an operating point, for so long; with a fault or without."""

    unit: Unit
    domain: Domain
    point: OperatingPoint
    seconds: float
    onset: Onset | None = None

    @property
    def factory(self) -> Factory:
        """Where the unit stands."""
        return self.unit.setting(self.domain).factory


def machine_sound(take: Take, seed: np.random.SeedSequence) -> Samples:
    """What the machine alone gives at the microphone, with its hall's reverberation, (samples,), full scale 1.

    The fault draws from a generator of its own: the same seed gives the same machine with and without it.
    """
    unit = take.unit
    healthy_rng, fault_rng = (np.random.default_rng(child) for child in _children(seed, 2))
    lead = round(LEAD_SECONDS * SAMPLE_RATE)
    phase = rotation(take.point, lead + round(take.seconds * SAMPLE_RATE), healthy_rng)
    force = unit.force(take.point, phase, healthy_rng)
    sound = radiate(force, unit.resonances, take.factory.room)[lead:]
    scale = RATED_RMS * unit.loudness(take.point) / rms(sound)
    if take.onset is None:
        return scale * sound
    fault = take.onset.fault
    added = radiate(fault.force(unit, phase, force, fault_rng), unit.resonances, take.factory.room)[lead:]
    added *= rms(sound) / rms(added) * 10 ** (fault.level_db(unit.machine) / 20)
    broken: Samples = sound + take.onset.envelope(np.arange(len(sound)) / SAMPLE_RATE) * added
    return scale * broken


def record(take: Take, seed: np.random.SeedSequence) -> Pcm:
    """The machine in its factory's noise, (samples,), 16 bit at 16 kHz. The same arguments give the same samples."""
    machine_seed, hall_seed = _children(seed, 2)
    machine = machine_sound(take, machine_seed)
    rng = np.random.default_rng(hall_seed)
    gain_db, snr_db = rng.normal(0.0, GAIN_DB), rng.normal(take.factory.snr_db, SNR_DB)
    noise = RATED_RMS * 10 ** (-snr_db / 20) * take.factory.noise(len(machine), rng)
    microphone = 10 ** (gain_db / 20) * (machine + noise)
    pcm: Pcm = np.round(32767 * np.clip(microphone, -1.0, 1.0)).astype(np.int16)
    return pcm


def _children(seed: np.random.SeedSequence, number: int) -> list[np.random.SeedSequence]:
    """As `SeedSequence.spawn`, which would give others when called again on the same object."""
    return [
        np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, child), pool_size=seed.pool_size)
        for child in range(number)
    ]
