"""How high a threshold must be for at most so many false alarms a week: from scores of normal sound. Pure.

A daemon raises an alert when its scores stay above the threshold for some time, so what counts is the running minimum
over that time, the sustained score: when it passes the threshold an alert is raised. Its maxima over blocks of 10 s,
which is how far back a score listens, say how high normal sound gets; a week has 60,480 of them.

What is rarer than the recordings are long must be extrapolated. Above a level u that a tenth of the blocks passes (10
to 30 of them) the tail is taken for exponential: peaks over threshold (Davison and Smith 1990). Its scale is known
from no more than k excesses and their sum S, and taken for known it would promise too few alerts. But

    P(block > u + x) = (k + 1) / (n + 1) * (1 + x / S)^-k

is right on average over all the recordings that might have been made, wherever the tail is exponential: u and S are
then independent, the mean of the share above u is (k + 1) / (n + 1), and that of exp(-x / scale) at x = c S is
(1 + c)^-k. High blocks come in company, for it is an hour that is odd and not ten seconds; k of them are worth no more
than k / D independent ones, D being how much more their number varies than by chance: from minute to minute, from ten
minutes to ten minutes, from recording to recording.

A gamma distribution fitted to all maxima, as in `detection`, would let the bulk of them decide on the tail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import DataError
from edge_asd.scoring import Score
from edge_asd.verdict import AlarmRule, Judge

WEEK = 7 * 24 * 3600.0
BLOCK_SECONDS = 10.0
STRETCHES = (6, 60, 10**9)  # blocks: a minute, ten minutes, a whole recording
FEWEST_BLOCKS = 20
SHARE_ABOVE, FEWEST_ABOVE, MOST_ABOVE = 0.1, 10, 30
# What a single score is worth in seconds of listening: so long scores stay above a level that one in 10,000 passes,
# if the windows that they are means of have nothing in common; 4 s and more if they have.
LOOK_SECONDS = 2.5
SAME = 1e-5  # relative spread below which scores are equal, as in `detection`, which would bring PyTorch along
BY_CHANCE = 0.01

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recording:
    """What listening to one recording gave.

    Attributes:
        name: for errors.
        seconds: (n,), n > 0: when each score was ready.
        scores: (n,), equally far apart. Of a recording that is too short for a stream's score, that of the whole.
    """

    name: str
    seconds: Values
    scores: Values


@dataclass(frozen=True)
class Tail:
    """How often the sustained score passes a level that most blocks stay below, and any higher one.

    Attributes:
        level: u.
        per_week: blocks a week that pass it.
        scale: mean excess over it, S / k.
        points: how many independent excesses that mean is worth, k / D, or 1.
    """

    level: float
    per_week: float
    scale: float
    points: float

    def alerts(self, threshold: float) -> float:
        """Alerts a week at a threshold that isn't below the level."""
        excess = (threshold - self.level) / (self.points * self.scale)
        return float(self.per_week * (1.0 + excess) ** -self.points)

    def threshold(self, alerts: float) -> float:
        """Where so many alerts a week, fewer than pass the level, are to be expected."""
        rarer = (self.per_week / alerts) ** (1.0 / self.points)
        return float(self.level + self.points * self.scale * (rarer - 1.0))


@dataclass(frozen=True)
class Outlook:
    """What a threshold means.

    Attributes:
        threshold: a score above it is strange.
        alerts: that it would have raised in what was recorded.
        lasting: share of the time in which one of them lasted.
        per_week: alerts a week to be expected: extrapolated where they are rare, and never fewer than were counted.
    """

    threshold: float
    alerts: int
    lasting: float
    per_week: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """Recordings, and what they say about any threshold.

    Attributes:
        recordings: of normal sound.
        rule: of the daemon; its threshold isn't used.
        seconds: for which was listened, that is, in which an alert could have been raised.
        maxima: (blocks,) of the sustained score.
        tail: of these.
    """

    recordings: Sequence[Recording]
    rule: AlarmRule
    seconds: float
    maxima: Values
    tail: Tail

    def outlook(self, threshold: float) -> Outlook:
        """What a threshold would have meant in what was recorded, and will in a week."""
        alerts, lasted = self._counted(threshold)
        per_week = alerts * WEEK / self.seconds
        if threshold >= self.tail.level:
            per_week = max(per_week, self.tail.alerts(threshold))
        return Outlook(threshold, alerts, float(lasted / self.seconds), float(per_week))

    def lowest_threshold(self, per_week: float) -> float:
        """The lowest threshold at which no more alerts a week (> 0) are expected, and no more were counted.

        It is never below the median of the blocks' maxima: there the machine would be in alert half of the time.
        """
        counted = self._lowest_counted(int(per_week * self.seconds / WEEK))
        return max(counted, self.tail.threshold(per_week)) if per_week < self.tail.per_week else counted

    def extrapolation(self, per_week: float) -> float:
        """How many times as long as was listened is the time in which one alert may be raised."""
        return WEEK / per_week / self.seconds

    def highest(self) -> tuple[str, float, float]:
        """The largest sustained score: in which recording, at which second of it, and its value."""
        found = [sustained(one, self.rule.minimum_seconds) for one in self.recordings]
        one, values = max(zip(self.recordings, found, strict=True), key=lambda both: float(both[1].max()))
        at = int(np.argmax(values)) + len(one.scores) - len(values)
        return one.name, float(one.seconds[at]), float(values.max())

    def stands_alone(self) -> bool:
        """Whether the largest excess is far beyond the others: a door that slammed, or a tail heavier than was taken.

        Fisher's test: of k exponential variables one has a share of g or more in the sum with P <= k (1 - g)^(k - 1).
        """
        excess = self.maxima[self.maxima > self.tail.level] - self.tail.level
        share = float(excess.max() / excess.sum())
        return len(excess) * (1.0 - share) ** (len(excess) - 1) < BY_CHANCE

    def _counted(self, threshold: float) -> tuple[int, float]:
        """Alerts in what was recorded, and how many seconds they lasted."""
        rule = replace(self.rule, threshold=threshold)
        counts = [_judged(one, rule) for one in self.recordings]
        return sum(alerts for alerts, _ in counts), sum(lasted for _, lasted in counts)

    def _lowest_counted(self, allowed: int) -> float:
        """The lowest of the blocks' maxima at which no more alerts would have been raised than are allowed.

        Searched from above: far below, alerts that never end would be few again.
        """
        peaks = np.sort(self.maxima)[::-1]
        quiet, loud, last = 0, 1, len(peaks) // 2

        def fits(rank: int) -> bool:
            return self._counted(float(peaks[rank]))[0] <= allowed

        while allowed and loud <= last and fits(loud):
            quiet, loud = loud, 2 * loud
        loud = min(loud, last + 1)
        while allowed and loud - quiet > 1:
            between = (quiet + loud) // 2
            quiet, loud = (between, loud) if fits(between) else (quiet, between)
        return float(peaks[quiet])


def evidence(recordings: Iterable[Recording], rule: AlarmRule) -> Evidence:
    """What recordings of a machine that runs normally say.

    Raises:
        DataError: they are too short to say anything, or their scores are none: not finite, or all the same.
    """
    known = tuple(recordings)
    for one in known:
        _check(one)
    found = [sustained(one, rule.minimum_seconds) for one in known]
    listened = [_listened(one, len(values)) for one, values in zip(known, found, strict=True)]
    blocks = [_maxima(*both) for both in zip(found, listened, strict=True)]
    maxima = np.concatenate(blocks) if blocks else np.empty(0)
    if len(maxima) < FEWEST_BLOCKS:
        least = (FEWEST_BLOCKS + 1) * BLOCK_SECONDS + rule.minimum_seconds
        raise DataError(
            f"{len(maxima)} blocks of 10 s in {len(known)} recordings don't say how high normal scores get; record at "
            f"least {least / 60:.1f} minutes at a stretch, or {FEWEST_BLOCKS} clips of 10 s. Hours are better."
        )
    return Evidence(known, rule, sum(listened), maxima, _tail(blocks, sum(listened)))


def sustained(one: Recording, minimum_seconds: float) -> Values:
    """The running minimum of a recording's scores over so many seconds, (m,), the last of them at its end.

    Of a recording shorter than that the minimum of all, (1,), which is rather too high than too low.
    """
    back = int(np.ceil(minimum_seconds / _hop(one) - 1e-6)) if len(one.scores) > 1 else 0
    back = min(back, len(one.scores) - 1)
    least: Values = np.lib.stride_tricks.sliding_window_view(one.scores, back + 1).min(axis=1)
    return least


def _check(one: Recording) -> None:
    if not np.isfinite(one.scores).all():
        raise DataError(f"{one.name}: has scores that are not finite; record it again or leave it out.")
    if len(one.scores) > 1 and np.ptp(one.scores) <= SAME * np.abs(one.scores).max():
        raise DataError(
            f"{one.name}: all its {len(one.scores)} scores are {one.scores[0]:.4g}, which no running machine's are; "
            "is it silent, or clipped throughout? Record it again or leave it out."
        )


def _hop(one: Recording) -> float:
    """Seconds from score to score."""
    return float(one.seconds[-1] - one.seconds[0]) / (len(one.seconds) - 1)


def _listened(one: Recording, values: int) -> float:
    """How many seconds of listening so many sustained scores are."""
    return LOOK_SECONDS + (values - 1) * (_hop(one) if values > 1 else 0.0)


def _maxima(values: Values, seconds: float) -> Values:
    """The maxima of blocks of about 10 s, at least one."""
    parts = min(len(values), max(1, round(seconds / BLOCK_SECONDS)))
    return np.array([part.max() for part in np.array_split(values, parts)])


def _stretches(blocks: Sequence[Values], length: int) -> NDArray[np.int64]:
    """Which stretch of so many blocks each block belongs to, (blocks,); recordings share none."""
    within = [np.arange(len(one)) // length for one in blocks]
    starts = np.cumsum([0, *(one[-1] + 1 for one in within[:-1])])
    return np.concatenate([one + start for one, start in zip(within, starts, strict=True)])


def _tail(blocks: Sequence[Values], seconds: float) -> Tail:
    """Of the recordings' maxima, in so many seconds of listening; see the module. Raises: DataError."""
    maxima = np.concatenate(blocks)
    highest = np.sort(maxima)[::-1]
    level = highest[int(np.clip(round(SHARE_ABOVE * len(maxima)), FEWEST_ABOVE, MOST_ABOVE))]
    above = maxima > level
    count = int(above.sum())
    if not count:
        raise DataError(
            f"the highest scores are all {level:.4g}, as if they could get no higher; no threshold follows from that."
        )
    company = max(_design_effect(above, _stretches(blocks, length)) for length in STRETCHES)
    points = max(1.0, count / max(1.0, company))
    # The n of the formula is as many blocks as the time holds, of which k stood for `points`.
    per_week = WEEK / BLOCK_SECONDS * (points + 1) / (seconds / BLOCK_SECONDS * points / count + 1)
    return Tail(float(level), float(per_week), float((maxima[above] - level).mean()), points)


def _design_effect(above: NDArray[np.bool_], stretches: NDArray[np.int64]) -> float:
    """The variance of the number of high blocks in a stretch, as a multiple of what it is by chance."""
    share = above.mean()
    blocks = np.bincount(stretches)
    high = np.bincount(stretches, above)
    return float(((high - blocks * share) ** 2).sum() / (blocks * share * (1.0 - share)).sum())


def _judged(one: Recording, rule: AlarmRule) -> tuple[int, float]:
    """Alerts that a daemon would have raised, and how many seconds they lasted.

    One that couldn't have raised any, for it is too short, has raised one if all its scores are strange.
    """
    if len(values := sustained(one, rule.minimum_seconds)) == 1:
        strange = float(values[0]) > rule.threshold
        return int(strange), strange * LOOK_SECONDS
    judge, alerts, lasted, raised = Judge(rule), 0, 0.0, None
    for value, seconds in zip(one.scores.tolist(), one.seconds.tolist(), strict=True):
        change = judge.take(Score(value, "", seconds))
        if change and change.kind == "raised":
            alerts, raised = alerts + 1, seconds
        elif change and raised is not None:
            lasted, raised = lasted + seconds - raised, None
    return alerts, lasted + (one.seconds[-1] - raised if raised is not None else 0.0)
