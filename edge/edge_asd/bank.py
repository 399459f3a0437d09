"""What a machine sounds like when it runs well: the embeddings of normal clips (paper, section 2.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.float32]

NEAR_TIE = 1e-5  # relative; float32 sums of 320 squares agree far better


class Neighbour(NamedTuple):
    """The nearest entry of a bank: Euclidean distance to it, and which entry it is."""

    distance: float
    entry: int


@dataclass(frozen=True, eq=False)
class Bank:
    """Embeddings of one section's normal clips, source and target domain together.

    Attributes:
        embeddings: (entries, dimensions), kept as float16: 640 bytes a clip, and rounding moves a distance
            by less than a thousandth of it.
        clips: for every entry the name of the clip that it came from.
    """

    embeddings: NDArray[np.float16]
    clips: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or not len(self.embeddings):
            raise ValueError(f"a bank needs at least one embedding, found an array of shape {self.embeddings.shape}")
        if len(self.embeddings) != len(self.clips):
            raise ValueError(f"a bank names every entry, found {len(self.embeddings)} entries, {len(self.clips)} names")

    @classmethod
    def of(cls, embeddings: NDArray[np.float32], clips: Sequence[str]) -> Bank:
        """A bank of (entries, dimensions) embeddings and the names of their clips."""
        return cls(embeddings.astype(np.float16), tuple(clips))

    def __len__(self) -> int:
        return len(self.embeddings)

    def distances(self, embedding: Embedding) -> NDArray[np.float32]:
        """Euclidean distance of (dimensions,) to every entry, (entries,)."""
        difference = self._as_float32 - embedding
        distances: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
        return distances

    def nearest(self, embedding: Embedding) -> Neighbour:
        """The nearest entry to an embedding (dimensions,): k = 1, Euclidean.

        Those within rounding of the winner are summed again in float64, so that the answer doesn't depend on how
        many numbers this processor adds at once: every device gets the same one, bit for bit.
        """
        distances = self.distances(embedding)
        [candidates] = np.nonzero(distances <= distances.min() * (1 + NEAR_TIE))
        difference = self._as_float32[candidates].astype(np.float64) - embedding
        exact = np.sqrt(np.square(difference).sum(axis=1)).astype(np.float32)
        best = int(np.argmin(exact))
        return Neighbour(float(exact[best]), int(candidates[best]))

    def leave_one_out(self) -> NDArray[np.float32]:
        """Distance of every entry to the nearest other one, (entries,).

        An entry's distance to a bank that holds it is 0 and says nothing; this is what an unseen normal clip
        would have scored. A bank of one entry has no other: the result is then empty.
        """
        if len(self) < 2:
            return np.empty(0, np.float32)
        result = np.empty(len(self), np.float32)
        for index, embedding in enumerate(self._as_float32):
            distances = self.distances(embedding)
            distances[index] = np.inf
            result[index] = distances.min()
        return result

    @cached_property
    def _as_float32(self) -> NDArray[np.float32]:
        return self.embeddings.astype(np.float32)
