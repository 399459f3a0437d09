"""Which clips stand for all: as few entries of a bank as needed, each a real clip that an alert can name.

Medoids: the clip nearest to the centre of each cluster of k-means. On three seeds of two splits they lost less than
random clips, k-centre greedy (Sener and Savarese, 2018), herding and greedy facility location at 8 and 16 entries, and
as little as the centres themselves, which are no clips (docs/bank.md).
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

BEGINNINGS = 4  # of which the best clustering counts


def coreset(embeddings: NDArray[np.float32], size: int) -> list[int]:
    """The indices of `size` of the (clips, dimensions) embeddings, sorted; all where there are no more."""
    if size >= len(embeddings):
        return list(range(len(embeddings)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of clips that are the same: fewer clusters than asked for
        clusters = KMeans(size, n_init=BEGINNINGS, random_state=0).fit(embeddings)
    left, chosen = np.ones(len(embeddings), bool), []
    for centre in clusters.cluster_centers_:
        squares = np.square(embeddings - centre).sum(axis=1)
        chosen.append(int(np.argmin(np.where(left, squares, np.inf))))
        left[chosen[-1]] = False
    return sorted(chosen)
