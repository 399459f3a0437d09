"""The loss of the paper, equation by equation (section 2.3).

Z, Z', Z_lam are (N, D): one row a window, one column a feature. lam is (N,), one value a pair.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Reduction = Literal["mean", "sum"]


def mix(x: Tensor, other: Tensor, lam: Tensor) -> Tensor:
    """X_lam = lam X + (1 - lam) X' (section 2.3), lam (N,) broadcast over whatever an item is."""
    lam = lam.view(-1, *[1] * (x.dim() - 1))
    return lam * x + (1 - lam) * other


def invariance(z_lam: Tensor, z: Tensor, z_other: Tensor, lam: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Equation 1, s: the embedding of the mix must be the mix of the embeddings.

    "mean" is what the text of section 2.3 says, a mean squared error over N and D; "sum" is what the formula says, the
    squared norm, which is D times heavier.
    """
    squares = (z_lam - mix(z, z_other, lam)).square()
    return squares.mean() if reduction == "mean" else squares.sum(dim=1).mean()


def variance(z: Tensor) -> Tensor:
    """Equation 2, v: every feature's standard deviation over the batch should reach 1.

    std = sqrt(unbiased variance + 1e-4), as in VICReg's code; z^j is a feature, not a row.
    """
    return functional.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean()


def covariance(z: Tensor) -> Tensor:
    """Equations 3 and 4, c: the sum of the squared off-diagonal elements of C(Z), over d = D, as in VICReg's code."""
    n, d = z.shape
    centred = z - z.mean(dim=0)
    c = centred.T @ centred / (n - 1)
    return (c.square().sum() - c.diagonal().square().sum()) / d


class LossTerms(NamedTuple):
    """The loss of equation 5 and what it is made of."""

    loss: Tensor
    invariance: Tensor
    variance: Tensor
    covariance: Tensor


def pretraining_loss(
    z: Tensor,
    z_other: Tensor,
    z_lam: Tensor,
    lam: Tensor,
    *,
    gamma: float = 25.0,
    mu: float = 25.0,
    nu: float = 1.0,
    reduction: Reduction = "mean",
    variance_scale: float = 1.0,
) -> LossTerms:
    """Equation 5: gamma s + mu (v(Z) + v(Z')) + nu (c(Z) + c(Z')). VICReg's code halves mu's sum: `variance_scale`."""
    s = invariance(z_lam, z, z_other, lam, reduction)
    v = variance_scale * (variance(z) + variance(z_other))
    c = covariance(z) + covariance(z_other)
    return LossTerms(gamma * s + mu * v + nu * c, s, v, c)


def mixed_label_divergence(logits: Tensor, section: Tensor, other: Tensor, lam: Tensor) -> Tensor:
    """KL divergence from the classifier's output to the mixed section label, mean over the batch (section 2.4).

    Args:
        logits: (N, sections), of the mixed windows.
        section, other: (N,), the section index of X and of X'.
        lam: (N,).
    """
    count = logits.shape[1]
    target = mix(functional.one_hot(section, count).to(lam), functional.one_hot(other, count).to(lam), lam)
    return functional.kl_div(functional.log_softmax(logits, dim=1), target, reduction="batchmean")
