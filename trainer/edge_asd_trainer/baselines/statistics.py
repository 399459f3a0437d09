"""Without a network: mean and standard deviation of the log-mel over time, then 1-NN or Mahalanobis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ShrunkCovariance
from sklearn.neighbors import NearestNeighbors

from edge_asd_trainer.features import LogMels

SHRINKAGE = 0.1

Scorer = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]]


def clip_statistics(log_mels: LogMels) -> NDArray[np.float32]:
    """Mean and standard deviation over time of every band: (clips, 2 x mels)."""
    return np.stack(
        [
            np.concatenate([log_mel.mean(axis=0), log_mel.std(axis=0)])
            for log_mel in map(log_mels.__getitem__, range(len(log_mels.clips)))
        ]
    )


def nearest_neighbour(train: NDArray[np.float32], test: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distance of every test row to the nearest training row."""
    distances, _ = NearestNeighbors(n_neighbors=1).fit(train).kneighbors(test)
    return np.asarray(distances[:, 0], np.float64)


def mahalanobis(train: NDArray[np.float32], test: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mahalanobis distance of every test row to the training rows' mean, their covariance shrunk by 0.1."""
    fitted = ShrunkCovariance(shrinkage=SHRINKAGE).fit(train.astype(np.float64))
    return np.sqrt(np.asarray(fitted.mahalanobis(test.astype(np.float64)), np.float64))


SYSTEMS: dict[str, Scorer] = {
    "log-mel statistics, 1-NN": nearest_neighbour,
    "log-mel statistics, Mahalanobis": mahalanobis,
}
