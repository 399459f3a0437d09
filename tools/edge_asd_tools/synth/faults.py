"""What breaks, and what it sounds like: each fault as a force that is added to those of the sound machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_asd_tools.synth.machines import Unit
from edge_asd_tools.synth.signals import SAMPLE_RATE, Line, Samples, locked_tones, ring, rms, shaped_noise

FaultKind = Literal["bearing", "imbalance", "rubbing", "loose"]
KINDS: tuple[FaultKind, ...] = ("bearing", "imbalance", "rubbing", "loose")

# RMS of the fault against the healthy machine's at the microphone, in dB, from slight to grave. Impacts, scraping and
# rattling lie where the machine itself is quiet, so they are heard at a lower level than a tone among its own.
LEVELS_DB: dict[str, dict[FaultKind, tuple[float, float]]] = {
    "fan": {
        "bearing": (-27.0, -15.0),
        "imbalance": (-14.0, -4.0),
        "rubbing": (-25.0, -14.0),
        "loose": (-20.0, -9.0),
    },
    "gearbox": {
        "bearing": (-24.0, -12.0),
        "imbalance": (-18.0, -8.0),
        "rubbing": (-21.0, -10.0),
        "loose": (-20.0, -9.0),
    },
}
HALF_ORDERS = tuple(Line(order, order**-0.5) for order in (0.5, 1.5, 2.5, 3.5, 4.5))
SLIP = 0.015  # rolling elements slide a little: standard deviation of the time from one impact to the next


@dataclass(frozen=True)
class Fault:
    """A fault of some severity. Attributes: kind; severity, 0 (slight) to 1 (grave), above that beyond doubt."""

    kind: FaultKind
    severity: float

    def level_db(self, machine: str) -> float:
        """RMS against the healthy machine's, in dB."""
        slight, grave = LEVELS_DB[machine][self.kind]
        return slight + self.severity * (grave - slight)

    def force(self, unit: Unit, phase: Samples, healthy: Samples, rng: np.random.Generator) -> Samples:
        """The force that the fault adds, (samples,), of any scale.

        Args:
            unit: which machine.
            phase: of its shaft, radians, (samples,).
            healthy: the force without the fault, (samples,); some faults modulate it.
            rng: draws what is random about the fault.
        """
        return _FORCES[self.kind](unit, phase, healthy, rng)


def bearing(unit: Unit, phase: Samples, _healthy: Samples, rng: np.random.Generator) -> Samples:
    """A spall on the outer race: impacts at BPFO = n/2 fr (1 - d/D cos a), with slip, that make the ring ring."""
    revolutions = (phase - phase[0]) / (2 * np.pi)
    expected = int(revolutions[-1] * unit.bearing.outer_race_order)
    steps = 1 + rng.normal(0.0, SLIP, expected)
    passes = (rng.uniform() + np.cumsum(steps)) / unit.bearing.outer_race_order
    at = np.searchsorted(revolutions, passes[passes < revolutions[-1]])
    blows = np.zeros_like(phase)
    np.add.at(blows, at, rng.uniform(0.6, 1.4, len(at)))
    return ring(blows, unit.bearing.ring_hz, 0.04)


def imbalance(_unit: Unit, phase: Samples, healthy: Samples, rng: np.random.Generator) -> Samples:
    """A mass off the axis, F = m e w^2 once a revolution; the runout also modulates whatever the rotor does."""
    once = np.cos(phase + rng.uniform(0.0, 2 * np.pi))
    twice = np.cos(2 * phase + rng.uniform(0.0, 2 * np.pi))
    modulated = healthy * once / rms(healthy)
    force: Samples = once + 0.4 * twice + 0.7 * modulated
    return force


def rubbing(_unit: Unit, phase: Samples, _healthy: Samples, rng: np.random.Generator) -> Samples:
    """The rotor touches its housing: a burst of scraping in each revolution, harder in some than in others."""
    touching = np.exp(4.0 * (np.cos(phase + rng.uniform(0.0, 2 * np.pi)) - 1))
    revolution = ((phase - phase[0]) / (2 * np.pi)).astype(np.int64)
    pressure = rng.uniform(0.5, 1.5, revolution[-1] + 1)[revolution]
    scrape_hz = rng.uniform(1800.0, 3000.0)
    scraping = shaped_noise(len(phase), lambda hertz: (hertz / scrape_hz) ** 2 / (1 + (hertz / scrape_hz) ** 4), rng)
    force: Samples = touching * pressure * scraping
    return force


def loose(unit: Unit, phase: Samples, _healthy: Samples, rng: np.random.Generator) -> Samples:
    """A loose foot or cover: half orders of the shaft (it lifts every other turn), and rattling now and then."""
    halves = locked_tones(HALF_ORDERS, 2, phase, rng)
    blows = np.zeros_like(phase)
    seconds = len(phase) / SAMPLE_RATE
    for start in rng.uniform(0.0, seconds, max(1, rng.poisson(2.5 * seconds))):
        times = start + np.cumsum(rng.exponential(0.012, rng.integers(3, 10)))
        at = (times[times < seconds] * SAMPLE_RATE).astype(np.int64)
        np.add.at(blows, at, rng.uniform(0.3, 1.0, len(at)))
    rattle = ring(blows, 0.45 * unit.bearing.ring_hz, 0.06)
    return 0.8 * halves / rms(halves) + rattle / max(rms(rattle), 1e-12)


_FORCES: dict[FaultKind, Callable[[Unit, Samples, Samples, np.random.Generator], Samples]] = {
    "bearing": bearing,
    "imbalance": imbalance,
    "rubbing": rubbing,
    "loose": loose,
}
