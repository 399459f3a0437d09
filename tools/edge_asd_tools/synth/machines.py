"""Rotating machines as sources of sound: how they turn, and which forces their parts make while they do."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edge_asd_tools.synth.acoustics import Factory, Resonance
from edge_asd_tools.synth.signals import SAMPLE_RATE, Line, Samples, locked_tones, shaped_noise, with_sidebands

Domain = Literal["source", "target"]

SPEED_WANDER = 0.002  # standard deviation of the speed, a share of it: mains and load are never quite steady
WANDER_KNOTS_PER_SECOND = 2.0
LINE_SPREAD = 0.08  # standard deviation of a tone's log amplitude from clip to clip
BROADBAND_SPREAD = 0.06  # the same of the noise of flow or friction
NYQUIST_MARGIN = 0.9  # a line that would come closer to half the sample rate is left out


@dataclass(frozen=True)
class OperatingPoint:
    """What the machine is asked to do. Attributes: speed_rpm of the (input) shaft; load, a step from 1 to 4."""

    speed_rpm: int
    load: int

    @property
    def shaft_hz(self) -> float:
        """Revolutions a second."""
        return self.speed_rpm / 60.0

    @property
    def attributes(self) -> str:
        """As in a clip's name."""
        return f"spd_{self.speed_rpm}_load_{self.load}"


@dataclass(frozen=True)
class Setting:
    """One domain of a section: the operating points that occur in it, and the hall that the unit stands in."""

    speeds_rpm: tuple[int, ...]
    loads: tuple[int, ...]
    factory: Factory

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """Every speed with every load."""
        return tuple(OperatingPoint(speed, load) for load in self.loads for speed in self.speeds_rpm)


@dataclass(frozen=True)
class Bearing:
    """A rolling bearing. Attributes: what their names say; ring_hz, the natural frequency of its outer ring."""

    balls: int
    ball_mm: float
    pitch_mm: float
    contact_deg: float
    ring_hz: float

    @property
    def outer_race_order(self) -> float:
        """Ball passes over one spot of the outer race per revolution: BPFO / fr = n/2 (1 - d/D cos a)."""
        return self.balls / 2 * (1 - self.ball_mm / self.pitch_mm * math.cos(math.radians(self.contact_deg)))


@dataclass(frozen=True)
class Unit(ABC):
    """One machine on its foundation. Attributes: `rated_rpm`, its nominal speed; `resonances` of its structure."""

    machine: ClassVar[str]
    sound_exponent: ClassVar[float]

    section: int
    rated_rpm: int
    bearing: Bearing
    resonances: tuple[Resonance, ...]
    source: Setting
    target: Setting

    @abstractmethod
    def lines(self, load: int) -> tuple[Line, ...]:
        """The tones at this load."""

    @abstractmethod
    def broadband_level(self, load: int) -> float:
        """RMS of the noise of flow or friction at this load, where the strongest tone's amplitude is about 1."""

    @property
    @abstractmethod
    def period(self) -> int:
        """Revolutions after which every part is where it was."""

    @property
    @abstractmethod
    def broadband_peak_hz(self) -> float:
        """Where that noise is strongest at the rated speed."""

    def setting(self, domain: Domain) -> Setting:
        """The setting of this domain."""
        return self.source if domain == "source" else self.target

    def loudness(self, point: OperatingPoint) -> float:
        """Amplitude relative to load 1 at the rated speed; speed enters by its power `sound_exponent`."""
        return float((point.speed_rpm / self.rated_rpm) ** self.sound_exponent * point.load**0.25)

    def force(self, point: OperatingPoint, phase: Samples, rng: np.random.Generator) -> Samples:
        """What shakes the structure and the air while all is well, (samples,), in arbitrary units.

        Args:
            point: speed and load.
            phase: of the shaft, radians, (samples,), from `rotation`.
            rng: draws the tones' phases, their small differences in strength, and the noise.
        """
        highest = NYQUIST_MARGIN * SAMPLE_RATE / 2 / point.shaft_hz
        lines = [line for line in self.lines(point.load) if line.order < highest]
        # temperature, lubrication, where the microphone hangs
        strengths = np.exp(rng.normal(0.0, LINE_SPREAD, len(lines)))
        varied = [Line(line.order, line.amplitude * s) for line, s in zip(lines, strengths, strict=True)]
        tones = locked_tones(varied, self.period, phase, rng)
        peak_hz = self.broadband_peak_hz * point.speed_rpm / self.rated_rpm  # Strouhal: f D / U is constant

        def hump(hertz: Samples) -> Samples:
            return hertz / peak_hz / (1 + (hertz / peak_hz) ** 2)

        level = self.broadband_level(point.load) * np.exp(rng.normal(0.0, BROADBAND_SPREAD))
        noise: Samples = level * shaped_noise(len(phase), hump, rng)
        return tones + noise


@dataclass(frozen=True)
class Fan(Unit):
    """An axial fan: blade-pass tones with sidebands at the shaft's rate, shaft orders, and noise of the flow."""

    machine = "fan"
    sound_exponent = 2.5  # fan law: level = 50 lg(n / n0) dB, so pressure goes with n^2.5

    blades: int

    @property
    def blade_pass_order(self) -> int:
        """Blade-pass frequency over the shaft's."""
        return self.blades

    @property
    def period(self) -> int:
        return 1

    @property
    def broadband_peak_hz(self) -> float:
        return 2.5 * self.blades * self.rated_rpm / 60

    def lines(self, load: int) -> tuple[Line, ...]:
        shaft = [Line(k, 0.25 / k) for k in range(1, 5)]
        pressure = 1 + 0.15 * (load - 1)
        passes = [line for m in range(1, 7) for line in with_sidebands(m * self.blades, pressure * m**-1.3, (0.10,), 1)]
        return (*shaft, *passes)

    def broadband_level(self, load: int) -> float:
        return 0.45 * (1 + 0.4 * (load - 1))  # a throttled fan stalls in places, and hisses


@dataclass(frozen=True)
class Gearbox(Unit):
    """One pair of spur gears: mesh tones with sidebands at either shaft's rate, both shafts, and friction."""

    machine = "gearbox"
    sound_exponent = 1.0  # gear noise: about 20 lg(n / n0) dB

    pinion_teeth: int
    wheel_teeth: int

    @property
    def mesh_order(self) -> int:
        """Gear-mesh frequency over the input shaft's: the pinion's teeth."""
        return self.pinion_teeth

    @property
    def wheel_order(self) -> float:
        """The output shaft's speed over the input shaft's."""
        return self.pinion_teeth / self.wheel_teeth

    @property
    def period(self) -> int:
        return self.wheel_teeth  # the numbers of teeth have no common divisor, so that all teeth wear alike

    @property
    def broadband_peak_hz(self) -> float:
        return 3.0 * self.pinion_teeth * self.rated_rpm / 60

    def lines(self, load: int) -> tuple[Line, ...]:
        shafts = [Line(k * order, 0.2 / k) for order in (1.0, self.wheel_order) for k in range(1, 4)]
        deflection = 0.8 + 0.2 * load  # teeth bend under load, and enter the mesh harder
        mesh: list[Line] = []
        for m in range(1, 6):
            mesh += with_sidebands(m * self.pinion_teeth, deflection * m**-1.1, (0.30, 0.12), 1.0)
            mesh += with_sidebands(m * self.pinion_teeth, deflection * m**-1.1, (0.15,), self.wheel_order)[1:]
        return (*shafts, *mesh)

    def broadband_level(self, load: int) -> float:
        return 0.5 * (1 + 0.25 * (load - 1))


def rotation(point: OperatingPoint, samples: int, rng: np.random.Generator) -> Samples:
    """Phase of the shaft in radians, (samples,): the integral of a speed that wanders slowly round the set one."""
    seconds = samples / SAMPLE_RATE
    knots = np.linspace(0.0, seconds, 2 + int(np.ceil(seconds * WANDER_KNOTS_PER_SECOND)))
    wander = np.interp(np.arange(samples) / SAMPLE_RATE, knots, rng.normal(0.0, SPEED_WANDER, len(knots)))
    hertz = point.shaft_hz * (1 + rng.normal(0.0, SPEED_WANDER) + wander)
    return np.asarray(rng.uniform(0.0, 2 * np.pi) + 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE, dtype=np.float64)
