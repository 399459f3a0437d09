"""How strange a clip is for a section: the paper's nearest neighbour, or others that the manifest names.

Several look at a clip at once, each at its embedding or at the statistics of its log-mel. Their scores have no unit in
common, so each is z-normalised by what the bank's own clips score, and they are summed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge_asd.bank import Bank, Embedding
from edge_asd.front_end import LogMel

Feature = Literal["embedding", "statistics"]
SHRINKAGE = 0.1


class Backend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One view of how far a clip is from normal; as it stands, the paper's.

    Attributes:
        feature: what is compared: the mean of the window embeddings, or `statistics` of the log-mel.
        distance: "nearest": the mean Euclidean distance to the nearest entries of the bank; "mahalanobis": the distance
            to their mean in units of their spread, the covariance shrunk by 0.1 towards the same spread everywhere.
        neighbours: k, how many entries are the nearest.
        density: of a nearest entry the distance is divided by its own mean distance to so many entries nearest to it
            (local-density rescaling; 4 in the literature); 0 leaves it as it is.
    """

    feature: Feature = "embedding"
    distance: Literal["nearest", "mahalanobis"] = "nearest"
    neighbours: Annotated[int, Meta(ge=1, le=1000)] = 1
    density: Annotated[int, Meta(ge=0, le=1000)] = 0

    def __post_init__(self) -> None:
        if self.distance == "mahalanobis" and (self.neighbours, self.density) != (1, 0):
            raise ValueError("neighbours and density belong to distance nearest; remove them")

    @property
    def plain(self) -> bool:
        """Whether it is the paper's distance, of whatever feature: k = 1 and nothing rescaled."""
        return self == Backend(feature=self.feature)


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mean and standard deviation of what the bank's own clips score, each left out in its turn."""

    mean: float
    deviation: Annotated[float, Meta(gt=0)]


class Heard(NamedTuple):
    """What is compared of a clip: its embedding, and the statistics of its log-mel where a back-end looks at them."""

    embedding: Embedding
    statistics: Embedding | None = None


class Judgement(NamedTuple):
    """An anomaly score, and the normal clip that it is the distance to, if it is one."""

    value: float
    nearest: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """One section's banks, and how they are asked.

    Attributes:
        banks: of every feature that a back-end looks at.
        backends: one, whose score is taken as it is, or more.
        spreads: of each back-end's scores; none where there is only one.
    """

    banks: Mapping[Feature, Bank]
    backends: Sequence[Backend] = (Backend(),)
    spreads: Sequence[Spread] = ()

    def judge(self, heard: Heard) -> Judgement:
        """How strange a clip is, and the normal clip whose embedding is nearest to its own."""
        if len(self.backends) == 1 and self.backends[0].plain:
            [backend] = self.backends
            bank = self.banks[backend.feature]
            value, entry = bank.nearest(getattr(heard, backend.feature))
            return Judgement(value, bank.clips[entry])
        scores = [score(getattr(heard, backend.feature)) for backend, score in self._scores]
        if self.spreads:
            scores = [(one - spread.mean) / spread.deviation for one, spread in zip(scores, self.spreads, strict=True)]
        value = float(np.float32(sum(scores)))  # in float64 the last bits would depend on the processor
        return Judgement(value, self.banks["embedding"].clips[self.banks["embedding"].nearest(heard.embedding).entry])

    @cached_property
    def _scores(self) -> list[tuple[Backend, Callable[[Embedding], float]]]:
        return [(backend, scorer(backend, self.banks[backend.feature])) for backend in self.backends]


def scorer(backend: Backend, bank: Bank) -> Callable[[Embedding], float]:
    """What scores an embedding (dimensions,), or the statistics of a log-mel, against a bank of such."""
    if backend.distance == "mahalanobis":
        return _mahalanobis(bank)
    densities = _densities(bank, backend.density)

    def score(embedding: Embedding) -> float:
        rescaled = bank.distances(embedding).astype(np.float64) / densities
        return float(np.sort(rescaled)[: backend.neighbours].mean())

    return score


def held_out(backend: Backend, bank: Bank, clips: NDArray[np.float32], own: Sequence[int]) -> NDArray[np.float64]:
    """What normal clips (clips, dimensions) score, each as if the bank didn't hold it: as an unseen one would.

    Mahalanobis distances are an exception: the clip stays among those whose spread is measured, which it moves little.

    Args:
        backend: what scores them.
        bank: of them or of some.
        clips: embeddings or statistics.
        own: (clips,) the entry that a clip is itself; -1 where it is none.
    """
    if backend.distance == "mahalanobis" or len(bank) == 1:
        score = scorer(backend, bank)
        return np.array([score(one) for one, entry in zip(clips, own, strict=True) if len(bank) > 1 or entry < 0])
    densities, scores = _densities(bank, backend.density), np.empty(len(clips))
    for index, (one, entry) in enumerate(zip(clips, own, strict=True)):
        rescaled = bank.distances(one).astype(np.float64) / densities
        others = np.delete(rescaled, entry) if entry >= 0 else rescaled
        scores[index] = np.sort(others)[: backend.neighbours].mean()
    return scores


def statistics(log_mel: LogMel) -> Embedding:
    """Mean and standard deviation over time of every band of a log-mel (frames, mels), in dB: (2 x mels,)."""
    wide = log_mel.astype(np.float64)  # in float32 the last bits would depend on the processor
    both: Embedding = np.concatenate([wide.mean(axis=0), wide.std(axis=0)]).astype(np.float32)
    return both


def _densities(bank: Bank, neighbours: int) -> NDArray[np.float64]:
    """Mean distance of every entry to its nearest others, or 1 where nothing is to be rescaled, (entries,)."""
    if not neighbours or len(bank) < 2:
        return np.ones(len(bank))
    means = bank.between(neighbours).astype(np.float64).mean(axis=1)
    bounded: NDArray[np.float64] = np.maximum(means, np.finfo(np.float32).tiny)  # of entries that are all the same
    return bounded


def _mahalanobis(bank: Bank) -> Callable[[Embedding], float]:
    """Of the entries' covariance, which has few directions of its own: outside of the axes it is the same in all."""
    codes, dimensions = bank.codes.astype(np.float64), bank.axes.shape[1]
    inside, rest_squared = codes[:, :-1], float(np.square(codes[:, -1]).mean())
    mean, covariance = inside.mean(axis=0), np.atleast_2d(np.cov(inside.T, bias=True))
    even = (np.trace(covariance) + rest_squared) / dimensions
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * even * np.eye(len(covariance))
    outside = (1 - SHRINKAGE) * rest_squared / max(1, dimensions - len(covariance)) + SHRINKAGE * even
    precision, least = np.linalg.pinv(shrunk, hermitian=True), np.finfo(np.float64).tiny

    def score(embedding: Embedding) -> float:
        place = bank.place(embedding)
        off = place.coordinates - mean
        return float(np.sqrt(off @ precision @ off + place.rest_squared / max(outside, least)))

    return score
