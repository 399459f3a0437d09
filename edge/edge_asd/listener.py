"""Blocks in; scores, and what they and the microphone say, out, in the order of time. Knows neither clock nor disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge_asd.capture import Block
from edge_asd.comparison import Heard
from edge_asd.deviation import deviating
from edge_asd.errors import ClipError
from edge_asd.events import Band
from edge_asd.front_end import LogMel
from edge_asd.post import Post
from edge_asd.scoring import Score, StreamScorer
from edge_asd.sensor import Sensor, SensorChange
from edge_asd.verdict import Change, Episode, Judge
from edge_asd.window_stream import CLIP_FRAMES


@dataclass(frozen=True)
class Recorded:
    """A recording of a folder is over: its name, and its score as a clip; None where it was too short for one."""

    name: str
    score: Score | None


Finding = Score | Change | SensorChange | Recorded


class Listener:
    """One stream of sound, from its first sample to its last.

    While the microphone doesn't hear rightly scores go on, and mean nothing: an alert ends, none is raised, and once it
    hears again listening begins anew, so that no score touches what it didn't hear. While something is merely odd with
    it, such as a silence that is too short yet to be a fault, no alert is raised either.
    """

    def __init__(self, post: Post, *, paced: bool = True, source_samples: float = 1.0) -> None:
        """Listen for a post; `paced`: sound comes as fast as time passes; `source_samples`: as `Sensor` has it."""
        self.post = post
        self._rate = post.detector.front_end.sample_rate
        self.sensor = Sensor(post.sensor, self._rate, paced=paced, source_samples=source_samples)
        self.lost = 0
        self.bands: tuple[Band, ...] = ()  # those that deviated most at the peak of the last episode
        self._scorer = StreamScorer(post.detector, post.origin.section)
        self._judge = Judge(post.rule)
        self._samples = 0
        self._odd_until = 0  # the sample up to which something was wrong with the microphone
        self._recording = ""

    @property
    def seconds(self) -> float:
        """How far into the stream, what was lost included."""
        return self._samples / self._rate

    @property
    def samples(self) -> int:
        """The same in samples."""
        return self._samples

    @property
    def began(self) -> int:
        """The sample at which listening began, or began anew, see `StreamScorer`."""
        return self._scorer.began

    @property
    def windows(self) -> int:
        """How many windows were scored."""
        return self._scorer.windows_seen

    @property
    def newest(self) -> LogMel:
        """The frames (n, mels) by which the last window goes beyond the one before it."""
        return self._scorer.newest

    @property
    def heard_well(self) -> bool:
        """Whether the microphone heard rightly in all of the last 10 s, so that a score of them can be learned from."""
        return self._samples - self._odd_until >= CLIP_FRAMES * self.post.detector.front_end.hop

    def last(self) -> tuple[Heard, LogMel]:
        """What the last score is of."""
        return self._scorer.heard(), self._scorer.recent

    def adopt(self, post: Post) -> None:
        """From the next sample on listen for another post, whose detector has the same front end and network."""
        self.post = post
        self._judge.rule = post.rule
        self.sensor.rule = post.sensor
        self._scorer.compare_with(post.detector)

    def take(self, block: Block, now: float) -> Iterator[Finding]:
        """One block, at a second of the device's monotonic clock."""
        if block.recording:
            yield from self._next(block.recording, block.mean)
        if block.lost:
            yield from self._interrupted()
            self._scorer.skip(block.lost)
            self._samples += block.lost
            self.lost += block.lost
        gated = self.sensor.gates
        yield from self.sensor.take(block, now)
        if self.sensor.gates and not gated:
            yield from self._interrupted()
        elif gated and not self.sensor.gates:
            self._scorer.restart()
        if block.lost or self.sensor.gates or self.sensor.suspects:
            self._odd_until = self._samples + len(block.samples)
        for score in self._scorer.push(block.samples):
            yield score
            yield from self._judged(score)
        self._samples += len(block.samples)

    def end(self) -> Iterator[Finding]:
        """The stream is over, and with it the last recording of a folder; an episode that lasts is left as it is."""
        if self._recording:
            yield self._recorded()

    def lasting(self) -> Episode | None:
        """The episode that has no end yet."""
        return self._judge.episode

    def _judged(self, score: Score) -> Iterator[Change]:
        if self.sensor.gates or self.sensor.suspects:
            self._judge.doubt()
            return
        change = self._judge.take(score)
        episode, spectrum = self._judge.episode, self.post.spectrum
        if episode and episode.peak_seconds == score.seconds:
            front_end = self.post.detector.front_end
            self.bands = deviating(self._scorer.recent, spectrum, front_end) if spectrum else ()
        if change:
            yield change

    def _interrupted(self) -> Iterator[Change]:
        if change := self._judge.interrupt(self.seconds):
            yield change

    def _next(self, recording: str, mean: float | None) -> Iterator[Finding]:
        """Another recording begins: what came before has nothing to do with it."""
        if self._recording:
            yield self._recorded()
        yield from self._interrupted()
        self._judge = Judge(self.post.rule)
        self._scorer.restart(padded=True, mean=mean)
        self._recording = recording

    def _recorded(self) -> Recorded:
        try:
            score = self._scorer.finish()
        except ClipError:
            score = None
        name, self._recording = self._recording, ""
        return Recorded(name, score)
