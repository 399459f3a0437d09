"""The scores of a shadow: of the samples that the listener hears, from the same moments on, with the same gaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edge_asd.capture import Block
from edge_asd.listener import Listener
from edge_asd.post import Post
from edge_asd.scoring import Detector, Score, StreamScorer
from edge_asd.shadow import Ledger
from edge_asd.window_stream import CLIP_FRAMES

_SAME = 1e-9  # seconds: what two ways to count the same moment may be apart


class ShadowScorer:
    """Follows a listener: whenever that begins anew this does, and what doesn't count there doesn't count here."""

    def __init__(self, post: Post, ledger: Ledger, listener: Listener, position: int) -> None:
        """Begin at a sample of the stream, or a little behind, where the listener's windows begin.

        What it scores in the first 20 s isn't compared yet, unless the listener begins there, too.

        Args:
            post: the shadow's.
            ledger: where both scores are held against each other.
            listener: that is followed.
            position: the sample.
        """
        self.post = post
        self.ledger = ledger
        self._gated = listener.sensor.gates
        self._own: list[Score] = []  # that no score of the listener's has come to yet: at most one, between blocks
        mine, its = post.detector, listener.post.detector
        if (mine.front_end, mine.windows) == (its.front_end, its.windows):
            position += (listener.began - position) % _hop(mine)
        self._begin(position)
        if position > listener.began:  # it has another mean to subtract until both only know what both have heard
            self._counts_from = position + 2 * CLIP_FRAMES * mine.front_end.hop

    def take(self, block: Block, scores: Sequence[Score], listener: Listener, utc: Callable[[], str]) -> None:
        """A block that the listener has taken, and the scores that it made of it. `utc`: tells the time."""
        sensor = listener.sensor
        position = listener.samples - len(block.samples)
        interrupted = block.recording or block.lost or (sensor.gates and not self._gated)
        if interrupted:
            self.ledger.interrupt((position - block.lost) / self.post.detector.front_end.sample_rate)
        if block.recording:
            self._begin(position, padded=True, mean=block.mean)
        if block.lost or (self._gated and not sensor.gates):
            self._begin(position)
        self._gated = sensor.gates
        self._own += self._scorer.push(block.samples[max(0, self._start - position) :])
        if sensor.gates or sensor.suspects or position < self._counts_from:
            self.ledger.doubt()
            self._own.clear()
            return
        for score in scores:
            self._compare(score, utc)
        del self._own[:-1]

    def _begin(self, position: int, *, padded: bool = False, mean: float | None = None) -> None:
        self._start = self._counts_from = position
        self._own.clear()
        self._scorer = StreamScorer(self.post.detector, self.post.origin.section)
        self._scorer.skip(position)
        if padded:
            self._scorer.restart(padded=True, mean=mean)

    def _compare(self, running: Score, utc: Callable[[], str]) -> None:
        """Hold a score of the listener's against the newest of these that isn't later; each counts once."""
        newest = None
        while self._own and self._own[0].seconds <= running.seconds + _SAME:
            newest = self._own.pop(0)
        if newest is None:
            return
        if not math.isfinite(newest.value):
            raise ValueError(f"it scores {newest.value}, which is no number to compare")
        if math.isfinite(running.value):
            self.ledger.take(running, newest, utc())


def moment_seconds(running: Post, shadow: Post) -> float:
    """From one moment at which both may have a score to the next."""
    return max(_hop(one.detector) / one.detector.front_end.sample_rate for one in (running, shadow))


def _hop(detector: Detector) -> int:
    """From score to score, in samples."""
    return detector.windows.hop * detector.front_end.hop
