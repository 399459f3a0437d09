"""Systems side by side on one split: what each scores, above what it decides, and what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edge_asd import progress
from edge_asd.audio import read_clip
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.scoring import Detector
from edge_asd_trainer.baselines.statistics import Statistics
from edge_asd_trainer.config import Detection
from edge_asd_trainer.data import Clip
from edge_asd_trainer.detection import free_gamma_percentile
from edge_asd_trainer.features import LogMels

CLIPS_TIMED = 5


@dataclass(frozen=True, eq=False)
class Candidate:
    """A system's answer on the test clips.

    Attributes:
        name: as results name it.
        scores: (clips,).
        decision: the threshold of each section.
        training_seconds: of its trainings, or of fitting it.
        bundle_bytes: what a device gets; None of what isn't exported.
        milliseconds: a clip, see `milliseconds_a_clip`.
    """

    name: str
    scores: NDArray[np.float64]
    decision: Mapping[str, float]
    training_seconds: float
    bundle_bytes: int | None
    milliseconds: float


@dataclass(frozen=True, eq=False)
class Judged:
    """What a detector makes of the test clips: (clips, dimensions), (clips,), and each one's nearest normal clip."""

    embeddings: NDArray[np.float32]
    scores: NDArray[np.float64]
    nearest: list[str]


def judged(detector: Detector, test: LogMels) -> Judged:
    """Judge every clip against its own section."""
    heard = []
    with progress.bar("test clips", len(test.clips)) as bar:
        for index in range(len(test.clips)):
            heard.append(detector.hear(test[index]))
            bar.advance()
    judgements = [detector.judge(one, name.section) for name, one in zip(test.names, heard, strict=True)]
    embeddings = np.stack([one.embedding for one in heard])
    scores = np.array([judgement.value for judgement in judgements])
    return Judged(embeddings, scores, [judgement.nearest for judgement in judgements])


def without_network(
    system: Statistics, train: LogMels, test: LogMels, detection: Detection, front_end: FrontEnd
) -> Candidate:
    """Fit a system without a network to each section's training clips, and score the section's test clips."""
    began = time.perf_counter()
    known, asked = system.pooled(train), system.pooled(test)
    known_section, asked_section = (np.array([name.section for name in one.names]) for one in (train, test))
    fitted = {section: system.fit(known[known_section == section]) for section in sorted(set(asked_section))}
    seconds = time.perf_counter() - began
    scores = np.empty(len(asked))
    for section, score in fitted.items():
        scores[asked_section == section] = score(asked[asked_section == section])
    unseen = {section: system.held_out_scores(known[known_section == section]) for section in fitted}

    def score_of(samples: Samples, section: str) -> object:
        return fitted[section](system.pool(front_end.log_mel(samples))[None])

    return Candidate(
        name=system.title,
        scores=scores,
        decision={str(one): free_gamma_percentile(unseen[one], detection.decision_percentile) for one in fitted},
        training_seconds=seconds,
        bundle_bytes=None,
        milliseconds=milliseconds_a_clip(score_of, test.clips, front_end),
    )


def milliseconds_a_clip(score: Callable[[Samples, str], object], clips: Sequence[Clip], front_end: FrontEnd) -> float:
    """From a clip's samples and its section to its score, on this machine: median of some clips, after a first one."""
    some = [(read_clip(clip.path, front_end.sample_rate), clip.name.section) for clip in clips[:CLIPS_TIMED]]
    score(*some[0])
    took = []
    for samples, section in some:
        began = time.perf_counter()
        score(samples, section)
        took.append(time.perf_counter() - began)
    return 1000 * median(took)
