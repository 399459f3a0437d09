"""The loss against slow loops over the paper's equations, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edge_asd_trainer.losses import covariance, invariance, mix, mixed_label_divergence, pretraining_loss, variance

N, D = 7, 5


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z, other, mixed = (torch.randn(N, D, generator=generator, dtype=torch.float64) * 0.7 for _ in range(3))
    return z, other, mixed, torch.rand(N, generator=generator, dtype=torch.float64)


def slow_invariance(mixed: Tensor, z: Tensor, other: Tensor, lam: Tensor) -> float:
    total = 0.0
    for i in range(N):
        for j in range(D):
            expected = lam[i] * z[i, j] + (1 - lam[i]) * other[i, j]
            total += float(mixed[i, j] - expected) ** 2
    return total / N


def slow_variance(z: Tensor) -> float:
    total = 0.0
    for j in range(D):
        mean = sum(float(z[i, j]) for i in range(N)) / N
        var = sum((float(z[i, j]) - mean) ** 2 for i in range(N)) / (N - 1)
        total += max(0.0, 1 - math.sqrt(var + 1e-4))
    return total / D


def slow_covariance(z: Tensor) -> float:
    means = [sum(float(z[i, j]) for i in range(N)) / N for j in range(D)]
    total = 0.0
    for j in range(D):
        for k in range(D):
            if j != k:
                c = sum((float(z[i, j]) - means[j]) * (float(z[i, k]) - means[k]) for i in range(N)) / (N - 1)
                total += c**2
    return total / D


def test_equation_1(batch: tuple[Tensor, ...]) -> None:
    z, other, mixed, lam = batch
    assert invariance(mixed, z, other, lam, "sum").item() == pytest.approx(
        slow_invariance(mixed, z, other, lam), abs=1e-9
    )
    assert invariance(mixed, z, other, lam).item() == pytest.approx(slow_invariance(mixed, z, other, lam) / D, abs=1e-9)


def test_equation_2(batch: tuple[Tensor, ...]) -> None:
    assert variance(batch[0]).item() == pytest.approx(slow_variance(batch[0]), abs=1e-9)


def test_equations_3_and_4(batch: tuple[Tensor, ...]) -> None:
    assert covariance(batch[0]).item() == pytest.approx(slow_covariance(batch[0]), abs=1e-9)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_equation_5(batch: tuple[Tensor, ...], scale: float) -> None:
    z, other, mixed, lam = batch
    expected = (
        25 * slow_invariance(mixed, z, other, lam) / D
        + 25 * scale * (slow_variance(z) + slow_variance(other))
        + slow_covariance(z)
        + slow_covariance(other)
    )
    terms = pretraining_loss(z, other, mixed, lam, variance_scale=scale)
    assert terms.loss.item() == pytest.approx(expected, abs=1e-6)


def test_a_perfect_embedding_has_no_invariance_term(batch: tuple[Tensor, ...]) -> None:
    z, other, _, lam = batch
    assert invariance(mix(z, other, lam), z, other, lam).item() == 0.0


def test_lambda_belongs_to_x_and_the_rest_to_the_other() -> None:
    x, other = torch.ones(2, 3, 4), torch.zeros(2, 3, 4)
    torch.testing.assert_close(mix(x, other, torch.tensor([1.0, 0.25]))[:, 0, 0], torch.tensor([1.0, 0.25]))


def test_the_divergence_is_zero_only_at_the_mixed_label() -> None:
    lam = torch.tensor([0.3])
    target = torch.tensor([[0.3, 0.7, 1e-12]])
    section, other = torch.tensor([0]), torch.tensor([1])
    assert mixed_label_divergence(target.log(), section, other, lam).item() == pytest.approx(0, abs=1e-6)
    uniform = mixed_label_divergence(torch.zeros(1, 3), section, other, lam).item()
    assert uniform == pytest.approx(0.3 * math.log(0.3 * 3) + 0.7 * math.log(0.7 * 3), abs=1e-6)


def test_the_divergence_is_a_mean_over_the_batch() -> None:
    one = mixed_label_divergence(torch.zeros(1, 3), torch.tensor([0]), torch.tensor([1]), torch.tensor([0.3]))
    many = mixed_label_divergence(
        torch.zeros(5, 3), torch.tensor([0] * 5), torch.tensor([1] * 5), torch.tensor([0.3] * 5)
    )
    torch.testing.assert_close(one, many)
