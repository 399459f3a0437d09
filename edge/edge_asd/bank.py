"""What a machine sounds like when it runs well: the embeddings of normal clips (paper, section 2.5), kept compactly.

The embeddings of a section lie close to a space of some 16 to 32 dimensions among the network's 320. A bank therefore
keeps of each its coordinates along the principal axes of all, as whole numbers on one scale, and how far it lies from
that space. What a clip has beyond that space, as a strange one does, is not lost: its distance to an entry is

    d^2 = |c - c_i|^2 + |rest|^2 + |rest_i|^2

with c and c_i the coordinates. Left out is only the product of the two rests, of which the entry's is small: as many
axes are kept as it takes for that to matter little, see `Bank.of`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.float32]
Codes = NDArray[np.int8] | NDArray[np.int16]

LARGEST_ERROR = 0.015  # of a distance to the nearest entry, over the smallest such distance
AXES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 320)
MOST_TRIED = 1000  # clips, in each half of those whose distances are compared
ROWS_AT_ONCE = 2048  # that are widened, so that a large bank takes no more memory than it has
FEW = 400  # entries that are compared in float64 without further ado
MOST_KEPT_WIDE = 1 << 18  # codes, so 1 MB as float32
SMALLEST_RANGE = 1e-6  # of coordinates, where the clips are all the same
LARGEST = float(np.finfo(np.float16).max)  # of an embedding's values, for the centre is kept in float16
SCALES = (1e-12, 1e12)  # between which that of the codes must lie: no network gives others


class Neighbour(NamedTuple):
    """The nearest entry of a bank: Euclidean distance to it, and which entry it is."""

    distance: float
    entry: int


class Place(NamedTuple):
    """Where an embedding lies: (axes,) coordinates in units of the bank's scale, and the square of its rest, in them.

    Both in float64, so that no device differs by more than 1e-15 of them, whatever it sums first.
    """

    coordinates: NDArray[np.float64]
    rest_squared: float


@dataclass(frozen=True, eq=False)
class Bank:
    """Embeddings of one section's normal clips, source and target domain together.

    Attributes:
        codes: (entries, axes + 1) int8 or int16: an entry's coordinate along every axis and, last, its rest, the
            distance from the space of the axes; in units of `scale`.
        axes: (1 + axes, dimensions) float16: the centre, then the principal axes.
        scale: of the codes, in the embedding's units.
        clips: for every entry the name of the clip that it came from.
    """

    codes: Codes
    axes: NDArray[np.float16]
    scale: float
    clips: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or not len(self.codes):
            raise ValueError(f"a bank needs at least one embedding, found an array of shape {self.codes.shape}")
        if self.axes.ndim != 2 or self.codes.shape[1] != len(self.axes):
            raise ValueError(f"found codes of shape {self.codes.shape} along axes of shape {self.axes.shape}")
        if not SCALES[0] <= self.scale <= SCALES[1]:  # its square is divided by
            raise ValueError(f"the scale must lie in {SCALES[0]:g} to {SCALES[1]:g}, found {self.scale}")
        if len(self.codes) != len(self.clips):
            raise ValueError(f"a bank names every entry, found {len(self.codes)} entries, {len(self.clips)} names")

    @classmethod
    def of(cls, embeddings: NDArray[np.float32], clips: Sequence[str], *, spread: bool = False) -> Bank:
        """A bank of (clips, dimensions) embeddings and the names of their clips.

        As many axes are kept as it takes for 99 in 100 distances to the nearest entry to be right within 1.5 % of the
        smallest of them, tried with the axes of one half of the clips and the distances of the other; in int8 where
        that suffices, else in int16. Fewer clips than there are dimensions need no more axes than clips.

        Args:
            embeddings: of the entries.
            clips: their names.
            spread: keep besides every axis along which the clips vary by as much as counts for a Mahalanobis distance,
                a hundredth of the mean over all dimensions.

        Raises:
            ValueError: there are none, a name is missing, or a value isn't finite or is beyond `LARGEST`.
        """
        if embeddings.ndim != 2 or not len(embeddings):
            raise ValueError(f"a bank needs at least one embedding, found an array of shape {embeddings.shape}")
        if len(embeddings) != len(clips):
            raise ValueError(f"a bank names every entry, found {len(embeddings)} entries, {len(clips)} names")
        _check(embeddings)
        count, kind = _needed(embeddings)
        if spread:
            count, kind = max(count, _varying(embeddings)), np.int16
        axes = _principal_axes(embeddings)[: 1 + count]
        return _encoded(embeddings, clips, axes, kind)

    def joined(self, embeddings: NDArray[np.float32], clips: Sequence[str], *, spread: bool = False) -> Bank:
        """The bank with more entries, (clips, dimensions) and their names, along the principal axes of all.

        What entries of this one have outside of its axes is known by its length alone and keeps that; of the new ones
        everything counts. Rests that point the same way, as those of clips from one new place do, would not be told
        apart if the axes were left as they are.

        Raises:
            ValueError: a value isn't finite or is beyond `LARGEST`.
        """
        everything = np.concatenate([self.decoded(), embeddings])
        _check(everything)
        count = max(_needed(everything)[0], _varying(everything) if spread else 0)
        axes = _principal_axes(everything)[: 1 + count]
        values, rests = _along(everything, axes), self.scale * self.codes[:, -1].astype(np.float64)
        values[: len(self), -1] = np.hypot(values[: len(self), -1], rests)
        return _coded(values, [*self.clips, *clips], axes, np.int16)

    def __len__(self) -> int:
        return len(self.codes)

    def place(self, embedding: Embedding) -> Place:
        """Where an embedding (dimensions,) lies."""
        centre, directions = self._axes
        centred = embedding - centre
        coordinates = directions @ centred
        rest = centred - coordinates @ directions
        return Place(coordinates / self.scale, float(rest @ rest) / self.scale**2)

    def distances(self, embedding: Embedding) -> NDArray[np.float32]:
        """Euclidean distance of (dimensions,) to every entry, (entries,)."""
        place = self.place(embedding)
        distances = np.empty(len(self), np.float32)
        for rows in _blocks(len(self)):
            distances[rows] = self._exact(place, rows)
        return distances

    def nearest(self, embedding: Embedding) -> Neighbour:
        """The nearest entry to an embedding (dimensions,): k = 1, Euclidean.

        Many entries are compared in float32 by a matrix product first; those that its rounding can't tell from the
        nearest are compared in float64, so that every device gets the same answer, bit for bit.
        """
        place = self.place(embedding)
        candidates = np.arange(len(self)) if len(self) <= FEW else self._possible(place)
        exact = self._exact(place, candidates)
        best = int(np.argmin(exact))
        return Neighbour(float(exact[best]), int(candidates[best]))

    def _possible(self, place: Place) -> NDArray[np.intp]:
        """The entries that may be the nearest."""
        coordinates = place.coordinates.astype(np.float32)
        products = np.empty(len(self), np.float32)
        for rows in _blocks(len(self)):
            np.matmul(self._wide(rows), coordinates, out=products[rows])
        distances = self._squares - 2 * products
        rounding = 4 * (len(coordinates) + 4) * float(np.finfo(np.float32).eps)
        doubt = rounding * float(self._squares.max() + coordinates @ coordinates)
        return np.flatnonzero(distances <= distances.min() + doubt)

    def between(self, neighbours: int) -> NDArray[np.float32]:
        """Distances of every entry to its nearest other ones, (entries, neighbours) from near to far."""
        found = np.empty((len(self), min(neighbours, len(self) - 1)), np.float32)
        for index, code in enumerate(self.codes.astype(np.float64)):
            distances = self._exact(Place(code[:-1], code[-1] ** 2), slice(None))
            distances[index] = np.inf
            found[index] = np.sort(distances)[: found.shape[1]]
        return found

    def decoded(self) -> NDArray[np.float32]:
        """The entries' (entries, dimensions) within the space of the axes."""
        centre, directions = self._axes
        decoded: NDArray[np.float32] = (self.scale * self.codes[:, :-1] @ directions + centre).astype(np.float32)
        return decoded

    def _exact(self, place: Place, rows: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        some = self.codes[rows].astype(np.float64)
        squares = np.square(some[:, :-1] - place.coordinates).sum(axis=1) + np.square(some[:, -1]) + place.rest_squared
        distances: NDArray[np.float32] = (self.scale * np.sqrt(squares)).astype(np.float32)
        return distances

    @cached_property
    def _axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The centre (dimensions,), and the directions (axes, dimensions)."""
        return self.axes[0].astype(np.float64), self.axes[1:].astype(np.float64)

    @cached_property
    def _squares(self) -> NDArray[np.float32]:
        """Of every entry the sum of its squared codes, (entries,)."""
        sums = [np.square(self.codes[rows], dtype=np.float64).sum(axis=1) for rows in _blocks(len(self))]
        joined: NDArray[np.float32] = np.concatenate(sums).astype(np.float32)
        return joined

    def _wide(self, rows: slice) -> NDArray[np.float32]:
        """Coordinates as a matrix product takes them; a bank that is small even so keeps them."""
        if self.codes.size <= MOST_KEPT_WIDE:
            return self._kept_wide[rows]
        return self.codes[rows, :-1].astype(np.float32)

    @cached_property
    def _kept_wide(self) -> NDArray[np.float32]:
        return self.codes[:, :-1].astype(np.float32)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, count, ROWS_AT_ONCE))


def _check(embeddings: NDArray[np.float32]) -> None:
    """Raises ValueError: LAPACK may never return from what isn't finite, and an infinite centre makes all of it so."""
    if not (np.abs(embeddings) <= LARGEST).all():
        raise ValueError(f"every value of an embedding must lie in -{LARGEST:g} to {LARGEST:g}")


def _needed(embeddings: NDArray[np.float32]) -> tuple[int, type[np.int8] | type[np.int16]]:
    """How many axes, and which whole numbers, see `Bank.of`."""
    most = min(len(embeddings) - 1, embeddings.shape[1])
    half, other = embeddings[::2][:MOST_TRIED], embeddings[1::2][:MOST_TRIED]
    if len(half) <= AXES[0]:
        return most, np.int16
    axes = _principal_axes(half)
    true = np.array([np.sqrt(np.square(half - one).sum(axis=1, dtype=np.float64).min()) for one in other])
    reach = float(np.linalg.norm(embeddings - axes[0].astype(np.float32), axis=1).max())
    counts = [count for count in (*AXES, most) if count <= min(len(half) - 1, most)]
    tried = ((count, kind) for count in counts for kind in (np.int8, np.int16))
    for count, kind in sorted(tried, key=lambda one: one[0] * np.dtype(one[1]).itemsize):
        bank = _encoded(half, [""] * len(half), axes[: 1 + count], kind, reach)
        found = np.array([bank.nearest(one).distance for one in other])
        if np.percentile(np.abs(found - true), 99) <= LARGEST_ERROR * np.percentile(true, 1):
            return count, kind
    return most, np.int16


def _varying(embeddings: NDArray[np.float32]) -> int:
    """Along how many principal axes embeddings vary at all, see `Bank.of`."""
    variances: NDArray[np.float64] = np.square(
        np.linalg.svd(embeddings - embeddings.mean(axis=0), compute_uv=False)
    ) / len(embeddings)
    return int(np.count_nonzero(variances > 0.01 * variances.sum() / embeddings.shape[1]))


def _principal_axes(embeddings: NDArray[np.float32]) -> NDArray[np.float16]:
    """The centre of (clips, dimensions), then their principal axes, the one of the largest variance first."""
    centre = embeddings.mean(axis=0, dtype=np.float64).astype(np.float16)
    directions = np.linalg.svd(embeddings - centre.astype(np.float64), full_matrices=False)[2]
    return np.vstack([centre, directions.astype(np.float16)])


def _encoded(
    embeddings: NDArray[np.float32],
    clips: Sequence[str],
    axes: NDArray[np.float16],
    kind: type[np.int8] | type[np.int16],
    reach: float = SMALLEST_RANGE,
) -> Bank:
    """(clips, dimensions) embeddings along these axes; codes reach so far at least."""
    return _coded(_along(embeddings, axes), clips, axes, kind, reach)


def _along(embeddings: NDArray[np.float32], axes: NDArray[np.float16]) -> NDArray[np.float64]:
    """Coordinates and rest of (clips, dimensions), (clips, axes + 1)."""
    wide = axes.astype(np.float64)
    centred = embeddings - wide[0]
    coordinates = centred @ wide[1:].T
    rests = np.linalg.norm(centred - coordinates @ wide[1:], axis=1)
    return np.column_stack([coordinates, rests])


def _coded(
    values: NDArray[np.float64],
    clips: Sequence[str],
    axes: NDArray[np.float16],
    kind: type[np.int8] | type[np.int16],
    reach: float = SMALLEST_RANGE,
) -> Bank:
    """Coordinates and rests, (clips, axes + 1), as whole numbers on one scale."""
    scale = max(float(np.abs(values).max()), reach, SMALLEST_RANGE) / np.iinfo(kind).max
    return Bank(np.rint(values / scale).astype(kind), axes, scale, tuple(clips))
