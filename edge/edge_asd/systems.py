"""The paper's systems on the device: what each makes of its network's output for a window, before the mean over a clip.

system1       the embedding as it is; a clip's is compared with a bank (section 2.5)
autoencoder   the mean squared error of the reconstruction, the challenge's first baseline
mobilenetv2   log(1 - p) - log(p) for the probability p of every section, the challenge's second baseline
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_asd.front_end import LogMel
from edge_asd.model import Model

System = Literal["system1", "autoencoder", "mobilenetv2"]

EPSILON = np.finfo(np.float64).eps  # the challenge bounds p and 1 - p by it


class Reconstruction:
    """A network that repeats its input, (N, mels, frames) to (N, mels x frames), as one that says how badly."""

    def __init__(self, model: Model) -> None:
        self.name, self._model = model.name, model

    def prepare(self, log_mel: LogMel) -> NDArray[np.float32]:
        """(frames, mels) as it is: what the network makes of it is compared with it."""
        return log_mel

    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, mels, frames) to the mean squared error of each, (N, 1), in dB squared.

        In float64: in float32 its last bits would depend on how many numbers a processor adds at once.
        """
        error = (self._model.embed(windows) - windows.reshape(len(windows), -1)).astype(np.float64)
        mean: NDArray[np.float32] = np.square(error).mean(axis=1, keepdims=True).astype(np.float32)
        return mean


class Misclassification:
    """A network that tells sections apart, by a logit each, as one that says how little a window is of each."""

    def __init__(self, model: Model) -> None:
        self.name, self._model = model.name, model

    def prepare(self, log_mel: LogMel) -> NDArray[Any]:
        """(frames, mels) as the network takes it."""
        return self._model.prepare(log_mel)

    def embed(self, windows: NDArray[Any]) -> NDArray[np.float32]:
        """(N, mels, frames) to log(1 - p) - log(p), (N, sections), p being the softmax of the logits.

        Both logarithms have the sum over all sections in common, so what is left is that over the others less the
        section's own logit: exact where p itself would be rounded to 1.
        """
        logits = self._model.embed(windows).astype(np.float64)
        own = np.eye(logits.shape[1], dtype=bool)
        others = np.logaddexp.reduce(np.where(own, -np.inf, logits[:, None, :]), axis=2)
        bound = -np.log(EPSILON)
        misclassified: NDArray[np.float32] = np.clip(others - logits, -bound, bound).astype(np.float32)
        return misclassified


def of(system: System, model: Model) -> Model:
    """The model whose outputs a system takes the mean of."""
    if system == "autoencoder":
        return Reconstruction(model)
    if system == "mobilenetv2":
        return Misclassification(model)
    return model
