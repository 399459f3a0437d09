"""Waveform to anomaly score: one core, and two shells over it, for whole clips and for streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edge_asd.bank import Embedding
from edge_asd.comparison import Comparison, Heard, Judgement, statistics
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
        comparisons: by section, what a clip is compared with; None where nothing is, for the network has a score as
            output: the section's own, in the order of their names, or the only one.
        flipped: sections whose scores have the opposite sign (paper, section 5: submission 2).
    """

    front_end: FrontEnd
    windows: Windows
    model: Model
    comparisons: Mapping[str, Comparison | None]
    flipped: Set[str] = frozenset()

    def check_section(self, section: str) -> None:
        """Raises: UsageError where the bundle has no such section."""
        if section not in self.comparisons:
            known = ", ".join(sorted(self.comparisons))
            raise UsageError(f"there is no section {section!r} in this bundle; it has {known}.")

    def hear(self, log_mel: LogMel) -> Heard:
        """What is compared of a clip, from its log-mel (frames, mels). Raises: ClipError, as `embed`."""
        embedding = embed(self.windows, self.model, log_mel)
        return Heard(embedding, statistics(log_mel) if self.looks_at_statistics else None)

    def judge(self, heard: Heard, section: str) -> Judgement:
        """How strange a clip is for a section. Raises: UsageError, as above."""
        self.check_section(section)
        comparison = self.comparisons[section]
        if comparison is None:
            own = sorted(self.comparisons).index(section) if len(heard.embedding) > 1 else 0
            judgement = Judgement(float(heard.embedding[own]), "")
        else:
            judgement = comparison.judge(heard)
        return judgement._replace(value=-judgement.value) if section in self.flipped else judgement

    @cached_property
    def looks_at_statistics(self) -> bool:
        """Whether a back-end looks at the statistics of the log-mel."""
        return any("statistics" in comparison.banks for comparison in self.comparisons.values() if comparison)


def embed(windows: Windows, model: Model, log_mel: LogMel) -> Embedding:
    """The mean of the embeddings of a clip's windows (paper, section 2.5).

    Args:
        windows, model: as in the bundle.
        log_mel: (frames, mels) in dB.

    Returns:
        (dimensions,), 320 in the paper.

    Raises:
        ClipError: the clip is shorter than one window.
    """
    if not windows.count(len(log_mel)):
        raise ClipError(f"too short: {len(log_mel)} frames, one window takes {windows.frames}; record a longer clip.")
    embeddings = model.embed(windows.cut(model.prepare(log_mel)))
    mean: Embedding = embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
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
        heard = detector.hear(detector.front_end.log_mel(waveform))
        return Score(*detector.judge(heard, section), len(waveform) / detector.front_end.sample_rate)


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
        self.began = -(detector.front_end.n_fft // 2) if padded else 0
        """The sample at which listening began, or began anew: windows are cut a whole number of hops behind it."""
        self._recent = _Recent(detector)
        self._all = _Total()
        self.windows_seen = 0

    @property
    def recent(self) -> LogMel:
        """The log-mel (frames, mels) of the last windows in dB, at most of the 10 s that a score is of."""
        return self._recent.log_mel()

    @property
    def newest(self) -> LogMel:
        """The log-mel (frames, mels) by which the last window goes beyond the one before it."""
        return self._recent.newest

    def heard(self) -> Heard:
        """What a score of this moment is of; a window must have been seen."""
        return self._recent.heard()

    def push(self, samples: Samples) -> list[Score]:
        """Take (n,) samples, any n; give the scores that became ready, in order."""
        scores = []
        for taken, window in self._windows.push(samples):
            self._take(window)
            if self._recent.full:
                scores.append(self._score(self._recent.heard(), self._samples_seen + taken))
        self._samples_seen += len(samples)
        return scores

    def skip(self, lost: int) -> None:
        """So many samples were lost: nothing that touches the gap is scored, listening begins anew behind it."""
        self._samples_seen += lost
        self.restart()

    def compare_with(self, detector: Detector) -> None:
        """From the next score on compare as this detector does, whose front end, windows and network are the same."""
        self._detector = detector

    def restart(self, *, padded: bool = False, mean: float | None = None) -> None:
        """Listen anew, as at the beginning of a stream, or of a clip: `padded`, and with the mean of its samples.

        Where that is known `finish` gives the clip's score to the last bit, for its windows are the same.
        """
        self._windows = WindowStream(self._detector.front_end, self._detector.windows, padded=padded, mean=mean)
        self.began = self._samples_seen - (self._detector.front_end.n_fft // 2 if padded else 0)
        self._recent = _Recent(self._detector)
        self._all = _Total()

    def finish(self) -> Score:
        """End the stream as a clip ends, with zeros; give the score of everything since it began.

        What is said by the statistics of the log-mel is, as always in a stream, that of the last 10 s.

        Raises:
            ClipError: there was less than one window.
        """
        for window in self._windows.finish():
            self._take(window)
        if not self._all.count:
            raise ClipError(f"too short: {self._samples_seen} samples are less than one window.")
        return self._score(self._recent.heard()._replace(embedding=self._all.mean()), self._samples_seen)

    def _take(self, window: NDArray[np.float32]) -> None:
        embedding = self._detector.model.embed(window[None])[0]
        self._recent.add(window, embedding)
        self._all.add(embedding)
        self.windows_seen += 1

    def _score(self, heard: Heard, samples: int) -> Score:
        judgement = self._detector.judge(heard, self._section)
        return Score(*judgement, samples / self._detector.front_end.sample_rate)


class _Recent:
    """The last 10 s: the embeddings of as many windows as a clip has, and the frames of these."""

    def __init__(self, detector: Detector) -> None:
        self._embeddings: deque[Embedding] = deque(maxlen=detector.windows.count(CLIP_FRAMES))
        self._hop = detector.windows.hop
        self._frames = deque[LogMel](maxlen=CLIP_FRAMES)
        self._look = detector.looks_at_statistics
        self.newest: LogMel = np.empty((0, detector.front_end.mels), np.float32)

    @property
    def full(self) -> bool:
        return len(self._embeddings) == self._embeddings.maxlen

    def add(self, window: NDArray[np.float32], embedding: Embedding) -> None:
        """A window (mels, P), of which the last frames are new, all of the first one's."""
        new = window.T[-self._hop :] if self._embeddings else window.T
        self.newest = new.copy()  # or every frame would keep its whole window
        self._frames.extend(self.newest)
        self._embeddings.append(embedding)

    def log_mel(self) -> LogMel:
        return np.stack(self._frames) if self._frames else self.newest

    def heard(self) -> Heard:
        mean = np.mean(self._embeddings, axis=0, dtype=np.float64).astype(np.float32)  # as `embed` does
        return Heard(mean, statistics(self.log_mel()) if self._look else None)


class _Total:
    """A running mean of embeddings."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: NDArray[np.float64] | float = 0.0

    def add(self, embedding: Embedding) -> None:
        self.count += 1
        self._sum = self._sum + embedding.astype(np.float64)

    def mean(self) -> Embedding:
        return (np.asarray(self._sum) / self.count).astype(np.float32)
