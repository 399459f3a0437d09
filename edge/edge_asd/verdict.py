"""Scores to a verdict: is the machine still itself? Pure: a score goes in, perhaps an event comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from edge_asd.scoring import Score


@dataclass(frozen=True)
class AlarmRule:
    """When scores become an alert.

    Attributes:
        threshold: a score above it is strange.
        release: an alert ends once scores lie below this share of the threshold, so that it doesn't flap.
        minimum_seconds: scores must stay strange for so long.
        cooldown_seconds: after an alert has ended none is raised for so long; what is strange then and goes on being
            so is an alert afterwards.
    """

    threshold: float
    release: float = 0.9
    minimum_seconds: float = 1.0
    cooldown_seconds: float = 0.0

    @property
    def all_clear(self) -> float:
        """Below this score an alert ends. Of a threshold below 0 the threshold is the share, so that this is lower."""
        return self.release * self.threshold if self.threshold >= 0 else self.threshold / self.release


@dataclass(frozen=True)
class Episode:
    """A stretch of strange sound.

    Attributes:
        began, ended: seconds into the stream; `ended` is None while it lasts.
        raised: when it was certain, so when the alert went out.
        peak: largest score in it.
        peak_seconds: when that was.
        nearest: the normal clip nearest to the sound at its peak.
    """

    began: float
    raised: float
    peak: float
    peak_seconds: float
    nearest: str
    ended: float | None = None


@dataclass(frozen=True)
class Change:
    """What a score changed: an alert was "raised", or "cleared"."""

    kind: Literal["raised", "cleared"]
    episode: Episode


class Judge:
    """Watches a stream of scores under one rule."""

    def __init__(self, rule: AlarmRule) -> None:
        self.rule = rule
        """The one in force; another one is in force from the next score on, for an episode that lasts as well."""
        self._strange_since: float | None = None
        self._episode: Episode | None = None
        self._quiet_until = -math.inf

    @property
    def episode(self) -> Episode | None:
        """The one that lasts."""
        return self._episode

    def take(self, score: Score) -> Change | None:
        """One score, in the order of time."""
        if self._episode is None:
            return self._listen(score)
        if score.value > self._episode.peak:
            self._episode = replace(self._episode, peak=score.value, peak_seconds=score.seconds, nearest=score.nearest)
        if score.value < self.rule.all_clear:
            return self._clear(score.seconds)
        return None

    def doubt(self) -> None:
        """A score that may mean nothing: what was about to begin begins anew, what lasts goes on."""
        self._strange_since = None

    def interrupt(self, seconds: float) -> Change | None:
        """The stream broke off: what lasted is over, what was about to begin never was."""
        self._strange_since = None
        return self._clear(seconds) if self._episode else None

    def _listen(self, score: Score) -> Change | None:
        if score.value <= self.rule.threshold:
            self._strange_since = None
            return None
        if self._strange_since is None:
            self._strange_since = score.seconds
        if score.seconds - self._strange_since < self.rule.minimum_seconds or score.seconds < self._quiet_until:
            return None
        self._episode = Episode(self._strange_since, score.seconds, score.value, score.seconds, score.nearest)
        return Change("raised", self._episode)

    def _clear(self, seconds: float) -> Change | None:
        if self._episode is None:
            return None
        episode, self._episode, self._strange_since = replace(self._episode, ended=seconds), None, None
        self._quiet_until = seconds + self.rule.cooldown_seconds
        return Change("cleared", episode)
