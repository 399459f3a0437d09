"""How many clips a bank needs: the fewest that find what the whole one finds, on clips held out.

Where an AUC can be measured: the training clips are dealt into folds, each fold is held out in its turn, the others are
the whole bank, and a coreset of them a smaller one. Held-out clips are the normal ones; the anomalous ones are clips
of real faults where the user has some, else the held-out clips with a fault made up. A smaller bank is good enough
where its loss of AUC, and one standard error of it over folds and sections, stay within the tolerance, and those of all
larger ones do too: of many sizes one may pass by luck. What a bank seems to gain is luck as well, and counts as nothing
lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from edge_asd_trainer.coreset import coreset

FOLDS = 5
FEWEST_CLIPS = 20  # of a section; of fewer a fold says nothing
SMALLEST = 8
MOST_CLIPS = 1000  # of a section that are measured with; of more, these are the whole bank
CHANCE = 0.55  # a whole bank that tells no better than this says nothing of smaller ones

Embeddings = NDArray[np.float32]


class Tried(msgspec.Struct, frozen=True):
    """A size that was tried.

    Attributes:
        entries: of each section's bank, at most.
        loss: of AUC against the whole bank, in points of 100, mean over folds and sections.
        error: its standard error.
    """

    entries: int
    loss: float
    error: float


class BankChoice(msgspec.Struct, frozen=True):
    """How large the banks are, and why.

    Attributes:
        entries: of each section's bank, at most; 0 where all clips are kept.
        why: in words.
        auc: of the whole banks on held-out clips, 0 to 1; None where nothing was measured.
        tried: from small to large.
    """

    entries: int
    why: str
    auc: float | None = None
    tried: Sequence[Tried] = ()

    def said(self) -> str:
        """In a line."""
        kept = f"at most {self.entries} clips a section" if self.entries else "all clips"
        return f"{kept}: {self.why}"


def choose(
    normal: Mapping[str, Embeddings], faulty: Mapping[str, Embeddings], *, paired: bool, tolerance: float
) -> BankChoice:
    """The size that loses no more than `tolerance` points of 100.

    Args:
        normal: by section the training clips' embeddings (clips, dimensions).
        faulty: by section the anomalous clips' (clips, dimensions).
        paired: whether these are the normal clips with faults made up, in their order: a fault is then held out with
            the clip that it was made from.
        tolerance: points of 100.
    """
    measurable = sorted(name for name in normal if len(normal[name]) >= FEWEST_CLIPS and len(faulty.get(name, ())))
    if not measurable:
        return BankChoice(0, f"no section has {FEWEST_CLIPS} clips and a fault, so nothing was measured")
    largest = min(MOST_CLIPS, max(len(clips) for clips in normal.values()))
    sizes = [SMALLEST * 2**step for step in range(20) if SMALLEST * 2**step < largest]
    aucs = np.concatenate([_aucs(normal[name], faulty[name], sizes, paired=paired) for name in measurable])
    whole = float(aucs[:, -1].mean())
    losses = 100 * (aucs[:, -1:] - aucs[:, :-1])
    errors = losses.std(axis=0, ddof=1) / np.sqrt(len(losses))
    tried = [Tried(*each) for each in zip(sizes, losses.mean(axis=0).tolist(), errors.tolist(), strict=True)]
    if whole < CHANCE:
        return BankChoice(0, f"the whole banks tell no better than chance, AUC {100 * whole:.1f} %", whole, tried)
    good = [max(one.loss, 0.0) + one.error <= tolerance for one in tried]
    for at, one in enumerate(tried):
        if all(good[at:]):
            why = f"loses {one.loss:.2f} ± {one.error:.2f} points of an AUC of {100 * whole:.1f} %"
            return BankChoice(one.entries, why, whole, tried)
    return BankChoice(0, f"no smaller bank loses less than {tolerance:g} points", whole, tried)


def _aucs(normal: Embeddings, faulty: Embeddings, sizes: Sequence[int], *, paired: bool) -> NDArray[np.float64]:
    """(folds, sizes + 1): the AUC of banks of these sizes, and of the whole one, on some of many clips."""
    some = np.linspace(0, len(normal) - 1, min(len(normal), MOST_CLIPS)).round().astype(np.intp)
    normal, faulty = normal[some], faulty[some] if paired else faulty
    fold_of = np.random.default_rng(0).permutation(len(normal)) % FOLDS
    rows = []
    for fold in range(FOLDS):
        held_out, known = fold_of == fold, normal[fold_of != fold]
        asked = np.concatenate([normal[held_out], faulty[held_out] if paired else faulty])
        strange = np.arange(len(asked)) >= held_out.sum()
        distances = np.stack([np.linalg.norm(known - one, axis=1) for one in asked])
        share = len(known) / len(normal)  # the folds' banks are as much smaller as all that there is to choose from
        banks = [coreset(known, round(share * size)) for size in sizes]
        rows.append([_auc(strange, distances[:, bank]) for bank in (*banks, slice(None))])
    return np.array(rows)


def _auc(strange: NDArray[np.bool_], distances: NDArray[np.floating[Any]]) -> float:
    return float(roc_auc_score(strange, distances.min(axis=1)))
