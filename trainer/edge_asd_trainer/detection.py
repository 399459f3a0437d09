"""Anomaly detection (paper, section 2.5): the bank of normal embeddings, and what is still normal."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edge_asd import progress, systems
from edge_asd.bank import Bank
from edge_asd.manifest import Section, Thresholds
from edge_asd.model import Model
from edge_asd.scoring import Detector, embed_log_mel
from edge_asd.windows import Windows
from edge_asd_trainer.config import Config, Detection
from edge_asd_trainer.features import LogMels
from edge_asd_trainer.recipe import System

FEWEST_FOR_A_FIT = 4
SAME = 1e-5  # relative spread below which scores count as equal: rounding, of which no distribution can be fitted


def embed_clips(log_mels: LogMels, windows: Windows, model: Model) -> NDArray[np.float32]:
    """Every clip's embedding, the mean over its windows (section 2.5), (clips, dimensions): the device's function."""
    embeddings = []
    with progress.bar("embeddings", len(log_mels.clips)) as bar:
        for index in range(len(log_mels.clips)):
            embeddings.append(embed_log_mel(windows, model, log_mels[index]))
            bar.advance()
    return np.stack(embeddings)


def banks(embeddings: NDArray[np.float32], log_mels: LogMels) -> dict[str, Bank]:
    """A bank a section, source and target domain together, of the training clips' (clips, dimensions) as they are.

    Section 2.5 has the Euclidean distance to the training embeddings, and doesn't say whether of all sections.
    """
    sections = np.array(_sections(log_mels))
    names = [clip.path.name for clip in log_mels.clips]
    return {
        str(section): Bank.of(embeddings[sections == section], [names[i] for i in np.flatnonzero(sections == section)])
        for section in np.unique(sections)
    }


def detect(
    log_mels: LogMels, model: Model, system: System, config: Config, machine: str
) -> tuple[dict[str, Section], Detector]:
    """What a trained network makes of the training clips: the sections with their thresholds, and the whole detector.

    Training clips are cut as they were for training: of the challenge's MobileNetV2 so are its thresholds' scores.

    Args:
        log_mels: of the training clips.
        model: the network, int8 or float, as it is: (N, mels, frames) to (N, outputs).
        system: which system it is of.
        config: percentiles, and the sections to flip.
        machine: the machine type, for those.
    """
    windows = system.scoring_windows(config)
    averaged = systems.of(config.system, model)
    embeddings = embed_clips(log_mels, system.training_windows(config), averaged)
    flipped = {name.removeprefix(f"{machine}/") for name in config.detection.flip if name.startswith(f"{machine}/")}
    names = sorted({name.section for name in log_mels.names})
    if config.system == "system1":
        known = banks(embeddings, log_mels)
        fitted = {name: thresholds(known[name], config.detection, flipped=name in flipped) for name in names}
        sections = {name: Section(len(known[name]), fitted[name], flipped=name in flipped) for name in names}
        return sections, Detector(config.front_end, windows, averaged, known, flipped)
    plain = Detector(config.front_end, windows, averaged, dict.fromkeys(names))
    scores = np.array([plain.judge(*both).value for both in zip(embeddings, _sections(log_mels), strict=True)])
    sections = {
        name: Section(
            0, challenge_thresholds(scores, config.detection, flipped=name in flipped), flipped=name in flipped
        )
        for name in names
    }
    return sections, replace(plain, flipped=flipped)


def thresholds(bank: Bank, config: Detection, *, flipped: bool = False) -> Thresholds:
    """The scores that count as strange: percentiles of a gamma distribution of what unseen normal clips score.

    The challenge fits the training clips' scores. A nearest neighbour's own training scores are 0, so these are
    leave-one-out distances.
    """
    return _thresholds(gamma_percentile, bank.leave_one_out(), config, flipped=flipped)


def challenge_thresholds(scores: NDArray[np.floating[Any]], config: Detection, *, flipped: bool = False) -> Thresholds:
    """The challenge's own, for its baselines: of the scores of all sections' training clips together."""
    return _thresholds(free_gamma_percentile, scores, config, flipped=flipped)


def _thresholds(
    percentile: Callable[[NDArray[np.floating[Any]], float], float],
    scores: NDArray[np.floating[Any]],
    config: Detection,
    *,
    flipped: bool,
) -> Thresholds:
    """Of scores whose sign is flipped the upper tail is the lower one of what they were."""

    def at(percent: float) -> float:
        return -percentile(scores, 100 - percent) if flipped else percentile(scores, percent)

    return Thresholds(decision=at(config.decision_percentile), alarm=at(config.alarm_percentile))


def gamma_percentile(scores: NDArray[np.floating[Any]], percentile: float) -> float:
    """The percentile of a gamma distribution (location 0) fitted to positive scores.

    With a free location the likelihood of few scores has no maximum; distances begin at 0 anyway. Where there are
    too few scores for a fit, or all are the same, the largest of them stands for every percentile.
    """
    positive = np.asarray(scores, np.float64)[np.asarray(scores) > 0]
    if len(positive) < FEWEST_FOR_A_FIT or np.ptp(positive) <= SAME * positive.max():
        return float(np.max(scores, initial=0.0))
    shape, _, scale = stats.gamma.fit(positive, floc=0)
    return float(stats.gamma.ppf(percentile / 100, shape, scale=scale))


def free_gamma_percentile(scores: NDArray[np.floating[Any]], percentile: float) -> float:
    """The percentile of a gamma distribution fitted to scores of any sign, its location free: the challenge's.

    The likelihood of such a fit may have no maximum. Where there are too few scores, or the fit puts the percentile
    below all of them or as far above as they lie apart, it is their own percentile.
    """
    scores = np.asarray(scores, np.float64)
    empirical = float(np.percentile(scores, percentile))
    if len(scores) < FEWEST_FOR_A_FIT or np.ptp(scores) <= SAME * np.abs(scores).max():
        return empirical
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of steps of the search that lead nowhere
        try:
            shape, location, scale = stats.gamma.fit(scores)
        except stats.FitError:
            return empirical
        found = float(stats.gamma.ppf(percentile / 100, shape, location, scale))
    return found if scores.min() <= found <= scores.max() + np.ptp(scores) else empirical


def _sections(log_mels: LogMels) -> list[str]:
    return [name.section for name in log_mels.names]
