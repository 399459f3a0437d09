"""What smaller banks would reach: the AUC of ever fewer of its clips, chosen to stand for all, and drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from edge_asd.bank import Bank
from edge_asd_trainer.coreset import coreset
from edge_asd_trainer.metrics import means

DRAWS = 10


class BankSize(msgspec.Struct, frozen=True):
    """What banks of one size reach.

    Attributes:
        entries: of each section's bank, at most.
        bytes: that all sections' banks take in a bundle.
        coreset: harmonic mean over the sections of their AUC, domains together, of the clips that stand for all.
        auc: the same of clips drawn at random; mean over the draws.
        lowest, highest: of any draw.
    """

    entries: int
    bytes: int
    coreset: float
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
    """Banks of 1, 2, 4, ... entries and the whole ones, coresets and ten draws each, the same at every call.

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

    def reached(chosen: Mapping[str, Sequence[int]]) -> float:
        """The harmonic mean of the sections' AUC with some of the entries of each."""
        aucs = []
        for name, rows in distances.items():
            scores = rows[:, chosen[name]].min(axis=1) * signs[section == name]
            aucs.append(float(roc_auc_score(truth[section == name], scores)))
        return means(aucs)[1]

    found = []
    for size in sizes:
        chosen = {name: coreset(banks[name].decoded(), size) for name in distances}
        draws = [reached(_drawn(distances, size, draw)) for draw in range(1 if size == largest else DRAWS)]
        taken = sum(_bytes(banks[name], entries) for name, entries in chosen.items())
        found.append(BankSize(size, taken, reached(chosen), float(np.mean(draws)), min(draws), max(draws)))
    return found


def _drawn(distances: Mapping[str, NDArray[np.float64]], size: int, draw: int) -> dict[str, Sequence[int]]:
    """So many of every bank's entries, at random; the same ones for the same draw."""
    chosen = {}
    for name, rows in distances.items():
        random, entries = np.random.default_rng((size, draw, rows.shape[1])), rows.shape[1]
        chosen[name] = random.choice(entries, min(size, entries), replace=False).tolist()
    return chosen


def _bytes(bank: Bank, entries: Sequence[int]) -> int:
    """What a bank of some of its entries takes in a bundle: axes, codes and names."""
    names = [bank.clips[entry] for entry in entries]
    alone = Bank.of(bank.decoded()[list(entries)], names)
    return alone.axes.nbytes + alone.codes.nbytes + sum(len(name.encode()) + 3 for name in names)


def _distances(bank: Bank, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """(clips, entries)."""
    return np.stack([bank.distances(embedding) for embedding in embeddings]).astype(np.float64)
