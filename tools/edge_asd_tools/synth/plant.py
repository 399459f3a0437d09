"""Which clips the plant has, what each is called and what is in it: all of it follows from arguments and a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_asd.errors import UsageError
from edge_asd_tools.synth.faults import KINDS, Fault, FaultKind
from edge_asd_tools.synth.machines import Domain, OperatingPoint
from edge_asd_tools.synth.recording import ONSET_SECONDS, Onset, Pcm, Take, record
from edge_asd_tools.synth.units import PLANT, SECTIONS

Split = Literal["train", "test"]
Label = Literal["normal", "anomaly"]

# Places in a clip's seed: appended to, never reordered, or old seeds give other sounds.
_MACHINES = ("fan", "gearbox")
_DOMAINS: tuple[Domain, ...] = ("source", "target")
_SPLITS = ("train", "test", "recording")
_LABELS: tuple[Label, ...] = ("normal", "anomaly")

RECORDED_FAULTS: dict[str, FaultKind] = {"fan": "bearing", "gearbox": "bearing"}
RECORDED_SEVERITY = 3.5  # far beyond the clips' 0 to 1, where four networks of a few minutes each heard it plainly
LONGEST_CLIP_SECONDS = 60.0
LONGEST_RECORDING_SECONDS = 600.0
MOST_CLIPS = 10_000  # a clip's number has four digits


@dataclass(frozen=True)
class Clip:
    """One clip of the plant. Attributes: its place in the layout, what is recorded, and the key of its seed."""

    section: int
    split: Split
    label: Label
    index: int
    take: Take
    key: tuple[int, ...]

    @property
    def machine(self) -> str:
        """The machine type."""
        return self.take.unit.machine

    @property
    def name(self) -> str:
        """As DCASE 2022 names it; the fault is not told."""
        where = f"section_{self.section:02d}_{self.take.domain}_{self.split}_{self.label}"
        return f"{where}_{self.index:04d}_{self.take.point.attributes}.wav"

    @property
    def path(self) -> str:
        """Relative to the plant's folder, with forward slashes."""
        return f"{self.machine}/{self.split}/{self.name}"

    def samples(self) -> Pcm:
        """Its sound, (samples,)."""
        return record(self.take, _seed(self.key, "sound"))


@dataclass(frozen=True)
class Recording:
    """A unit that breaks while it is being recorded, for demonstrations of the alarm."""

    take: Take
    fault: Fault
    begins_s: float
    key: tuple[int, ...]

    @property
    def path(self) -> str:
        """Relative to the plant's folder; a sidecar with what happens stands beside it (.json)."""
        return f"recordings/{self.take.unit.machine}_{self.take.unit.section:02d}_fault.wav"

    @property
    def sidecar(self) -> dict[str, object]:
        """What happens when."""
        return {
            "machine": self.take.unit.machine,
            "section": f"{self.take.unit.section:02d}",
            "fault": self.fault.kind,
            "fault_begins_s": self.begins_s,
            "duration_s": self.take.seconds,
            "seed": self.key[0],
            "synthetic": True,
        }

    def samples(self) -> Pcm:
        """Its sound, (samples,)."""
        return record(self.take, _seed(self.key, "sound"))


@dataclass(frozen=True)
class Plan:
    """The arguments of `edge-asd data synth`, checked.

    Attributes:
        machines: types, of those in `PLANT`.
        sections: units of each type, from 00.
        train_clips: source normals for training, per section.
        target_clips: target normals for training, per section.
        test_clips: per section; a quarter for each of domain x label.
        seconds: of a clip.
        recording_seconds: of a recording.
        fault_at: second of the recording at which the fault begins.
        seed: of everything that is random.

    Raises:
        UsageError: one of them can't be; says what was found and what is allowed.
    """

    machines: tuple[str, ...] = ("fan", "gearbox")
    sections: int = 3
    train_clips: int = 40
    target_clips: int = 4
    test_clips: int = 20
    seconds: float = 10.0
    recording_seconds: float = 90.0
    fault_at: float = 45.0
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [machine for machine in self.machines if machine not in PLANT]
        if unknown or not self.machines or len(set(self.machines)) < len(self.machines):
            raise UsageError(
                f"--machines: found {','.join(self.machines)!r}; expected one or more of {', '.join(PLANT)}, "
                "each once, separated by commas."
            )
        _within("--sections", self.sections, 1, SECTIONS)
        _within("--train-clips", self.train_clips, 1, MOST_CLIPS)
        _within("--target-clips", self.target_clips, 0, MOST_CLIPS)
        _within("--test-clips", self.test_clips, 4, 4 * MOST_CLIPS)
        if self.test_clips % 4:
            raise UsageError(
                f"--test-clips: found {self.test_clips}; expected a multiple of 4, for normal and anomalous clips of "
                f"source and target, such as {self.test_clips - self.test_clips % 4 + 4}."
            )
        _within("--seconds", self.seconds, 1.0, LONGEST_CLIP_SECONDS)
        _within("--recording-seconds", self.recording_seconds, 2.0, LONGEST_RECORDING_SECONDS)
        latest = self.recording_seconds - ONSET_SECONDS
        if not 0.0 < self.fault_at <= latest:
            raise UsageError(
                f"--fault-at: found {self.fault_at:g}; expected more than 0 and at most {latest:g}, for the fault "
                f"needs {ONSET_SECONDS:g} s to grow in before the recording ends at --recording-seconds "
                f"{self.recording_seconds:g}."
            )
        _within("--seed", self.seed, 0, 2**32 - 1)

    @property
    def command(self) -> str:
        """The command that makes this very plant again."""
        return (
            f"edge-asd data synth OUT --machines {','.join(self.machines)} --sections {self.sections} "
            f"--train-clips {self.train_clips} --target-clips {self.target_clips} --test-clips {self.test_clips} "
            f"--seconds {_exact(self.seconds)} --recording-seconds {_exact(self.recording_seconds)} "
            f"--fault-at {_exact(self.fault_at)} --seed {self.seed}"
        )

    def clips(self) -> Iterator[Clip]:
        """Every clip, section after section."""
        quarter = self.test_clips // 4
        for machine in self.machines:
            for section in range(self.sections):
                for domain, number in zip(_DOMAINS, (self.train_clips, self.target_clips), strict=True):
                    yield from (self._clip(machine, section, domain, "train", "normal", i) for i in range(number))
                for domain in _DOMAINS:
                    for label in _LABELS:
                        yield from (self._clip(machine, section, domain, "test", label, i) for i in range(quarter))

    def recordings(self) -> Iterator[Recording]:
        """One of each machine's section 00, in its source domain."""
        for machine in self.machines:
            unit = PLANT[machine][0]
            key = (self.seed, _MACHINES.index(machine), 0, 0, _SPLITS.index("recording"), 0, 0)
            point = _drawn(unit.source.points, np.random.default_rng(_seed(key, "choice")))
            fault = Fault(RECORDED_FAULTS[machine], RECORDED_SEVERITY)
            take = Take(unit, "source", point, self.recording_seconds, Onset(fault, self.fault_at))
            yield Recording(take, fault, self.fault_at, key)

    def _clip(self, machine: str, section: int, domain: Domain, split: Split, label: Label, index: int) -> Clip:
        place = (_DOMAINS.index(domain), _SPLITS.index(split), _LABELS.index(label))
        key = (self.seed, _MACHINES.index(machine), section, *place, index)
        rng = np.random.default_rng(_seed(key, "choice"))
        unit = PLANT[machine][section]
        points = unit.setting(domain).points
        # In training each operating point has its turn, for a target domain of four clips should still show them all.
        point = points[index % len(points)] if split == "train" else _drawn(points, rng)
        onset = None
        if label == "anomaly":
            # Likewise each fault, and the target's clips begin elsewhere in the list than the source's.
            onset = Onset(Fault(KINDS[(index + 2 * place[0]) % len(KINDS)], float(rng.uniform())))
        return Clip(section, split, label, index, Take(unit, domain, point, self.seconds, onset), key)


def _seed(key: tuple[int, ...], purpose: Literal["choice", "sound"]) -> np.random.SeedSequence:
    """A clip's seed: of what is chosen for it, or of how it sounds. Keys all have the same length."""
    return np.random.SeedSequence([*key, 0 if purpose == "choice" else 1])


def _drawn(points: tuple[OperatingPoint, ...], rng: np.random.Generator) -> OperatingPoint:
    return points[int(rng.integers(len(points)))]


def _exact(number: float) -> str:
    """The shortest text that reads back as this very number."""
    return repr(float(number)).removesuffix(".0")


def _within(option: str, found: float, least: float, most: float) -> None:
    if not (math.isfinite(found) and least <= found <= most):
        raise UsageError(f"{option}: found {found:g}; expected {least:g} to {most:g}.")
