"""Waveform to anomaly score: one core, and two shells over it, for whole clips and for streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_asd.bank import Bank, Embedding
from edge_asd.errors import ClipError, UsageError
from edge_asd.front_end import FrontEnd, LogMel, Samples
from edge_asd.model import Model
from edge_asd.window_stream import CLIP_FRAMES, WindowStream
from edge_asd.windows import Windows


@dataclass(frozen=True)
class Score:
    """How far a clip is from normal.

    Attributes:
        value: larger is stranger; of System 1 the Euclidean distance of the clip's embedding to the nearest normal one.
        nearest: name of the normal clip that it is nearest to; empty where nothing is compared.
        seconds: where in the stream, or how far into the clip, the last window ended.
    """

    value: float
    nearest: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Detector:
    """All that turns a waveform into a score: what a bundle holds, ready to run.

    Attributes:
        front_end, windows, model: from a waveform to a value or more a window; their mean is the clip's embedding.
        banks: by section, what an embedding is compared with; a bank of None is one that needs no comparison, for its
            network has a score as output: the section's own, in the order of their names, or the only one.
        flipped: sections whose scores have the opposite sign (paper, section 5: submission 2).
    """

    front_end: FrontEnd
    windows: Windows
    model: Model
    banks: Mapping[str, Bank | None]
    flipped: Set[str] = frozenset()

    def check_section(self, section: str) -> None:
        """Raises: UsageError where the bundle has no such section."""
        if section not in self.banks:
            known = ", ".join(sorted(self.banks))
            raise UsageError(f"there is no section {section!r} in this bundle; it has {known}.")

    def judge(self, embedding: Embedding, section: str) -> Judgement:
        """How strange the mean (dimensions,) of a clip's windows is for a section. Raises: UsageError, as above."""
        self.check_section(section)
        bank = self.banks[section]
        if bank is None:
            own = sorted(self.banks).index(section) if len(embedding) > 1 else 0
            value, nearest = float(embedding[own]), ""
        else:
            value, entry = bank.nearest(embedding)
            nearest = bank.clips[entry]
        return Judgement(-value if section in self.flipped else value, nearest)


class Judgement(NamedTuple):
    """An anomaly score, and the normal clip that it is the distance to, if it is one."""

    value: float
    nearest: str


def embed_clip(front_end: FrontEnd, windows: Windows, model: Model, waveform: Samples) -> Embedding:
    """The mean of a clip's window embeddings (paper, section 2.5).

    Args:
        front_end, windows, model: as in the bundle.
        waveform: (samples,) at the front end's rate.

    Returns:
        (dimensions,), 320 in the paper.

    Raises:
        ClipError: the clip is shorter than one window.
    """
    return embed_log_mel(windows, model, front_end.log_mel(waveform))


def embed_log_mel(windows: Windows, model: Model, log_mel: LogMel) -> Embedding:
    """The mean of the window embeddings of a log-mel (frames, mels). Raises: ClipError, as `embed_clip`."""
    if not windows.count(len(log_mel)):
        raise ClipError(f"too short: {len(log_mel)} frames, one window takes {windows.frames}; record a longer clip.")
    mean: Embedding = model.embed(windows.cut(log_mel)).mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


class ClipScorer:
    """Scores whole clips."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def score(self, waveform: Samples, section: str) -> Score:
        """The anomaly score of (samples,) against the section's normal clips.

        Raises:
            UsageError: no such section.
            ClipError: shorter than one window.
        """
        detector = self._detector
        detector.check_section(section)
        embedding = embed_clip(detector.front_end, detector.windows, detector.model, waveform)
        return Score(*detector.judge(embedding, section), len(waveform) / detector.front_end.sample_rate)


class StreamScorer:
    """Scores a stream, chunk by chunk, once a hop of the windows (256 ms); each frame and window is computed once.

    A score is that of the last 10 s, of as many windows as a clip of that length has: 32. The memory is bounded.

    The paper subtracts a clip's mean before the transform. A stream knows the mean only of what it has heard, so it
    is subtracted when a window is complete, and after the transform: under a Hann window a constant touches FFT bins
    0 and 1 alone. The mean is that of the last 10 s, so an early window of a clip sees another one than the late
    windows: with `padded`, `finish` gives the clip's score but for that, and within 1 % (tested on recordings with
    a constant offset and with slow drift).
    """

    def __init__(self, detector: Detector, section: str, *, padded: bool = False) -> None:
        """Start at the beginning of a stream.

        Args:
            detector: front end, windows, model and banks.
            section: for which it is to be strange.
            padded: put zeros before the first sample, as a clip has them. A microphone has no beginning.

        Raises:
            UsageError: no such section.
        """
        self._detector = detector
        detector.check_section(section)
        self._section = section
        self._samples_seen = 0
        self._windows = WindowStream(detector.front_end, detector.windows, padded=padded)
        self._recent: deque[Embedding] = deque(maxlen=detector.windows.count(CLIP_FRAMES))
        self._all = _Total()

    def push(self, samples: Samples) -> list[Score]:
        """Take (n,) samples, any n; give the scores that became ready, in order."""
        scores = []
        for taken, window in self._windows.push(samples):
            self._take(window)
            if len(self._recent) == self._recent.maxlen:
                scores.append(self._score(np.mean(self._recent, axis=0), self._samples_seen + taken))
        self._samples_seen += len(samples)
        return scores

    def skip(self, lost: int) -> None:
        """So many samples were lost: nothing that touches the gap is scored, listening begins anew behind it."""
        self._samples_seen += lost
        self._windows = WindowStream(self._detector.front_end, self._detector.windows)
        self._recent.clear()
        self._all = _Total()

    def finish(self) -> Score:
        """End the stream as a clip ends, with zeros; give the score of everything since it began.

        Raises:
            ClipError: there was less than one window.
        """
        for window in self._windows.finish():
            self._take(window)
        if not self._all.count:
            raise ClipError(f"too short: {self._samples_seen} samples are less than one window.")
        return self._score(self._all.mean(), self._samples_seen)

    def _take(self, window: NDArray[np.float32]) -> None:
        embedding = self._detector.model.embed(window[None])[0]
        self._recent.append(embedding)
        self._all.add(embedding)

    def _score(self, embedding: NDArray[np.floating[Any]], samples: int) -> Score:
        judgement = self._detector.judge(embedding.astype(np.float32), self._section)
        return Score(*judgement, samples / self._detector.front_end.sample_rate)


class _Total:
    """A running mean of embeddings."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: NDArray[np.float64] | float = 0.0

    def add(self, embedding: Embedding) -> None:
        self.count += 1
        self._sum = self._sum + embedding.astype(np.float64)

    def mean(self) -> NDArray[np.float64]:
        return np.asarray(self._sum) / self.count
