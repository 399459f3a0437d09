"""Without a network: a clip's log-mel pooled over time, then 1-NN, Mahalanobis or a Gaussian mixture.

A system that learns and doesn't beat these on the same split has shown nothing. Their numbers were fixed before any
result was seen, and nothing in them is fitted to test clips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ShrunkCovariance
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from edge_asd.comparison import statistics
from edge_asd.front_end import LogMel
from edge_asd_trainer.features import LogMels

SHRINKAGE = 0.1
DECAY = 0.99  # r of GWRP: frame n in the order of loudness weighs r ** n, so that the loudest 3 s count for most
COMPONENTS = 2
RESOLUTION = 1.0  # dB squared on the covariance's diagonal: a pooled band is not known better than to 1 dB
MOST_FOLDS = 20
FEWEST_TO_LEAVE_OUT = 3

Features = NDArray[np.float32]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """A system without a network.

    Attributes:
        title: as results name it.
        pool: a log-mel (frames, mels) to a vector.
        fit: to training rows; gives what scores other rows.
    """

    title: str
    pool: Callable[[LogMel], Features]
    fit: Callable[[Features], Callable[[Features], Scores]]

    def pooled(self, log_mels: LogMels) -> Features:
        """Every clip's vector, (clips, features)."""
        return np.stack([self.pool(log_mels[index]) for index in range(len(log_mels.clips))])

    def held_out_scores(self, train: Features) -> Scores:
        """What each training row scores where it wasn't among those fitted: twenty folds, or one a row.

        Of two rows none can be left out, for one has no spread; they score what they do among themselves.
        """
        if len(train) < FEWEST_TO_LEAVE_OUT:
            return self.fit(train)(train)
        folds = np.arange(len(train)) % min(len(train), MOST_FOLDS)
        scores = np.empty(len(train))
        for fold in range(folds.max() + 1):
            scores[folds == fold] = self.fit(train[folds != fold])(train[folds == fold])
        return scores


def weighted_ranks(log_mel: LogMel) -> Features:
    """Global weighted ranking pooling: of every band its frames from loud to soft, weighted by r ** n, (mels,).

    r = 1 is the mean, r = 0 the maximum (Guan et al., ICASSP 2023, who choose r for each machine type by its test
    clips, which is not done here).
    """
    weights = DECAY ** np.arange(len(log_mel))
    loudest_first = -np.sort(-log_mel, axis=0)
    pooled: Features = (weights @ loudest_first / weights.sum()).astype(np.float32)
    return pooled


def nearest_neighbour(train: Features) -> Callable[[Features], Scores]:
    """Euclidean distance of a row to the nearest training row."""
    fitted = NearestNeighbors(n_neighbors=1).fit(train)
    return lambda test: np.asarray(fitted.kneighbors(test)[0][:, 0], np.float64)


def mahalanobis(train: Features) -> Callable[[Features], Scores]:
    """Mahalanobis distance of a row to the training rows' mean, their covariance shrunk by 0.1."""
    fitted = ShrunkCovariance(shrinkage=SHRINKAGE).fit(train.astype(np.float64))
    return lambda test: np.sqrt(np.asarray(fitted.mahalanobis(test.astype(np.float64)), np.float64))


def gaussian_mixture(train: Features) -> Callable[[Features], Scores]:
    """Negative log-likelihood of a row, in nats, under a mixture of two Gaussians with full covariances."""
    mixture = GaussianMixture(min(COMPONENTS, len(train)), reg_covar=RESOLUTION, random_state=0, max_iter=1000)
    mixture.fit(train.astype(np.float64))
    return lambda test: -np.asarray(mixture.score_samples(test.astype(np.float64)), np.float64)


SYSTEMS = (
    Statistics("log-mel statistics, 1-NN", statistics, nearest_neighbour),
    Statistics("log-mel statistics, Mahalanobis", statistics, mahalanobis),
    Statistics("log-mel GWRP, Gaussian mixture", weighted_ranks, gaussian_mixture),
)
