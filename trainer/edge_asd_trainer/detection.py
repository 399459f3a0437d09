"""Anomaly detection (paper, section 2.5): the bank of normal embeddings, and what is still normal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edge_asd import progress, systems
from edge_asd.bank import Bank
from edge_asd.comparison import Backend, Comparison, Feature, Heard, Spread, held_out, statistics
from edge_asd.deviation import Spectrum
from edge_asd.manifest import Section, Thresholds
from edge_asd.model import Model
from edge_asd.scoring import Detector, embed
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
            embeddings.append(embed(windows, model, log_mels[index]))
            bar.advance()
    return np.stack(embeddings)


def detect(
    log_mels: LogMels,
    model: Model,
    system: System,
    config: Config,
    machine: str,
    *,
    embeddings: NDArray[np.float32] | None = None,
    kept: Collection[str] | None = None,
) -> tuple[dict[str, Section], Detector]:
    """What a trained network makes of the training clips: the sections with their thresholds, and the whole detector.

    Training clips are cut as they were for training: of the challenge's MobileNetV2 so are its thresholds' scores.

    Args:
        log_mels: of the training clips.
        model: the network, int8 or float, as it is: (N, mels, frames) to (N, outputs).
        system: which system it is of.
        config: percentiles, back-ends, and the sections to flip.
        machine: the machine type, for those.
        embeddings: of the clips, where they are known, (clips, dimensions).
        kept: the names of the clips that become a bank's entries; all unless said.
    """
    windows = system.scoring_windows(config)
    averaged = systems.of(config.system, model)
    if embeddings is None:
        embeddings = embed_clips(log_mels, system.training_windows(config), averaged)
    flipped = {name.removeprefix(f"{machine}/") for name in config.detection.flip if name.startswith(f"{machine}/")}
    section_of = np.array([name.section for name in log_mels.names])
    names = [str(name) for name in np.unique(section_of)]

    def section(name: str, limits: Thresholds, comparison: Comparison | None = None) -> Section:
        domains = [clip.domain or "source" for clip in log_mels.names if clip.section == name]
        return Section(
            source_clips=domains.count("source"),
            target_clips=domains.count("target"),
            entries=len(comparison.banks["embedding"]) if comparison else 0,
            thresholds=limits,
            flipped=name in flipped,
            spreads=tuple(comparison.spreads) if comparison else (),
            spectrum=Spectrum.of(log_mels[i] for i in np.flatnonzero(section_of == name)),
        )

    if config.system == "system1":
        sections, comparisons = {}, {}
        for name in names:
            members = np.flatnonzero(section_of == name)
            known = normal_clips(log_mels, embeddings, members, config.detection.backends, kept)
            comparisons[name], unseen = known
            limits = thresholds(unseen, config.detection, flipped=name in flipped)
            sections[name] = section(name, limits, comparisons[name])
        return sections, Detector(config.front_end, windows, averaged, comparisons, flipped)
    plain = Detector(config.front_end, windows, averaged, dict.fromkeys(names))
    scores = np.array([plain.judge(Heard(one), str(of)).value for one, of in zip(embeddings, section_of, strict=True)])
    sections = {
        name: section(name, challenge_thresholds(scores, config.detection, flipped=name in flipped)) for name in names
    }
    return sections, replace(plain, flipped=flipped)


def normal_clips(
    log_mels: LogMels,
    embeddings: NDArray[np.float32],
    members: NDArray[np.intp],
    backends: Sequence[Backend],
    kept: Collection[str] | None = None,
) -> tuple[Comparison, NDArray[np.float64]]:
    """What clips of a section are compared with, and what unseen normal ones score, (members,).

    Section 2.5 has the Euclidean distance to the training embeddings, and doesn't say whether of all sections: here it
    is of the section's own, source and target domain together, as they are. A nearest neighbour's own score says
    nothing, so every clip is left out in its turn. Several back-ends are each z-normalised by these scores.

    Args:
        log_mels, embeddings: of all training clips.
        members: which of them are the section's.
        backends: what looks at a clip.
        kept: the names of the clips that become entries; all unless said.
    """
    names = [log_mels.clips[i].path.name for i in members]
    keep = [at for at, name in enumerate(names) if kept is None or name in kept]
    entries = {at: entry for entry, at in enumerate(keep)}
    own = [entries.get(at, -1) for at in range(len(names))]
    clips: dict[Feature, NDArray[np.float32]] = {"embedding": embeddings[members]}
    if any(backend.feature == "statistics" for backend in backends):
        clips["statistics"] = np.stack([statistics(log_mels[i]) for i in members])
    spread = {backend.feature for backend in backends if backend.distance == "mahalanobis"}
    kept_names = [names[at] for at in keep]
    banks = {feature: Bank.of(rows[keep], kept_names, spread=feature in spread) for feature, rows in clips.items()}
    scores = [held_out(backend, banks[backend.feature], clips[backend.feature], own) for backend in backends]
    if len(backends) == 1:
        return Comparison(banks, backends), scores[0]
    spreads = [Spread(float(one.mean()), max(float(one.std()), float(np.finfo(np.float32).tiny))) for one in scores]
    total = sum((one - spread.mean) / spread.deviation for one, spread in zip(scores, spreads, strict=True))
    return Comparison(banks, backends, spreads), np.asarray(total)


def thresholds(unseen: NDArray[np.floating[Any]], config: Detection, *, flipped: bool = False) -> Thresholds:
    """The scores that count as strange: percentiles of a gamma distribution of what unseen normal clips score.

    The challenge fits the training clips' scores. A sum of z-normalised ones has no least value, a distance has.
    """
    fit = gamma_percentile if len(config.backends) == 1 else free_gamma_percentile
    return _thresholds(fit, unseen, config, flipped=flipped)


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
