"""Anomaly detection (paper, section 2.5): the bank of normal embeddings, and what is still normal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edge_asd import progress
from edge_asd.bank import Bank
from edge_asd.manifest import Section, Thresholds
from edge_asd.model import Model
from edge_asd.scoring import embed_log_mel
from edge_asd.windows import Windows
from edge_asd_trainer.config import Detection
from edge_asd_trainer.features import LogMels

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
    sections = np.array([name.section for name in log_mels.names])
    names = [clip.path.name for clip in log_mels.clips]
    return {
        str(section): Bank.of(embeddings[sections == section], [names[i] for i in np.flatnonzero(sections == section)])
        for section in np.unique(sections)
    }


def describe(sections: Mapping[str, Bank], config: Detection) -> dict[str, Section]:
    """What the manifest says of every section: entries and thresholds."""
    return {name: Section(entries=len(bank), thresholds=thresholds(bank, config)) for name, bank in sections.items()}


def thresholds(bank: Bank, config: Detection) -> Thresholds:
    """The scores that count as strange: percentiles of a gamma distribution of what unseen normal clips score.

    The challenge fits the training clips' scores. A nearest neighbour's own training scores are 0, so these are
    leave-one-out distances.
    """
    distances = bank.leave_one_out()
    return Thresholds(
        decision=gamma_percentile(distances, config.decision_percentile),
        alarm=gamma_percentile(distances, config.alarm_percentile),
    )


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
