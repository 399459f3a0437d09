"""The challenge's figures (DCASE 2022 Task 2): AUC by domain, partial AUC, precision, recall, F1, harmonic means.

The AUC itself is scikit-learn's; this module says which clips enter which figure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from statistics import fmean, harmonic_mean
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from edge_asd.errors import DataError

MAX_FPR = 0.1  # p of the partial AUC
EPSILON = sys.float_info.epsilon


class DomainFigures(msgspec.Struct, frozen=True):
    """One domain of one section.

    Attributes:
        auc: over this domain's normal clips and the anomalies of both domains of the section.
        precision, recall, f1: at the decision threshold, strictly within the domain.
    """

    auc: float
    precision: float
    recall: float
    f1: float


class SectionFigures(msgspec.Struct, frozen=True):
    """One section.

    Attributes:
        domains: by name, "source" and "target"; those that have normal test clips.
        auc: over the whole section, both domains together; no part of the official score.
        pauc: over the whole section, false-positive rate at most 0.1, McClish-standardised.
        normal, anomalous: how many clips the figures rest on.
    """

    domains: dict[str, DomainFigures]
    auc: float
    pauc: float
    normal: int
    anomalous: int

    def official(self) -> list[float]:
        """What enters the official score: the AUC of each domain, and the pAUC."""
        return [*(figures.auc for figures in self.domains.values()), self.pauc]


def section_figures(
    scores: NDArray[np.floating[Any]],
    anomalous: NDArray[np.bool_],
    domains: Sequence[str],
    threshold: float,
    name: str,
) -> SectionFigures:
    """The figures of one section.

    Args:
        scores: (clips,) anomaly scores.
        anomalous: (clips,) the truth.
        domains: (clips,) "source" or "target".
        threshold: a clip scoring strictly above it is called anomalous.
        name: of the section, for errors.

    Raises:
        DataError: the section has normal clips only, or anomalous clips only, so that no AUC exists.
    """
    domain = np.array(domains)
    if anomalous.all() or not anomalous.any():
        kind = "anomalous" if anomalous.all() else "normal"
        raise DataError(f"{name}: all {len(scores)} test clips are {kind}; an AUC needs both kinds.")
    return SectionFigures(
        domains={
            str(one): _domain(scores, anomalous, domain == one, threshold)
            for one in sorted(set(domains))
            if (~anomalous & (domain == one)).any()
        },
        auc=float(sklearn_metrics.roc_auc_score(anomalous, scores)),
        pauc=float(sklearn_metrics.roc_auc_score(anomalous, scores, max_fpr=MAX_FPR)),
        normal=int((~anomalous).sum()),
        anomalous=int(anomalous.sum()),
    )


def official_score(sections: Iterable[SectionFigures]) -> float:
    """Harmonic mean over the AUC of every domain and the pAUC of every section, each at least epsilon."""
    return harmonic_mean([max(value, EPSILON) for section in sections for value in section.official()])


def means(values: Sequence[float]) -> tuple[float, float]:
    """Arithmetic and harmonic mean, each value at least epsilon in the latter."""
    return fmean(values), harmonic_mean([max(value, EPSILON) for value in values])


def _domain(
    scores: NDArray[np.floating[Any]], anomalous: NDArray[np.bool_], inside: NDArray[np.bool_], threshold: float
) -> DomainFigures:
    ranked = inside | anomalous
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
        anomalous[inside], scores[inside] > threshold, average="binary", pos_label=True, zero_division=0.0
    )
    return DomainFigures(
        auc=float(sklearn_metrics.roc_auc_score(anomalous[ranked], scores[ranked])),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
    )
