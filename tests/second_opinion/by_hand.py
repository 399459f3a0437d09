"""The paper's equations in plain Python, term by term as they stand there: no array library, no gradient of its own.

Z, Z', Z_lam are lists of rows, a row a window; lam is a list. Sections 2.3 and 2.4 of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, variance

Rows = Sequence[Sequence[float]]


def mixed(z: Rows, other: Rows, lam: Sequence[float]) -> list[list[float]]:
    """lam z + (1 - lam) z'."""
    pairs = zip(z, other, lam, strict=True)
    return [[share * a + (1 - share) * b for a, b in zip(x, y, strict=True)] for x, y, share in pairs]


def s(z: Rows, other: Rows, z_lam: Rows, lam: Sequence[float]) -> float:
    """Equation 1, as the text has it: the mean squared error over windows and features."""
    return s_norm(z, other, z_lam, lam) / len(z[0])


def s_norm(z: Rows, other: Rows, z_lam: Rows, lam: Sequence[float]) -> float:
    """Equation 1, as the formula has it: the squared norm of every window's error, mean over the windows."""
    pairs = zip(z_lam, mixed(z, other, lam), strict=True)
    return fmean(math.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for x, y in pairs)


def v(z: Rows) -> float:
    """Equation 2: max(0, 1 - sqrt(Var(z^j) + 1e-4)), mean over the features j."""
    return fmean(max(0.0, 1 - math.sqrt(variance(feature) + 1e-4)) for feature in zip(*z, strict=True))


def c(z: Rows) -> float:
    """Equations 3 and 4: the squares of C(Z) off its diagonal, over the number of features."""
    features = list(zip(*z, strict=True))
    means = [fmean(feature) for feature in features]

    def covariance(j: int, k: int) -> float:
        pairs = zip(features[j], features[k], strict=True)
        return math.fsum((a - means[j]) * (b - means[k]) for a, b in pairs) / (len(z) - 1)

    count = len(features)
    return math.fsum(covariance(j, k) ** 2 for j in range(count) for k in range(count) if j != k) / count


def loss(z: Rows, other: Rows, z_lam: Rows, lam: Sequence[float], *, as_norm: bool = False, scale: float = 1) -> float:
    """Equation 5 with the paper's gamma = mu = 25, nu = 1; VICReg's code has a half before mu's sum."""
    first = (s_norm if as_norm else s)(z, other, z_lam, lam)
    return 25 * first + 25 * scale * (v(z) + v(other)) + (c(z) + c(other))


def divergence(logits: Rows, section: Sequence[int], other: Sequence[int], lam: Sequence[float]) -> float:
    """KL(mixed label || softmax of the logits), mean over the batch; 0 log 0 is 0 (section 2.4)."""
    total = []
    for row, first, second, share in zip(logits, section, other, lam, strict=True):
        label = [0.0] * len(row)
        label[first] += share
        label[second] += 1 - share
        whole = math.log(math.fsum(math.exp(value) for value in row))
        total.append(math.fsum(p * (math.log(p) - (value - whole)) for p, value in zip(label, row, strict=True) if p))
    return fmean(total)


def gradient(function: Callable[[Rows], float], at: Rows, step: float = 1e-5) -> list[list[float]]:
    """By central differences."""

    def moved(i: int, j: int, by: float) -> float:
        rows = [list(row) for row in at]
        rows[i][j] += by
        return function(rows)

    return [[(moved(i, j, step) - moved(i, j, -step)) / (2 * step) for j in range(len(at[0]))] for i in range(len(at))]
