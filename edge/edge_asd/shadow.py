"""What a bundle that runs and one that shadows it say of the same moments, side by side. Pure, and bounded.

A shadow scores beside the running bundle, on the same samples, and raises nothing. What is compared is every moment at
which both gave a score and the microphone heard well. Of these all are counted; to say how the scores are spread, and
whether they rank the moments alike, pairs of them are kept, thinned: at most 4096, at first of every moment; whenever
they are full every second one goes, and from then on half as many are taken. So they are always evenly spread over all
that was compared: of a day every 128th moment (33 s), of a month every 4096th. They are kept to six digits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge_asd.scoring import Score
from edge_asd.verdict import AlarmRule, Judge

MOST_PAIRS = 4096
MOST_DISAGREEMENTS = 16
DIGITS = 6

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Text = Annotated[str, Meta(max_length=200)]
Pair = tuple[float, float]  # the running bundle's score, and the shadow's


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is read back knows all that it reads."""


class Side(_Strict, frozen=True, forbid_unknown_fields=True):
    """One of the two: what it is held against decides what it says, so another threshold is another side.

    Attributes:
        bundle: its digest, 16 digits.
        section: that it scores.
        threshold: its own.
        site: when what it knows of its site was learned, UTC; "" where it knows nothing of it.
    """

    bundle: Text
    section: Text
    threshold: float
    site: Text = ""


class Tally(_Strict, frozen=True, forbid_unknown_fields=True):
    """Of one side: moments above its threshold, alerts that it would have raised, its least and its largest score."""

    above: Count = 0
    alerts: Count = 0
    least: float | None = None
    most: float | None = None


class Disagreement(_Strict, frozen=True, forbid_unknown_fields=True):
    """One is above its threshold and the other isn't, as of now: when that began, and what they scored then."""

    utc: Text
    running: float
    shadow: float


class Record(_Strict, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that is known of a comparison, as it is kept.

    Attributes:
        format_version: 1.
        since, updated: when it began, and when this was so, UTC.
        running, shadow: the two.
        moment_seconds: from moment to moment.
        moments: that were compared.
        of_running, of_shadow: what they came to.
        only_running, only_shadow: moments at which only that one was above its threshold.
        disagreements: the newest stretches of such moments.
        stride: a pair is kept of every so many moments.
        pairs: these.
    """

    format_version: Literal[1] = 1
    since: Text
    updated: Text
    running: Side
    shadow: Side
    moment_seconds: Annotated[float, Meta(gt=0, le=3600)]
    moments: Count = 0
    of_running: Tally = Tally()
    of_shadow: Tally = Tally()
    only_running: Count = 0
    only_shadow: Count = 0
    disagreements: Annotated[tuple[Disagreement, ...], Meta(max_length=MOST_DISAGREEMENTS)] = ()
    stride: Annotated[int, Meta(ge=1, le=1 << 53)] = 1
    pairs: Annotated[tuple[Pair, ...], Meta(max_length=MOST_PAIRS)] = ()

    def __post_init__(self) -> None:
        if len(self.pairs) != -(-self.moments // self.stride):
            raise ValueError(f"{len(self.pairs)} pairs of every {self.stride} of {self.moments} moments can't be")
        for tally in (self.of_running, self.of_shadow):
            if tally.above > self.moments or (tally.least is None) != (not self.moments):
                raise ValueError("what a side came to isn't of so many moments")

    @property
    def hours(self) -> float:
        """Of sound that was compared."""
        return self.moments * self.moment_seconds / 3600


class Ledger:
    """Keeps the comparison while it goes on.

    The alerts of both are found from the same moments, each with its own rule: so an alert that the running bundle
    raised before the shadow came isn't counted for it alone.
    """

    def __init__(self, record: Record, rules: tuple[AlarmRule, AlarmRule]) -> None:
        """Go on with a record; `rules`: of the running bundle and of the shadow."""
        self._begun = record
        self._updated = record.updated
        self._running = _Account(record.running, record.of_running, rules[0])
        self._shadow = _Account(record.shadow, record.of_shadow, rules[1])
        self._moments, self._stride, self._pairs = record.moments, record.stride, list(record.pairs)
        self._only_running, self._only_shadow = record.only_running, record.only_shadow
        self._disagreements = deque(record.disagreements, maxlen=MOST_DISAGREEMENTS)
        self._disagree = False

    @property
    def sides(self) -> tuple[Side, Side]:
        """Whom it compares."""
        return self._begun.running, self._begun.shadow

    def take(self, running: Score, shadow: Score, utc: str) -> None:
        """One moment, in the order of time."""
        over, shadow_over = self._running.take(running), self._shadow.take(shadow)
        self._only_running += over and not shadow_over
        self._only_shadow += shadow_over and not over
        if over != shadow_over and not self._disagree:
            self._disagreements.append(Disagreement(utc, running.value, shadow.value))
        self._disagree = over != shadow_over
        self._keep(running.value, shadow.value)
        self._moments += 1
        self._updated = utc

    def doubt(self) -> None:
        """A score that means nothing, for the microphone may not hear rightly."""
        for account in (self._running, self._shadow):
            account.judge.doubt()

    def interrupt(self, seconds: float) -> None:
        """The stream broke off there."""
        self._disagree = False
        for account in (self._running, self._shadow):
            account.judge.interrupt(seconds)

    def adopt(self, rules: tuple[AlarmRule, AlarmRule]) -> None:
        """Other rules are in force, with the same thresholds."""
        self._running.judge.rule, self._shadow.judge.rule = rules

    def record(self) -> Record:
        """As it stands."""
        return msgspec.structs.replace(
            self._begun,
            updated=self._updated,
            moments=self._moments,
            of_running=self._running.tally(),
            of_shadow=self._shadow.tally(),
            only_running=self._only_running,
            only_shadow=self._only_shadow,
            disagreements=tuple(self._disagreements),
            stride=self._stride,
            pairs=tuple(self._pairs),
        )

    def _keep(self, running: float, shadow: float) -> None:
        """Keep this moment's pair, where it is its turn."""
        if self._moments % self._stride:
            return
        if len(self._pairs) == MOST_PAIRS:
            del self._pairs[1::2]
            self._stride *= 2  # and the moment that found it full is one of those that are kept from now on
        self._pairs.append((_rounded(running), _rounded(shadow)))


class _Account:
    """What one side came to, while it goes on."""

    def __init__(self, side: Side, tally: Tally, rule: AlarmRule) -> None:
        self.judge = Judge(rule)
        self._threshold = side.threshold
        self._above, self._alerts, self._least, self._most = tally.above, tally.alerts, tally.least, tally.most

    def take(self, score: Score) -> bool:
        """Whether it is above the threshold."""
        value = score.value
        self._above += value > self._threshold
        self._least = value if self._least is None else min(self._least, value)
        self._most = value if self._most is None else max(self._most, value)
        change = self.judge.take(score)
        self._alerts += change is not None and change.kind == "raised"
        return value > self._threshold

    def tally(self) -> Tally:
        return Tally(self._above, self._alerts, self._least, self._most)


def rank_correlation(pairs: Sequence[Pair]) -> float | None:
    """Spearman's: the correlation of the ranks, those of equal scores their mean.

    None where a side always scored the same, or there are fewer than two pairs, for then there are no ranks.
    """
    if len(pairs) < 2:
        return None
    running, shadow = (_ranks(column) for column in np.array(pairs, np.float64).T)
    spread = math.sqrt(float(running @ running) * float(shadow @ shadow))
    return max(-1.0, min(1.0, float(running @ shadow) / spread)) if spread else None


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Less their mean."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[places]
    ranks -= ranks.mean()
    return ranks


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
