"""The bootstrap intervals against SciPy's own, which knows nothing of how ours draws clips or walks a ROC curve."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from edge_asd_trainer.metrics import MAX_FPR, section_figures

# The 2.5th percentile of 1000 normal draws has itself a deviation of 0.085 of theirs.
NEAR = 4 * 0.085


def auc(*strata: np.ndarray, axis: int = -1) -> np.ndarray:
    """Source and target normal, then source and target anomalous: the share of pairs in the right order."""
    del axis  # SciPy's resamples lie along the last one
    normal, anomalous = np.concatenate(strata[:2], axis=-1), np.concatenate(strata[2:], axis=-1)
    return np.heaviside(anomalous[..., :, None] - normal[..., None, :], 0.5).mean(axis=(-2, -1))


def source_auc(*strata: np.ndarray, axis: int = -1) -> np.ndarray:
    """Normal clips of the source domain alone, anomalous ones of both."""
    return auc(strata[0], strata[1][..., :0], *strata[2:], axis=axis)


def pauc(*strata: np.ndarray) -> float:
    scores = np.concatenate(strata)
    truth = np.arange(len(scores)) >= len(strata[0]) + len(strata[1])
    return float(roc_auc_score(truth, scores, max_fpr=MAX_FPR))


@pytest.mark.parametrize("seed", [0, 1])
def test_intervals_are_scipys_of_clips_drawn_within_domain_and_label(seed: int) -> None:
    random = np.random.default_rng(seed)
    strata = [np.round(random.normal(lift, 1, clips), 1) for lift, clips in ((0, 40), (3, 20), (1, 30), (4, 30))]
    domains = ["source"] * 40 + ["target"] * 20 + ["source"] * 30 + ["target"] * 30
    figures = section_figures(np.concatenate(strata), np.arange(120) >= 60, domains, 0.0, f"section {seed:02d}")
    expected = {
        figures.auc_interval: bootstrap(strata, auc, method="percentile", rng=seed, batch=500),
        figures.domains["source"].auc_interval: bootstrap(strata, source_auc, method="percentile", rng=seed, batch=500),
        figures.pauc_interval: bootstrap(
            strata, pauc, method="percentile", rng=seed, vectorized=False, n_resamples=2000
        ),
    }
    assert len(expected) == 3
    for interval, theirs in expected.items():
        assert interval == pytest.approx(tuple(theirs.confidence_interval), abs=NEAR * theirs.standard_error)
