"""Waveform to anomaly score: one core, and two shells over it, for whole clips and for streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asd.bank import Bank, Embedding
from edge_asd.errors import ClipError, UsageError
from edge_asd.front_end import FrontEnd, LogMel, Samples
from edge_asd.model import Model
from edge_asd.window_stream import CLIP_WINDOWS, WindowStream
from edge_asd.windows import Windows


@dataclass(frozen=True)
class Score:
    """How far a clip is from normal.

    Attributes:
        value: Euclidean distance of the clip's embedding to the nearest normal one; larger is stranger.
        nearest: name of the normal clip that it is nearest to.
        seconds: where in the stream, or how far into the clip, the last window ended.
    """

    value: float
    nearest: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Detector:
    """All that turns a waveform into a score: what a bundle holds, ready to run."""

    front_end: FrontEnd
    windows: Windows
    model: Model
    banks: Mapping[str, Bank]

    def bank(self, section: str) -> Bank:
        """The section's bank. Raises: UsageError where the bundle has no such section."""
        try:
            return self.banks[section]
        except KeyError:
            known = ", ".join(sorted(self.banks))
            raise UsageError(f"there is no section {section!r} in this bundle; it has {known}.") from None


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
        bank = detector.bank(section)
        distance, index = bank.nearest(embed_clip(detector.front_end, detector.windows, detector.model, waveform))
        return Score(distance, bank.clips[index], len(waveform) / detector.front_end.sample_rate)


class StreamScorer:
    """Scores a stream, chunk by chunk, once a hop of the windows (256 ms); each frame and window is computed once.

    A score is that of the last 32 windows, as long a stretch as a 10 s clip. The memory is bounded.

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
            section: whose bank is asked.
            padded: put zeros before the first sample, as a clip has them. A microphone has no beginning.

        Raises:
            UsageError: no such section.
        """
        self._detector = detector
        self._bank = detector.bank(section)
        self._samples_seen = 0
        self._windows = WindowStream(detector.front_end, detector.windows, padded=padded)
        self._recent: deque[Embedding] = deque(maxlen=CLIP_WINDOWS)
        self._all = _Total()

    def push(self, samples: Samples) -> list[Score]:
        """Take (n,) samples, any n; give the scores that became ready, in order."""
        scores = []
        for taken, window in self._windows.push(samples):
            self._take(window)
            if len(self._recent) == CLIP_WINDOWS:
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
        distance, index = self._bank.nearest(embedding.astype(np.float32))
        return Score(distance, self._bank.clips[index], samples / self._detector.front_end.sample_rate)


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
