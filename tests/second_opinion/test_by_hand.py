"""Losses and their gradients against plain Python, and neighbours against scikit-learn, SciPy and faiss."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch
from scipy.spatial import distance
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from edge_asd.bank import Bank
from edge_asd_trainer.losses import mixed_label_divergence, pretraining_loss
from second_opinion import by_hand

SECTIONS = 4


def batch(seed: int, n: int = 6, d: int = 4, spread: float = 0.6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = [spread * torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(3)]
    return [*rows, torch.rand(n, generator=generator, dtype=torch.float64)]


def lists(*tensors: Tensor) -> list[list[list[float]]]:
    return [tensor.tolist() for tensor in tensors]


@pytest.mark.parametrize("seed", range(5))
def test_every_term_of_the_loss(seed: int) -> None:
    z, other, mixed, lam = batch(seed)
    terms = pretraining_loss(z, other, mixed, lam)
    rows = lists(z, other, mixed)
    assert terms.invariance.item() == pytest.approx(by_hand.s(*rows, lam.tolist()), rel=1e-12)
    assert terms.variance.item() == pytest.approx(by_hand.v(rows[0]) + by_hand.v(rows[1]), rel=1e-12)
    assert terms.covariance.item() == pytest.approx(by_hand.c(rows[0]) + by_hand.c(rows[1]), rel=1e-12)
    assert terms.loss.item() == pytest.approx(by_hand.loss(*rows, lam.tolist()), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("which", range(3), ids=["z", "other", "mixed"])
def test_the_losss_gradient_is_that_of_the_equations(seed: int, which: int) -> None:
    """What a training follows, not only what it prints."""
    *given, lam = batch(seed)
    given[which].requires_grad_()
    pretraining_loss(*given, lam).loss.backward()
    rows = lists(*given)

    def moved(at: by_hand.Rows) -> float:
        return by_hand.loss(*(at if index == which else row for index, row in enumerate(rows)), lam.tolist())

    np.testing.assert_allclose(given[which].grad, by_hand.gradient(moved, rows[which]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_the_divergence_and_its_gradient(lam: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(5, SECTIONS, generator=generator, dtype=torch.float64).requires_grad_()
    section, other = (torch.randint(SECTIONS, (5,), generator=generator) for _ in range(2))
    shares = torch.full((5,), lam, dtype=torch.float64)
    found = mixed_label_divergence(logits, section, other, shares)
    words = (section.tolist(), other.tolist(), shares.tolist())
    assert found.item() == pytest.approx(by_hand.divergence(logits.tolist(), *words), rel=1e-12)
    found.backward()
    expected = by_hand.gradient(lambda at: by_hand.divergence(at, *words), logits.tolist())
    np.testing.assert_allclose(logits.grad, expected, rtol=1e-5, atol=1e-8)


def test_embeddings_that_are_all_the_same() -> None:
    """Variance pulls with all that it has, nothing is infinite, and nothing is invented."""
    z = torch.ones(6, 4, dtype=torch.float64, requires_grad=True)
    lam = torch.full((6,), 0.5, dtype=torch.float64)
    terms = pretraining_loss(z, z, z, lam)
    rows = lists(z, z, z)
    assert terms.loss.item() == pytest.approx(by_hand.loss(*rows, lam.tolist()), rel=1e-12)
    terms.loss.backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    random = np.random.default_rng(0)
    turned = np.linalg.qr(random.normal(size=(320, 320)))[0]
    return (random.normal(size=(300, 320)) * 4 * np.exp(-np.arange(320) / 6) @ turned).astype(np.float32)


def test_the_nearest_is_scikit_learns_scipys_and_faisss(embeddings: np.ndarray) -> None:
    """On what the bank keeps: the entries in the space of their axes, with their rests."""
    known, asked = embeddings[:250], embeddings[250:]
    bank = Bank.of(known, [f"{index}.wav" for index in range(len(known))])
    kept = bank.codes.astype(np.float64) * bank.scale
    axes = bank.axes.astype(np.float64)
    from_centre = asked.astype(np.float64) - axes[0]
    coordinates = from_centre @ axes[1:].T
    rests = np.linalg.norm(from_centre - coordinates @ axes[1:], axis=1)
    rows = np.column_stack([kept, np.zeros(len(kept))])
    points = np.column_stack([coordinates, np.zeros(len(asked)), rests])
    ours = [bank.nearest(x) for x in asked]
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(rows)
    theirs, entries = (found[:, 0] for found in nearest.kneighbors(points))
    np.testing.assert_allclose([one.distance for one in ours], theirs, rtol=1e-6)
    assert [one.entry for one in ours] == entries.tolist()
    every = distance.cdist(points, rows)
    np.testing.assert_allclose([bank.distances(x) for x in asked], every, rtol=1e-6)
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows.astype(np.float32))
    squares, found = index.search(points.astype(np.float32), 1)
    assert found[:, 0].tolist() == entries.tolist()
    np.testing.assert_allclose(np.sqrt(squares[:, 0]), theirs, rtol=1e-3)


def test_of_two_that_are_as_near_the_first_is_named(embeddings: np.ndarray) -> None:
    twice = np.concatenate([embeddings[:40], embeddings[:40]])
    bank = Bank.of(twice, [f"{index}.wav" for index in range(len(twice))])
    assert [bank.nearest(x).entry for x in embeddings[:40]] == list(range(40))
