"""The losses and their gradients against the paper's equations in plain Python, on batches of every kind."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edge_asd.errors import ConfigError
from edge_asd_trainer.config import load
from edge_asd_trainer.losses import LossTerms, invariance, mix, mixed_label_divergence, pretraining_loss
from second_opinion import by_hand

SECTIONS = 4


def batch(seed: int, n: int = 6, d: int = 4, spread: float = 0.6, lam: float | None = None) -> list[Tensor]:
    """Z, Z', Z_lam, and lambda: drawn, or the same for all."""
    generator = torch.Generator().manual_seed(seed)
    rows = [spread * torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(3)]
    shares = torch.rand(n, generator=generator, dtype=torch.float64)
    return [*rows, shares if lam is None else torch.full_like(shares, lam)]


def collapsed() -> list[Tensor]:
    """All embeddings the same."""
    return [torch.ones(6, 4, dtype=torch.float64) for _ in range(3)] + [torch.full((6,), 0.5, dtype=torch.float64)]


DEGENERATE = {
    "all the same": collapsed(),
    "two windows": batch(1, n=2),
    "one feature": batch(2, d=1),
    "lambda 0": batch(3, lam=0.0),
    "lambda 1": batch(4, lam=1.0),
    "beyond the hinge": batch(5, spread=30.0),  # every deviation above 1: variance has nothing to say
    "hardly apart": batch(6, spread=1e-4),
}


def lists(*tensors: Tensor) -> list[list[list[float]]]:
    return [tensor.tolist() for tensor in tensors]


def hold_terms(given_batch: list[Tensor], terms: LossTerms) -> None:
    *given_rows, lam = given_batch
    z, other, mixed = lists(*given_rows)
    assert terms.invariance.item() == pytest.approx(by_hand.s(z, other, mixed, lam.tolist()), rel=1e-12, abs=1e-15)
    assert terms.variance.item() == pytest.approx(by_hand.v(z) + by_hand.v(other), rel=1e-12, abs=1e-15)
    assert terms.covariance.item() == pytest.approx(by_hand.c(z) + by_hand.c(other), rel=1e-11, abs=1e-15)
    assert terms.loss.item() == pytest.approx(by_hand.loss(z, other, mixed, lam.tolist()), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(1, 8), st.sampled_from([1e-3, 0.6, 1.0, 3.0, 100.0]))
def test_every_term_of_the_loss(seed: int, n: int, d: int, spread: float) -> None:
    some = batch(seed, n, d, spread)
    hold_terms(some, pretraining_loss(*some))


@pytest.mark.parametrize("kind", DEGENERATE)
def test_every_term_of_a_degenerate_batch(kind: str) -> None:
    hold_terms(DEGENERATE[kind], pretraining_loss(*DEGENERATE[kind]))


@pytest.mark.parametrize("seed", range(3))
def test_the_other_readings_of_the_loss(seed: int) -> None:
    """The squared norm of the formula, and VICReg's half."""
    some = batch(seed)
    found = pretraining_loss(*some, reduction="sum", variance_scale=0.5).loss
    expected = by_hand.loss(*lists(*some[:3]), some[3].tolist(), as_norm=True, scale=0.5)
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("which", range(3), ids=["z", "other", "mixed"])
@pytest.mark.parametrize("kind", ["seed 7", "seed 8", "seed 9", *DEGENERATE])
def test_the_losss_gradient_is_that_of_the_equations(kind: str, which: int) -> None:
    """What a training follows, not only what it prints. Of embeddings that are all the same it is 0, not infinite."""
    *rows, lam = DEGENERATE.get(kind) or batch(int(kind[-1]))
    tensors = [row.clone().requires_grad_(index == which) for index, row in enumerate(rows)]
    pretraining_loss(*tensors, lam).loss.backward()
    plain = lists(*rows)

    def moved(at: by_hand.Rows) -> float:
        return by_hand.loss(*(at if index == which else row for index, row in enumerate(plain)), lam.tolist())

    expected = torch.tensor(by_hand.gradient(moved, plain[which]), dtype=torch.float64)
    found = tensors[which].grad
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7 * max(1.0, float(expected.abs().max())))


def test_the_expected_gradient_of_a_collapse_is_0_and_its_loss_the_largest() -> None:
    *rows, lam = collapsed()
    assert by_hand.loss(*lists(*rows), lam.tolist()) == pytest.approx(25 * 2 * 0.99)
    assert by_hand.gradient(by_hand.v, lists(rows[0])[0]) == [[0.0] * 4] * 6


def test_a_mix_is_lambdas_share_of_each() -> None:
    z, other, _, lam = batch(0)
    assert mix(z, other, lam).tolist() == by_hand.mixed(*lists(z, other), lam.tolist())


def test_one_window_has_no_deviation_so_no_training_has_batches_of_one() -> None:
    z, other, mixed, lam = batch(0, n=1)
    assert invariance(mixed, z, other, lam).item() == pytest.approx(by_hand.s(*lists(z, other, mixed), lam.tolist()))
    for stage in ("pretraining", "fine_tuning"):
        with pytest.raises(ConfigError, match="batch"):
            load("paper", options=[f"{stage}.batch=1"])


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("n", "certainty"), [(1, 1.0), (5, 1.0), (5, 20.0)], ids=["one window", "five", "certain"])
def test_the_divergence_and_its_gradient(lam: float, n: int, certainty: float) -> None:
    generator = torch.Generator().manual_seed(n)
    logits = (certainty * torch.randn(n, SECTIONS, generator=generator, dtype=torch.float64)).requires_grad_()
    section, other = (torch.randint(SECTIONS, (n,), generator=generator) for _ in range(2))
    shares = torch.full((n,), lam, dtype=torch.float64)
    found = mixed_label_divergence(logits, section, other, shares)
    words = (section.tolist(), other.tolist(), shares.tolist())
    assert found.item() == pytest.approx(by_hand.divergence(logits.tolist(), *words), rel=1e-12, abs=1e-14)
    found.backward()
    expected = by_hand.gradient(lambda at: by_hand.divergence(at, *words), logits.tolist())
    torch.testing.assert_close(logits.grad, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-8)


def test_the_divergence_of_two_windows_of_one_section_is_that_of_the_section() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0]], dtype=torch.float64)
    section, half = torch.tensor([2]), torch.tensor([0.5], dtype=torch.float64)
    found = mixed_label_divergence(logits, section, section, half).item()
    assert found == pytest.approx(by_hand.divergence(logits.tolist(), [2], [2], [0.5]), rel=1e-12)
    assert found == pytest.approx(-torch.log_softmax(logits, dim=1)[0, 2].item(), rel=1e-12)
