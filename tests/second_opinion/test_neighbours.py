"""What a bank says against scikit-learn, SciPy and faiss, on what it keeps: distances, and whose they are."""

from __future__ import annotations

import io
import json
from itertools import product

import faiss
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from edge_asd.bank import FEW, Bank
from edge_asd.comparison import Backend, scorer
from second_opinion.outsider import Entries

ROUNDED = 1e-6  # relative: ours is rounded to float32 (found: 6e-8)
BACKENDS = [
    *(Backend(neighbours=k, density=density) for k, density in product((1, 3), (0, 1, 4))),
    Backend(distance="mahalanobis"),
]


def embeddings_of(clips: int, seed: int = 0) -> np.ndarray:
    """As a network's lie: a few directions carry most of what they differ by, about a common centre."""
    random = np.random.default_rng(seed)
    turned = np.linalg.qr(np.random.default_rng(99).normal(size=(320, 320)))[0]
    centre = np.random.default_rng(98).normal(size=320)
    return (centre + random.normal(size=(clips, 320)) * 4 * np.exp(-np.arange(320) / 6) @ turned).astype(np.float32)


def bank_of(embeddings: np.ndarray, *, spread: bool = False) -> Bank:
    return Bank.of(embeddings, [f"{index}.wav" for index in range(len(embeddings))], spread=spread)


def entries_of(bank: Bank) -> Entries:
    """What somebody else makes of the bank's three files."""
    files = {}
    for kind, values in (("codes", bank.codes), ("axes", bank.axes)):
        np.save(file := io.BytesIO(), values)
        files[f"bank/00.embedding.{kind}.npy"] = file.getvalue()
    files["bank/00.embedding.json"] = json.dumps({"scale": bank.scale, "clips": bank.clips}).encode()
    return Entries(files, "00", "embedding")


def decoded(bank: Bank, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entries, and what is asked, as points: coordinates, then the two rests at a right angle."""
    kept, axes = bank.codes.astype(np.float64) * bank.scale, bank.axes.astype(np.float64)
    from_centre = asked.astype(np.float64) - axes[0]
    coordinates = from_centre @ axes[1:].T
    rests = np.linalg.norm(from_centre - coordinates @ axes[1:], axis=1)
    return np.column_stack([kept, np.zeros(len(kept))]), np.column_stack([coordinates, np.zeros(len(asked)), rests])


@pytest.mark.parametrize("clips", [2, 250, FEW + 800], ids=["two", "few", "many, by a product in float32 first"])
def test_the_nearest_is_scikit_learns_scipys_and_faisss(clips: int) -> None:
    bank, asked = bank_of(embeddings_of(clips)), embeddings_of(60, seed=1)
    entries, points = decoded(bank, asked)
    ours = [bank.nearest(x) for x in asked]
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(entries)
    theirs, which = (found[:, 0] for found in nearest.kneighbors(points))
    np.testing.assert_allclose([one.distance for one in ours], theirs, rtol=ROUNDED)
    assert [one.entry for one in ours] == which.tolist()
    outsider = entries_of(bank)
    np.testing.assert_allclose([bank.distances(x) for x in asked], [outsider.distances(x) for x in asked], rtol=ROUNDED)
    assert [bank.clips[one.entry] for one in ours] == [outsider.nearest(x) for x in asked]
    index = faiss.IndexFlatL2(entries.shape[1])
    index.add(entries.astype(np.float32))
    squares, found = index.search(points.astype(np.float32), 1)
    np.testing.assert_allclose(np.sqrt(squares[:, 0]), theirs, rtol=1e-4)  # in float32
    assert found[:, 0].tolist() == which.tolist()


@pytest.mark.parametrize("clips", [40, FEW], ids=["few", "many"])
def test_of_two_that_are_as_near_the_first_is_named(clips: int) -> None:
    """Every entry is there twice; scikit-learn says how far, and that either will do."""
    once = embeddings_of(clips)
    bank, asked = bank_of(np.concatenate([once, once])), once + np.float32(1e-3)
    entries, points = decoded(bank, asked)
    distances, which = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(entries).kneighbors(points)
    np.testing.assert_array_equal(distances[:, 0], distances[:, 1])
    ours = [bank.nearest(x) for x in asked]
    np.testing.assert_allclose([one.distance for one in ours], distances[:, 0], rtol=ROUNDED)
    assert [one.entry for one in ours] == which.min(axis=1).tolist() == list(range(clips))


def test_many_that_lie_close_together_and_far_from_the_centre() -> None:
    """So that in float32 their squares and products are larger than all by which they differ."""
    random = np.random.default_rng(0)
    place, apart = random.choice([-30000, 30000], size=16), random.integers(-9, 10, size=(FEW + 800, 16))
    codes = np.column_stack([place + apart, np.zeros(len(apart))]).astype(np.int16)
    axes = np.vstack([np.zeros(16), np.eye(16)]).astype(np.float16)
    bank = Bank(codes, axes, 0.001, tuple(str(index) for index in range(len(codes))))
    asked = (0.001 * (place + random.uniform(-9, 9, size=(40, 16)))).astype(np.float32)
    entries, points = decoded(bank, asked)
    distances, which = NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit(entries).kneighbors(points)
    ours = [bank.nearest(x) for x in asked]
    assert [one.entry for one in ours] == which[:, 0].tolist()
    np.testing.assert_allclose([one.distance for one in ours], distances[:, 0], rtol=ROUNDED)


@pytest.mark.parametrize("spread", [False, True], ids=["few axes", "all that vary"])
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda one: f"{one.distance} k={one.neighbours} {one.density}")
@pytest.mark.parametrize("clips", [6, 250])
def test_every_back_end_is_somebody_elses(clips: int, backend: Backend, spread: bool) -> None:
    """Strange ones too, which lie far outside of the axes."""
    bank, asked = bank_of(embeddings_of(clips), spread=spread), embeddings_of(12, seed=1)
    asked[:4] = 5 * asked[:4] + np.random.default_rng(2).normal(size=(4, 320))
    outsider, score = entries_of(bank), scorer(backend, bank)
    stated = {"distance": backend.distance, "neighbours": backend.neighbours, "density": backend.density}
    for x in asked:
        assert score(x) == pytest.approx(outsider.score(x, stated), rel=ROUNDED)
