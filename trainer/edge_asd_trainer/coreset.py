"""Which clips stand for all: as few entries of a bank as needed, each a real clip that an alert can name.

Medoids: the clip nearest to the centre of each cluster of k-means. On three seeds of two splits they lost less than
random clips and herding from four entries on, and at 8 and 16 less than k-centre greedy (Sener and Savarese, 2018)
where there were two domains. Greedy facility location, of squared distances, was about as good, but compares all clips
with all (docs/bank.md).
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

BEGINNINGS = 4  # of which the best clustering counts
TIE = 1e-4  # of a squared distance; within it, as of two clips alone in a cluster, rounding would decide
MANY = 256  # clusters, of which another beginning gives hardly better ones and takes as long again


def coreset(embeddings: NDArray[np.float32], size: int) -> list[int]:
    """The indices of `size` of the (clips, dimensions) embeddings, sorted; all where there are no more.

    Of clips that lie as near to a centre, such as two alone in a cluster, it is the one nearer to the mean of all.
    """
    if size >= len(embeddings):
        return list(range(len(embeddings)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of clips that are the same: fewer clusters than asked for
        clusters = KMeans(size, n_init=BEGINNINGS if size < MANY else 1, random_state=0).fit(embeddings)
    from_all = np.square(embeddings - embeddings.mean(axis=0)).sum(axis=1)
    left, chosen = np.ones(len(embeddings), bool), []
    for centre in clusters.cluster_centers_:
        squares = np.where(left, np.square(embeddings - centre).sum(axis=1), np.inf)
        nearest = squares <= (1 + TIE) * squares.min()
        chosen.append(int(np.argmin(np.where(nearest, from_all, np.inf))))
        left[chosen[-1]] = False
    return sorted(chosen)
