"""The challenge's figures (DCASE 2022 Task 2): AUC by domain, partial AUC, precision, recall, F1, harmonic means.

They are those of the challenge's official evaluator (github.com/Kota-Dohi/dcase2022_evaluator) to the last digit: the
AUC is scikit-learn's, as there, and sums are taken in its order. This module says which clips enter which figure.

How far a figure can be trusted says its 95 % interval, by a stratified percentile bootstrap (B. Efron, "Bootstrap
methods: another look at the jackknife", 1979): the clips of each section, domain and label are drawn anew with
replacement, every figure is computed of every such resample, and the middle 95 % of them is the interval. The
evaluator's own interval is a jackknife of one AUC over the scores of all sections and machine types thrown together,
whose scales differ: an AUC that isn't the official score, so neither is its spread.
An interval says how far other test clips of the same machines would move a figure; not how far another training would.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from edge_asd.errors import DataError

MAX_FPR = 0.1  # p of the partial AUC
EPSILON = sys.float_info.epsilon

RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)
_SEED = 2022  # any number: that it is always the same one makes an interval reproducible
_VALUES_AT_ONCE = 2**19  # a few arrays of 4 MiB, however many clips a section has

Scores = NDArray[np.floating[Any]]
Truth = NDArray[np.bool_]
Interval = tuple[float, float]
Value = TypeVar("Value")


class DomainFigures(msgspec.Struct, frozen=True):
    """One domain of one section.

    Attributes:
        auc: over this domain's normal clips and the anomalies of both domains of the section.
        auc_interval: 95 %.
        precision, recall, f1: at the decision threshold, strictly within the domain; where it has no anomalies, or none
            is called one, those that have nothing to divide by are 0.
        normal, anomalous: how many clips of the domain there are.
    """

    auc: float
    auc_interval: Interval
    precision: float
    recall: float
    f1: float
    normal: int
    anomalous: int


class SectionFigures(msgspec.Struct, frozen=True):
    """One section.

    Attributes:
        domains: by name, "source" and "target"; those that have normal test clips.
        auc: over the whole section, both domains together; no part of the official score.
        pauc: over the whole section, false-positive rate at most 0.1, McClish-standardised.
        auc_interval, pauc_interval: 95 %.
        normal, anomalous: how many clips the figures rest on.
    """

    domains: dict[str, DomainFigures]
    auc: float
    auc_interval: Interval
    pauc: float
    pauc_interval: Interval
    normal: int
    anomalous: int

    def official(self) -> list[float]:
        """What enters the official score: the AUC of each domain, and the pAUC."""
        return [*(figures.auc for figures in self.domains.values()), self.pauc]


@dataclass(frozen=True, eq=False)
class Resamples:
    """One section's figures in every resample of its clips, (RESAMPLES,) each.

    Attributes:
        domains: the AUC by domain, of those that have normal clips.
        auc, pauc: of the whole section.
    """

    domains: Mapping[str, NDArray[np.float64]]
    auc: NDArray[np.float64]
    pauc: NDArray[np.float64]


def section_figures(
    scores: Scores,
    anomalous: Truth,
    domains: Sequence[str],
    threshold: float,
    name: str,
    resamples: Resamples | None = None,
) -> SectionFigures:
    """The figures of one section.

    Args:
        scores: (clips,) anomaly scores.
        anomalous: (clips,) the truth.
        domains: (clips,) "source" or "target".
        threshold: a clip scoring strictly above it is called anomalous.
        name: of the section, for errors and for the intervals, see `resampled`.
        resamples: `resampled` of the same clips, where it is needed besides; otherwise it is done here.

    Raises:
        DataError: the section has normal clips only, or anomalous clips only, so that no AUC exists; or a score isn't
            a finite number.
    """
    known = _checked(scores, anomalous, name)
    drawn = resamples or resampled(scores, anomalous, domains, name)
    domain = np.array(domains)
    return SectionFigures(
        domains={
            one: _domain(known, anomalous, domain == one, threshold, _interval(drawn.domains[one]))
            for one in _domains(anomalous, domain)
        },
        auc=float(roc_auc_score(anomalous, known)),
        auc_interval=_interval(drawn.auc),
        pauc=float(roc_auc_score(anomalous, known, max_fpr=MAX_FPR)),
        pauc_interval=_interval(drawn.pauc),
        normal=int((~anomalous).sum()),
        anomalous=int(anomalous.sum()),
    )


def resampled(scores: Scores, anomalous: Truth, domains: Sequence[str], name: str) -> Resamples:
    """The figures of one section in each of 1000 resamples of its clips; the same at every call.

    Which clips a resample holds depends on domains, labels and name alone, so that the resamples of two systems on the
    same clips belong together one by one.

    Args:
        scores, anomalous, domains: (clips,) as for `section_figures`.
        name: of the section; another one draws other clips, so sections whose figures are combined have different ones.

    Raises:
        DataError: as `section_figures`.
    """
    known = _checked(scores, anomalous, name)
    domain = np.array(domains)
    strata = 2 * np.unique(domain, return_inverse=True)[1] + anomalous
    masks = {one: anomalous | (domain == one) for one in _domains(anomalous, domain)}
    blocks = [
        [
            roc_area(known, anomalous, weights, 1.0),
            roc_area(known, anomalous, weights, MAX_FPR),
            *(roc_area(known[mask], anomalous[mask], weights[:, mask], 1.0) for mask in masks.values()),
        ]
        for weights in _multiplicities(strata, np.random.default_rng([_SEED, *name.encode()]))
    ]
    auc, pauc, *of_domains = (np.concatenate(values) for values in zip(*blocks, strict=True))
    return Resamples(dict(zip(masks, of_domains, strict=True)), auc, pauc)


def official_score(sections: Iterable[SectionFigures]) -> float:
    """Harmonic mean over the AUC of every domain and the pAUC of every section, each at least epsilon."""
    known = list(sections)
    aucs = [{name: figures.auc for name, figures in section.domains.items()} for section in known]
    return _harmonic_mean(_official(aucs, [section.pauc for section in known]))


def official_interval(sections: Iterable[Resamples]) -> Interval:
    """The 95 % interval of the official score over the sections: of each resample's own official score."""
    known = list(sections)
    values = _official([section.domains for section in known], [section.pauc for section in known])
    return _interval(stats.hmean(np.maximum(np.stack(values, axis=1), EPSILON), axis=1))


def means(values: Sequence[float]) -> tuple[float, float]:
    """Arithmetic and harmonic mean, each value at least epsilon in the latter."""
    return float(np.mean(values)), _harmonic_mean(values)


def roc_area(
    scores: Scores, anomalous: Truth, weights: NDArray[np.integer[Any]], max_fpr: float
) -> NDArray[np.float64]:
    """The area below the ROC curve up to a false-positive rate, of many weightings of the same clips at once.

    The curve goes straight from one distinct score to the next. The area A below it is standardised to 0.5 for a score
    without any information and 1 for a perfect one (D. K. McClish, "Analyzing a portion of the ROC curve", 1989), which
    leaves the AUC, p = 1, as it is:

        (1 + (A - p^2 / 2) / (p - p^2 / 2)) / 2

    Args:
        scores: (clips,).
        anomalous: (clips,) the truth.
        weights: (weightings, clips) how often each clip counts; in each of them some clip of both kinds does.
        max_fpr: p, above 0 and at most 1.

    Returns:
        (weightings,); where every weight is 1, what scikit-learn's `roc_auc_score` gives, within rounding.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))  # of the clips that score the same
    true, false = (
        np.add.reduceat(np.where(kind[order], weights[:, order], 0), starts, axis=1) for kind in (anomalous, ~anomalous)
    )
    found = true.cumsum(axis=1)
    wrong = false.cumsum(axis=1)
    positives, negatives = found[:, -1], wrong[:, -1]
    # In clips, not in rates: whole numbers, so that nothing is rounded before the curve is cut at the limit.
    counted = np.clip(max_fpr * negatives[:, None] - (wrong - false), 0, false)
    share = counted / np.maximum(false, 1)
    area = (counted * (found - true + share * true / 2)).sum(axis=1) / (positives * negatives)
    chance = max_fpr**2 / 2
    return np.asarray((1 + (area - chance) / (max_fpr - chance)) / 2, dtype=np.float64)


def _checked(scores: Scores, anomalous: Truth, name: str) -> NDArray[np.float64]:
    """The scores in the precision in which they are written down and compared with the threshold."""
    known = np.asarray(scores, dtype=np.float64)
    if anomalous.all() or not anomalous.any():
        kind = "anomalous" if anomalous.all() else "normal"
        raise DataError(f"{name}: all {len(known)} test clips are {kind}; an AUC needs both kinds.")
    if missing := int((~np.isfinite(known)).sum()):
        raise DataError(
            f"{name}: {missing} of {len(known)} anomaly scores are NaN or infinite, which no threshold or ranking can "
            "take; the model that gave them is broken, so train it again."
        )
    return known


def _domains(anomalous: Truth, domain: NDArray[np.str_]) -> list[str]:
    """The domains that have normal clips, without which there is no AUC; sorted."""
    return [str(one) for one in np.unique(domain[~anomalous])]


def _domain(
    scores: NDArray[np.float64], anomalous: Truth, inside: Truth, threshold: float, interval: Interval
) -> DomainFigures:
    ranked = inside | anomalous
    truth, called = anomalous[inside], scores[inside] > threshold
    tp, fp, fn = (int(np.count_nonzero(found)) for found in (truth & called, ~truth & called, truth & ~called))
    # The evaluator's own way to avoid a division by zero, and its order of the operations.
    precision, recall = tp / max(tp + fp, EPSILON), tp / max(tp + fn, EPSILON)
    return DomainFigures(
        auc=float(roc_auc_score(anomalous[ranked], scores[ranked])),
        auc_interval=interval,
        precision=precision,
        recall=recall,
        f1=2.0 * precision * recall / max(precision + recall, EPSILON),
        normal=int((~truth).sum()),
        anomalous=int(truth.sum()),
    )


def _official(aucs: Sequence[Mapping[str, Value]], paucs: Sequence[Value]) -> list[Value]:
    """The values of the official score, in the evaluator's order: every source AUC, every target AUC, every pAUC."""
    domains = sorted({domain for section in aucs for domain in section})
    return [*(section[domain] for domain in domains for section in aucs if domain in section), *paucs]


def _harmonic_mean(values: Sequence[float]) -> float:
    return float(stats.hmean(np.maximum(values, EPSILON)))


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, _PERCENTILES)
    return float(low), float(high)


def _multiplicities(strata: NDArray[np.integer[Any]], random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """How often each clip is drawn: (some resamples, clips) at a time, RESAMPLES in all. A stratum keeps its size."""
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    most = max(1, _VALUES_AT_ONCE // len(strata))
    for begin in range(0, RESAMPLES, most):
        rows = min(most, RESAMPLES - begin)
        weights = np.empty((rows, len(strata)), dtype=np.int64)
        for clips in members:
            count = len(clips)
            drawn = random.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
            weights[:, clips] = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield weights
