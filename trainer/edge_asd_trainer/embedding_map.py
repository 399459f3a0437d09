"""Clip embeddings on a plane, for the eye: sections apart, and within a section the normal from the anomalous.

The plane is that of two principal components: of all clips for the overview, of a section's own for its close-up. It
turns and drops directions and does nothing else, so a distance on it is at most the true one, and the score is a
distance. t-SNE keeps neighbours and not distances, takes half a minute for some hundred clips, and a discriminant
analysis would draw apart by the very labels that the map is to be looked at for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_asd.bank import Bank
from edge_asd.clip_name import ClipName, parse_clip_name


class Place(msgspec.Struct, frozen=True):
    """Where a clip lies on the map; an unknown domain is None.

    Attributes:
        section, domain: the clip's.
        overview: on the principal components of all clips, in units of the embedding, as the score is.
        close_up: on those of its section's clips, likewise.
    """

    section: str
    domain: str | None
    overview: tuple[float, float]
    close_up: tuple[float, float]


class EmbeddingMap(msgspec.Struct, frozen=True):
    """Test clips, and the training clips that they are compared with.

    Attributes:
        test: in the order of the evaluation's clips.
        train: the bundle's banks, section by section.
        overview_shares: how much of the variance of all clips lies along either component, 0 to 1.
        close_up_shares: likewise of a section's clips, by section.
    """

    test: list[Place]
    train: list[Place]
    overview_shares: tuple[float, float]
    close_up_shares: dict[str, tuple[float, float]]


def embedding_map(
    embeddings: NDArray[np.float32], names: Sequence[ClipName], banks: Mapping[str, Bank]
) -> EmbeddingMap:
    """The map of test clips' embeddings (clips, dimensions), with their names, among the banks of all sections."""
    known = [parse_clip_name(clip) for section in sorted(banks) for clip in banks[section].clips]
    every = [*names, *known]
    both = np.concatenate([embeddings, *(banks[section].decoded() for section in sorted(banks))]).astype(np.float64)
    owner = np.array([name.section for name in every])
    overview, overview_shares = _principal_components(both)
    close_up, shares = np.zeros_like(overview), {}
    for section in sorted(set(owner)):
        members = owner == section
        close_up[members], shares[str(section)] = _principal_components(both[members])
    places = [
        Place(name.section, name.domain, (float(x), float(y)), (float(nearer_x), float(nearer_y)))
        for name, (x, y), (nearer_x, nearer_y) in zip(every, overview, close_up, strict=True)
    ]
    return EmbeddingMap(places[: len(names)], places[len(names) :], overview_shares, shares)


def _principal_components(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """(points, 2) on the directions in which (points, dimensions) vary most, and the shares of variance along them."""
    centred = points - points.mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    # A direction has no sign of its own; without a rule a map could come out mirrored on another machine.
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.where(directions[np.arange(len(directions)), largest] < 0, -1, 1)[:, np.newaxis]
    components: NDArray[np.float64] = np.zeros((len(centred), 2))
    components[:, : len(directions)] = centred @ directions.T
    along = np.square(components).sum(axis=0) / max(float(np.square(lengths).sum()), 1e-300)
    return components, (float(along[0]), float(along[1]))
