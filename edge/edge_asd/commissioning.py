"""Learning a machine where it stands, without training: what it sounds like there, and where the threshold must be.

In the first half of the time the device takes clips of what it hears for normal: a site's own bank beside the bundle's.
In the second half it measures what the machine scores against both, and from these scores, which the bank doesn't know,
follows the threshold for at most so many false alarms a week (`false_alarms`). Clips of the second half don't enter
the bank: with them in it the threshold could no longer be measured.

Pure: scores and what they are of go in, a record comes out. Nothing is taken from the 10 s after a gap, or while the
microphone doesn't hear rightly: there is no score then.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from edge_asd import promise
from edge_asd.comparison import Heard
from edge_asd.deviation import Spectrum
from edge_asd.errors import DataError
from edge_asd.false_alarms import Evidence, Outlook, Recording, evidence
from edge_asd.front_end import LogMel
from edge_asd.scoring import Detector, Score
from edge_asd.site import Learned, Promise, joined
from edge_asd.status import Commissioning
from edge_asd.verdict import AlarmRule
from edge_asd.window_stream import CLIP_FRAMES

CLIP_SECONDS = 10.0  # a score is of so much, and clips shall have nothing in common
SHORTEST_MINUTES, LONGEST_MINUTES = 8.0, 24 * 60.0
STEP_SECONDS = 1.0  # between scores that follow each other without a gap there is less


@dataclass(frozen=True)
class Plan:
    """What was asked for.

    Attributes:
        minutes: of listening, half of them to learn.
        false_alarms: at most so many a week, > 0.
        clips: that the site's bank holds at most.
    """

    minutes: float
    false_alarms: float
    clips: int = 64


class Findings(NamedTuple):
    """What came of it: the detector that knows the site, and what its threshold means beside the one of before."""

    learned: Learned
    detector: Detector
    threshold: float
    before: Promise
    after: Promise
    spectrum: Spectrum
    doubts: tuple[str, ...]


class Commissioner:
    """Listens along with the daemon, score by score."""

    def __init__(self, plan: Plan, detector: Detector, section: str, rule: AlarmRule) -> None:
        """Begin.

        Args:
            plan: for how long, and for what.
            detector: of the bundle alone; what was learned before is learned anew.
            section: which it listens for.
            rule: that is in force now, beside which the new threshold is shown.
        """
        self._plan = plan
        self._section = section
        self._rule = rule
        self._known = self._detector = detector
        self._every = max(CLIP_SECONDS, plan.minutes * 30 / plan.clips)
        self._names: list[str] = []
        self._log_mels: list[LogMel] = []
        self._heard: list[Heard] = []
        self._before, self._after = _Scores(), _Scores()
        self._listened = 0.0
        self._last = -math.inf
        self._next_clip = 0.0

    def take(self, score: Score, heard: Heard, log_mel: LogMel, utc: str) -> None:
        """A score as it is in force now, what it is of, and when that was. Raises: DataError: it isn't finite."""
        if not math.isfinite(score.value):
            raise DataError(f"a score is {score.value}, not a number; check the microphone with `edge-asd doctor`.")
        step = score.seconds - self._last
        follows, self._last = step < STEP_SECONDS, score.seconds
        self._listened += step if follows else 0.0
        if self.phase == "learning":
            if not follows:
                self._next_clip = max(self._next_clip, self._listened)
            # A stream's very first score is of a frame less than a clip, which another network couldn't hear again.
            whole = len(log_mel) >= CLIP_FRAMES
            if whole and self._listened >= self._next_clip and len(self._names) < self._plan.clips:
                self._learn(heard, log_mel, utc)
        else:
            if self._known is self._detector:
                self._known = joined(self._detector, self._section, self._learned)
            self._before.add(score.seconds, score.value, follows)
            self._after.add(score.seconds, self._known.judge(heard, self._section).value, follows)

    @property
    def phase(self) -> str:
        """One of "learning", "measuring" and "done"."""
        done = self._listened / (self._plan.minutes * 60)
        return "learning" if done < 0.5 else "measuring" if done < 1.0 else "done"

    @property
    def status(self) -> Commissioning:
        """How far it is."""
        done = min(1.0, self._listened / (self._plan.minutes * 60))
        return Commissioning(phase="learning" if done < 0.5 else "measuring", done=round(done, 4))

    def findings(self) -> Findings:
        """What came of it, once it is done. Raises: DataError where no threshold follows from what was heard."""
        now = evidence(self._after.recordings(), replace(self._rule, threshold=math.inf))
        then = evidence(self._before.recordings(), replace(self._rule, threshold=math.inf))
        threshold = promise.rounded_up(now.lowest_threshold(self._plan.false_alarms))
        return Findings(
            self._learned,
            self._known,
            threshold,
            _promise(then, self._rule.threshold),
            _promise(now, threshold),
            Spectrum.of(self._log_mels),
            tuple(promise.doubts(now, self._plan.false_alarms)),
        )

    @property
    def _learned(self) -> Learned:
        return Learned(tuple(self._names), tuple(self._log_mels), tuple(self._heard))

    def _learn(self, heard: Heard, log_mel: LogMel, utc: str) -> None:
        self._names.append(f"site {utc}")
        self._log_mels.append(log_mel.astype(np.float16).astype(np.float32))  # as they are kept
        self._heard.append(heard)
        self._next_clip = self._listened + self._every


class _Scores:
    """Scores and when they were, a stretch after the other, as far as no gap is between."""

    def __init__(self) -> None:
        self._stretches: list[tuple[array[float], array[float]]] = []

    def add(self, seconds: float, value: float, follows: bool) -> None:
        if not follows or not self._stretches:
            self._stretches.append((array("d"), array("d")))
        times, values = self._stretches[-1]
        times.append(seconds)
        values.append(value)

    def recordings(self) -> list[Recording]:
        return [
            Recording("the microphone", np.array(times), np.array(values))
            for times, values in self._stretches
            if len(times) > 1
        ]


def _promise(known: Evidence, threshold: float) -> Promise:
    outlook: Outlook = known.outlook(threshold)
    return Promise(threshold, outlook.alerts, outlook.per_week)
