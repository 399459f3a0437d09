"""int8 against float: what quantisation costs, on the test clips."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edge_asd.model import Model
from edge_asd.windows import Windows
from edge_asd_trainer.features import LogMels
from edge_asd_trainer.metrics import SectionFigures, means
from edge_asd_trainer.packing import mean_cosine

CLIPS_COMPARED = 32


class Agreement(msgspec.Struct, frozen=True):
    """How well the clips' scores of two systems agree; None where there are too few clips to say.

    Attributes:
        rank_correlation: Spearman's.
        auc, pauc: difference in points of 100.
    """

    rank_correlation: float | None
    auc: float | None
    pauc: float | None


class Parity(msgspec.Struct, frozen=True):
    """int8 against float, on the test clips.

    Attributes:
        cosine: mean cosine of what a window contributes to its clip: its embedding. None where that is a single number.
        overall: over all clips; AUC and pAUC are the harmonic means over the sections.
        worst: the lowest rank correlation and the largest differences of any section.
    """

    cosine: float | None
    overall: Agreement
    worst: Agreement


def window_cosine(test: LogMels, windows: Windows, int8: Model, floating: Model) -> float | None:
    """Mean cosine between two networks' embeddings of the same windows, of some of the clips; None as above."""
    cosines = []
    for index in range(0, len(test.clips), max(1, len(test.clips) // CLIPS_COMPARED)):
        cut = windows.cut(test[index])
        one, other = int8.embed(cut), floating.embed(cut)
        if one.shape[1] == 1:
            return None
        cosines.append(mean_cosine(one, other))
    return float(np.mean(cosines))


def parity(
    cosine: float | None,
    sections: Sequence[str],
    scores: NDArray[np.float64],
    float_scores: NDArray[np.float64],
    figures: Sequence[SectionFigures],
    float_figures: Sequence[SectionFigures],
) -> Parity:
    """Compare the scores (clips,) of two systems, and their figures, section by section in the same order.

    Args:
        cosine: as `window_cosine` gives it.
        sections: (clips,).
        scores, float_scores: of the clips.
        figures, float_figures: of the sections that have any.
    """
    section = np.array(sections)
    correlations = [_rank_correlation(scores[section == one], float_scores[section == one]) for one in set(sections)]
    auc, pauc = (
        [(getattr(one, figure), getattr(other, figure)) for one, other in zip(figures, float_figures, strict=True)]
        for figure in ("auc", "pauc")
    )
    return Parity(
        cosine=cosine,
        overall=Agreement(_rank_correlation(scores, float_scores), _points_apart(auc), _points_apart(pauc)),
        worst=Agreement(
            min((one for one in correlations if one is not None), default=None),
            max((100 * abs(one - other) for one, other in auc), default=None),
            max((100 * abs(one - other) for one, other in pauc), default=None),
        ),
    )


def _rank_correlation(scores: NDArray[np.float64], others: NDArray[np.float64]) -> float | None:
    """Spearman's; None for a single clip, or where all clips score the same."""
    if np.ptp(scores) == 0 or np.ptp(others) == 0:
        return None
    return float(stats.spearmanr(scores, others).statistic)


def _points_apart(pairs: Sequence[tuple[float, float]]) -> float | None:
    """How far the harmonic means of two systems' figures, (figure, figure) a section, lie apart, in points of 100."""
    if not pairs:
        return None
    (_, one), (_, other) = (means(figures) for figures in zip(*pairs, strict=True))
    return 100 * abs(one - other)
