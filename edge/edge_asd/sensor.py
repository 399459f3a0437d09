"""Whether the microphone hears rightly: what a broken one gives is no sound of the machine, and must not be scored.

    Block --Sensor.take--> SensorChange("raised" | "cleared", fault, ...)

| fault    | found                                                                  | the scores   |
|----------|------------------------------------------------------------------------|--------------|
| absent   | no samples                                                             | mean nothing |
| stuck    | every sample is the same                                               | mean nothing |
| silent   | quieter than any room                                                  | mean nothing |
| gaps     | in a minute never 10 s without lost samples, so not one score          | there are none |
| clipping | too many samples at full scale                                         | mean nothing |
| rate     | another number of samples a second than was promised                   | mean nothing |
| level    | quieter than at commissioning, as a microphone that fell or is covered | mean nothing |
| level    | louder than at commissioning, as a machine that breaks may be          | still count  |

A fault is cleared when nothing of it was found for some seconds on end, so that one that comes and goes is told once.
Nothing here knows a clock or a disk, and what is kept doesn't grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec

from edge_asd.capture import Block
from edge_asd.sensor_measures import (
    CLIPPING_SECONDS,
    FLAT,
    FLOOR_DBFS,
    Clipped,
    Count,
    Kind,
    Level,
    Moment,
    Watch,
    dbfs,
)
from edge_asd.settings import SensorSettings

Fault = Literal["absent", "stuck", "silent", "gaps", "clipping", "rate", "level"]

FAULTS: tuple[Fault, ...] = ("absent", "stuck", "silent", "gaps", "clipping", "rate", "level")  # the most telling first
WHOLE_SECONDS = 10.5  # without a gap, of which a score can be
GAPS_SECONDS = 60.0  # in which there should be so much
MOMENT_SECONDS = 0.25  # of one measurement of RMS and peak
STALE_SECONDS = 1.0  # without samples, after which the last measurement says nothing any more
LEVEL_RETURN_DB = 3.0  # a level must come so much nearer than it may be off, before it is held right again


@dataclass(frozen=True)
class SensorRule:
    """When the microphone doesn't hear rightly.

    Attributes:
        silence_dbfs: RMS below which it hears nothing, dB of full scale.
        silence_seconds, stuck_seconds, absent_seconds: so long, before it is said.
        clipping_share: of the samples of 10 s at full scale, above which they can't be trusted.
        level_db: how far the median level of 5 minutes may be from `reference_dbfs`; 0 doesn't look.
        rate_share: how far the number of samples in a minute may be from what was promised; 0 doesn't look.
        reference_dbfs: the level at commissioning; None doesn't look at the level.
    """

    silence_dbfs: float = -85.0
    silence_seconds: float = 10.0
    stuck_seconds: float = 1.0
    absent_seconds: float = 10.0
    clipping_share: float = 0.02
    level_db: float = 12.0
    rate_share: float = 0.02
    reference_dbfs: float | None = None


@dataclass(frozen=True)
class SensorChange:
    """A fault that was raised or cleared.

    Attributes:
        kind, fault: what happened.
        seconds: into the stream, where the fault began or ended.
        said: for a person: what was found, what was expected, and what to do.
    """

    kind: Kind
    fault: Fault
    seconds: float
    said: str


def rule_of(settings: SensorSettings, reference_dbfs: float | None) -> SensorRule:
    """The rule that a configuration asks for, with the level at commissioning (dBFS), where that was measured."""
    return SensorRule(**msgspec.structs.asdict(settings), reference_dbfs=reference_dbfs)


class Sensor:
    """Blocks in, faults that begin or end out, in the order of time."""

    def __init__(self, rule: SensorRule, sample_rate: int, *, paced: bool = True, source_samples: float = 1.0) -> None:
        """Watch a stream from its beginning.

        Args:
            rule: when something is a fault.
            sample_rate: of the blocks, Hz.
            paced: samples come as fast as time passes; of a replay that doesn't keep time, `rate` isn't judged.
            source_samples: of the source, in all its channels, in one sample of a block: what a block's `clipped` is
                to be divided by.
        """
        self.rule = rule
        """The one in force; another one is in force from the next block on."""
        self._rate = sample_rate
        self._paced = paced
        self._source_samples = source_samples
        self._samples = 0  # the stream so far, what was lost included
        self._now: float | None = None
        self._unheard = 0.0  # seconds since the last samples
        self._flat_at: float | None = None  # the value that all samples lately have
        self._moment = Moment(0.0)
        self._clipped = Clipped(sample_rate)
        self._level = Level(sample_rate)
        self._low = False  # the fault of the level is one of too little
        self._count = Count()
        self._count_before = (0, 0.0)  # -1 or 1 where too few or too many came in a minute, and where that began
        self._since_gap = self._since_whole = 0.0  # seconds heard since the last gap, and the last 10 s without one
        self._watches = {fault: Watch() for fault in FAULTS}
        self.rms_dbfs = FLOOR_DBFS
        """Of the last quarter of a second, without a constant part."""
        self.peak_dbfs = FLOOR_DBFS
        """Of the last quarter of a second."""

    @property
    def level_dbfs(self) -> float | None:
        """The median of the RMS level of every second in the last 5 minutes; None before there is a minute of them."""
        return self._level.dbfs

    @property
    def seconds(self) -> float:
        """How far into the stream, what was lost included."""
        return self._samples / self._rate

    @property
    def faults(self) -> list[Fault]:
        """Those that last, the most telling first."""
        return [fault for fault in FAULTS if self._watches[fault].on]

    @property
    def gates(self) -> bool:
        """Whether scores mean nothing at present."""
        return any(fault != "level" or self._low for fault in self.faults)

    @property
    def suspects(self) -> bool:
        """Whether there is nothing to hear at present, for too short a time yet to be a fault."""
        return any(watch.pending for watch in (self._watches["stuck"], self._watches["silent"]))

    def take(self, block: Block, now: float) -> list[SensorChange]:
        """One block, which came at `now`, seconds of a clock that only goes forward."""
        passed = 0.0 if self._now is None else now - self._now
        self._now = now
        if block.lost or block.recording:
            self._samples += block.lost
            self._watches["stuck"].interrupt()
            self._watches["silent"].interrupt()
            self._flat_at = None
            self._moment = Moment(self.seconds)
        changes = [self._judge_absence(block, passed), self._judge_gaps(block)]
        if len(block.samples):
            changes.append(self._measure(block))
            self._samples += len(block.samples)
            if self._moment.samples >= MOMENT_SECONDS * self._rate:
                changes += self._end_moment()
        if self._paced:
            changes.append(self._judge_rate(block, now))
        return [change for change in changes if change]

    def _judge_absence(self, block: Block, passed: float) -> SensorChange | None:
        heard = len(block.samples)
        watch = self._watches["absent"]
        self._unheard = 0.0 if heard else self._unheard + passed
        if block.absent or self._unheard >= STALE_SECONDS:
            self.rms_dbfs = self.peak_dbfs = FLOOR_DBFS
        # A resampler has nothing to give now and then: between samples that is no absence.
        bad = False if heard else True if block.absent or not watch.on else None
        turn = watch.take(bad, self.seconds, heard / self._rate if heard else passed, self.rule.absent_seconds)
        return turn and self._change(
            "absent",
            *turn,
            f"gets no samples for {self._unheard:.0f} s ({block.absent or 'its program runs and gives nothing'}), "
            f"expected {self._rate} a second: is the microphone plugged in, and is it what [capture] in the "
            "configuration names? `arecord -L` lists what there is",
            "gets samples again",
        )

    def _judge_gaps(self, block: Block) -> SensorChange | None:
        """Whether samples are lost so often that there is never a score."""
        heard = len(block.samples) / self._rate
        self._since_gap = heard + (0.0 if block.lost else self._since_gap)
        self._since_whole = 0.0 if self._since_gap >= WHOLE_SECONDS else self._since_whole + heard
        bad = self._since_whole > GAPS_SECONDS if heard else None
        turn = self._watches["gaps"].take(bad, max(0.0, self.seconds - self._since_whole), heard, 0.0)
        return turn and self._change(
            "gaps",
            *turn,
            f"loses samples so often that in {GAPS_SECONDS:g} s there are never {WHOLE_SECONDS:g} s without a gap, "
            "which a score is of: is this machine too slow or too busy (see `edge-asd bench`), or a cable loose?",
            "is heard without gaps again",
        )

    def _measure(self, block: Block) -> SensorChange | None:
        """Measure the samples, and see whether they are all the same."""
        low, high = float(block.samples.min()), float(block.samples.max())
        self._moment.add(block, low, high, min(block.clipped / self._source_samples, len(block.samples)))
        flat = high - low <= FLAT
        watch = self._watches["stuck"]
        if flat and (self._flat_at is None or abs(low - self._flat_at) > FLAT):
            watch.interrupt()  # it sticks at another value
            self._flat_at = low
        elif not flat:
            self._flat_at = None
        turn = watch.take(flat, self.seconds, len(block.samples) / self._rate, self.rule.stuck_seconds)
        what = "nothing but zeros" if abs(low) <= FLAT else "the same sample again and again"
        return turn and self._change(
            "stuck",
            *turn,
            f"gets {what} ({low:.4f} for {self.rule.stuck_seconds:g} s), expected samples that differ: is the "
            "microphone muted (see alsamixer), is it on another channel (see capture.channel), or has its driver hung "
            "(plug it in anew)?",
            "gets samples that differ again",
        )

    def _end_moment(self) -> list[SensorChange | None]:
        moment, self._moment = self._moment, Moment(self.seconds)
        self.rms_dbfs = dbfs(moment.power)
        self.peak_dbfs = dbfs(moment.peak**2)
        changes = [self._judge_silence(moment), self._judge_clipping(moment)]
        # While there is nothing to hear its level says nothing about the machine or where the microphone is.
        deaf = any(self._watches[fault].on for fault in FAULTS[:3])
        if not deaf and self._level.add(moment, self.seconds):
            changes += self._judge_level()
        return changes

    def _judge_silence(self, moment: Moment) -> SensorChange | None:
        rule = self.rule
        bad = None if moment.flat else self.rms_dbfs < rule.silence_dbfs  # what is flat is another fault
        turn = self._watches["silent"].take(bad, moment.began, moment.samples / self._rate, rule.silence_seconds)
        return turn and self._change(
            "silent",
            *turn,
            f"hears nothing ({self.rms_dbfs:.0f} dBFS for {rule.silence_seconds:g} s, a room is above "
            f"{rule.silence_dbfs:g}): is the microphone muted or its gain at 0? See alsamixer",
            f"hears something again ({self.rms_dbfs:.0f} dBFS)",
        )

    def _judge_clipping(self, moment: Moment) -> SensorChange | None:
        self._clipped.add(moment)
        share, allowed = self._clipped.share, self.rule.clipping_share
        bad = share > allowed
        at = self._clipped.began if bad else moment.began
        turn = self._watches["clipping"].take(bad, at, moment.samples / self._rate, 0.0)
        return turn and self._change(
            "clipping",
            *turn,
            f"{share:.1%} of the samples of {CLIPPING_SECONDS:g} s are at full scale, expected at most {allowed:.1%}: "
            "lower the microphone's gain (see alsamixer), or move it away from what is so loud",
            "the samples are below full scale again",
        )

    def _judge_level(self) -> list[SensorChange | None]:
        level, expected, allowed = self.level_dbfs, self.rule.reference_dbfs, self.rule.level_db
        watch = self._watches["level"]
        if level is None or expected is None or not allowed:
            if not watch.on:
                return []
            watch.on = False
            return [SensorChange("cleared", "level", self.seconds, "isn't compared with a level any more")]
        off = level - expected
        found = f"has a median level of {level:.0f} dBFS, {off:+.0f} dB from commissioning ({expected:.0f} dBFS)"
        changes: list[SensorChange | None] = []
        if watch.on and (abs(off) <= max(allowed - LEVEL_RETURN_DB, allowed / 2) or (off < 0) != self._low):
            watch.on = False
            changes.append(SensorChange("cleared", "level", self.seconds, found))
        if not watch.on and abs(off) > allowed:
            watch.on, self._low = True, off < 0
            why = (
                "has the microphone moved, is it covered, or is its gain lower?"
                if self._low
                else "is the machine louder, has the microphone moved, or is its gain higher?"
            )
            said = (
                f"{found}, expected within {allowed:g} dB: {why} If it is to stay so, run `edge-asd commission` again"
            )
            changes.append(SensorChange("raised", "level", self._level.began, said))
        return changes

    def _judge_rate(self, block: Block, now: float) -> SensorChange | None:
        if block.absent or self._watches["absent"].on:
            self._count.forget()
            self._count_before = (0, 0.0)
            return None
        found = self._count.add(block, now, self.seconds)
        if found is None:
            return None
        off, allowed = found / self._rate - 1, self.rule.rate_share or math.inf
        sign = 0 if abs(off) <= allowed else 1 if off > 0 else -1
        sign_before, began_before = self._count_before
        self._count_before = sign, self._count.began
        watch = self._watches["rate"]
        what = f"gets {found:.0f} samples a second"
        # Too few and too many in turn are no fault: a machine that was busy read late what had come in time.
        if not watch.on and sign and sign == sign_before:
            watch.on = True
            said = (
                f"{what}, expected {self._rate} ({off:+.1%}): does the microphone give what capture.rate and "
                "capture.channels say, and is this machine quick enough to take it?"
            )
            return SensorChange("raised", "rate", began_before, said)
        if watch.on and not sign:
            watch.on = False
            return SensorChange("cleared", "rate", self._count.began, f"{what} again")
        return None

    def _change(self, fault: Fault, kind: Kind, seconds: float, raised: str, cleared: str) -> SensorChange:
        return SensorChange(kind, fault, seconds, raised if kind == "raised" else cleared)
