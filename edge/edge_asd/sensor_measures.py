"""What `sensor` measures of a stream, and how long a fault must last or be gone: none of it knows a clock."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Literal

from edge_asd.capture import Block

FLOOR_DBFS = -150.0  # what no sound at all counts as
GOOD_SECONDS = 5.0  # without a fault, before it is cleared
CLIPPING_SECONDS = 10.0  # over which clipped samples are counted
RATE_SECONDS = 60.0  # over which samples are counted
LEVEL_SECONDS = 300  # over which the median of the level is taken,
LEVEL_LEAST_SECONDS = 60.0  # and the least for which there is one
FLAT = 4e-6  # an eighth of a step of 16 bits: what the resampler makes of samples that are all the same

_ROUNDING = 1e-9  # seconds; a sum of many blocks is no round number

Kind = Literal["raised", "cleared"]


class Watch:
    """One fault: raised when bad has lasted long enough on end, cleared when good has."""

    def __init__(self) -> None:
        self.on = False
        self._good_from = 0.0
        self._good_for: float | None = None
        self.interrupt()

    @property
    def pending(self) -> bool:
        """It is bad, and not for long enough to be a fault."""
        return self._bad_for is not None and not self.on

    def interrupt(self) -> None:
        """What was bad before has nothing to do with what comes."""
        self._bad_from = 0.0
        self._bad_for: float | None = None

    def take(self, bad: bool | None, at: float, lasted: float, needs: float) -> tuple[Kind, float] | None:
        """A piece from `at` that lasted so many seconds; None is neither bad nor good. Gives a turn, and its place."""
        if bad is None:
            return None
        if bad:
            self._good_for = None
            if self._bad_for is None:
                self._bad_from, self._bad_for = at, 0.0
            self._bad_for += lasted
            if not self.on and self._bad_for >= needs - _ROUNDING:
                self.on = True
                return "raised", self._bad_from
            return None
        self.interrupt()
        if not self.on:
            return None
        if self._good_for is None:
            self._good_from, self._good_for = at, 0.0
        self._good_for += lasted
        if self._good_for < GOOD_SECONDS - _ROUNDING:
            return None
        self.on, self._good_for = False, None
        return "cleared", self._good_from


class Moment:
    """The measurements of a quarter of a second, block by block."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.samples = 0
        self.clipped = 0.0
        self._low, self._high = math.inf, -math.inf
        self._sum = self._energy = 0.0

    def add(self, block: Block, low: float, high: float, clipped: float) -> None:
        """One block with samples, its lowest and its highest, and how many of it were clipped at the source."""
        samples = block.samples
        mean = float(samples.mean())
        rest = samples - mean  # else what varies little around a large constant drowns in float32's rounding
        self.samples += len(samples)
        self.clipped += clipped
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._sum += mean * len(samples)
        self._energy += float(rest @ rest) + mean**2 * len(samples)

    @property
    def flat(self) -> bool:
        """Whether all samples are the same."""
        return self._high - self._low <= FLAT

    @property
    def peak(self) -> float:
        """The largest magnitude of a sample."""
        return max(self._high, -self._low)

    @property
    def power(self) -> float:
        """The mean square about the mean: a constant is no sound."""
        return max(0.0, self._energy / self.samples - (self._sum / self.samples) ** 2)


class Clipped:
    """The share of samples at full scale in the last 10 s; what wasn't heard yet counts as not clipped."""

    def __init__(self, sample_rate: int) -> None:
        self._whole = CLIPPING_SECONDS * sample_rate
        self._moments: deque[Moment] = deque()
        self._samples = 0

    def add(self, moment: Moment) -> None:
        """A moment that ended."""
        self._moments.append(moment)
        self._samples += moment.samples
        while self._samples - self._moments[0].samples >= self._whole:
            self._samples -= self._moments.popleft().samples

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return sum(moment.clipped for moment in self._moments) / self._whole

    @property
    def began(self) -> float:
        """Seconds into the stream, of the first moment with clipped samples."""
        return next((moment.began for moment in self._moments if moment.clipped), 0.0)


class Level:
    """The median, over the last 5 minutes, of the RMS level of every second."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._samples, self._energy = 0, 0.0  # of a second that isn't whole yet
        self._seconds: deque[tuple[float, float, float]] = deque(maxlen=LEVEL_SECONDS)  # ended, lasted, dBFS
        self.dbfs: float | None = None
        """None before there is a minute of it."""

    def add(self, moment: Moment, ended: float) -> bool:
        """A moment that ended so many seconds into the stream; true where it makes a second whole."""
        self._samples += moment.samples
        self._energy += moment.power * moment.samples
        if self._samples < self._rate:
            return False
        self._seconds.append((ended, self._samples / self._rate, dbfs(self._energy / self._samples)))
        self._samples, self._energy = 0, 0.0
        while self._seconds[0][0] <= ended - LEVEL_SECONDS:
            self._seconds.popleft()
        enough = sum(lasted for _, lasted, _ in self._seconds) >= LEVEL_LEAST_SECONDS
        self.dbfs = median(level for _, _, level in self._seconds) if enough else None
        return True

    @property
    def began(self) -> float:
        """Seconds into the stream, of the first second that is counted."""
        return self._seconds[0][0] - self._seconds[0][1] if self._seconds else 0.0


class Count:
    """Samples a second in every minute, the lost ones included."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._samples = 0
        self.began = 0.0
        """Seconds into the stream, of the last minute that was whole."""
        self._begins = 0.0

    def forget(self) -> None:
        """Of this minute nothing is to be counted; the next begins with the next samples."""
        self._since = None

    def add(self, block: Block, now: float, seconds: float) -> float | None:
        """One block, which came at `now` and ends `seconds` into the stream; gives samples a second, once a minute."""
        if self._since is None:
            if len(block.samples):
                self._since, self._samples, self._begins = now, 0, seconds
            return None
        self._samples += len(block.samples) + block.lost
        lasted = now - self._since
        if lasted < RATE_SECONDS:
            return None
        found = self._samples / lasted
        self.began = self._begins
        self._since, self._samples, self._begins = now, 0, seconds
        return found


def dbfs(power: float) -> float:
    """A mean square in dB of full scale: a square wave at full scale has 0."""
    return max(FLOOR_DBFS, 10 * math.log10(max(power, 1e-30)))
