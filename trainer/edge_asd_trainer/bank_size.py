"""How many normal clips a bank needs: the AUC of ever smaller ones, drawn from it at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from edge_asd.bank import Bank
from edge_asd_trainer.metrics import means

DRAWS = 10


class BankSize(msgspec.Struct, frozen=True):
    """What banks of one size reach.

    Attributes:
        entries: of each section's bank, at most.
        auc: harmonic mean over the sections of their AUC, domains together; mean over the draws.
        lowest, highest: of any draw.
    """

    entries: int
    auc: float
    lowest: float
    highest: float


def bank_sizes(
    banks: Mapping[str, Bank],
    embeddings: NDArray[np.float32],
    sections: Sequence[str],
    anomalous: Sequence[bool],
    signs: NDArray[np.float64],
) -> list[BankSize]:
    """Banks of 1, 2, 4, ... entries and the whole ones, ten draws each; the draws are the same at every call.

    Args:
        banks: by section.
        embeddings: (clips, dimensions) of labelled test clips.
        sections: (clips,), each with clips of both kinds.
        anomalous: (clips,) the truth.
        signs: (clips,) -1 where a section's scores are flipped.
    """
    section, truth = np.array(sections), np.array(anomalous)
    distances = {name: _distances(banks[name], embeddings[section == name]) for name in sorted(set(sections))}
    largest = max((rows.shape[1] for rows in distances.values()), default=0)
    sizes = [*(2**power for power in range(largest.bit_length()) if 2**power < largest), largest] if largest else []
    found = []
    for size in sizes:
        draws = []
        for draw in range(1 if size == largest else DRAWS):
            aucs = []
            for name, rows in distances.items():
                random = np.random.default_rng((size, draw, rows.shape[1]))
                some = random.choice(rows.shape[1], min(size, rows.shape[1]), replace=False)
                scores = rows[:, some].min(axis=1) * signs[section == name]
                aucs.append(float(roc_auc_score(truth[section == name], scores)))
            draws.append(means(aucs)[1])
        found.append(BankSize(size, float(np.mean(draws)), min(draws), max(draws)))
    return found


def _distances(bank: Bank, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """(clips, entries)."""
    return np.stack([bank.distances(embedding) for embedding in embeddings]).astype(np.float64)
