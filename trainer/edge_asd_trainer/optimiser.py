"""LARS and its schedule, as VICReg uses them (paper, section 2.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al., 2017): SGD with momentum, its step scaled by ||w|| / ||g||.

    Parameters of one dimension (biases, batch normalisation) get neither weight decay nor scaling, as in VICReg's code,
    whose steps these are: section 2.3 names the optimiser alone.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float = 0.0,
        weight_decay: float = 1e-4,
        momentum: float = 0.9,
        trust: float = 0.001,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "trust": trust})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step, in place."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update: Tensor = parameter.grad
                if parameter.dim() > 1:
                    update = update.add(parameter, alpha=group["weight_decay"])
                    norm, update_norm = parameter.norm(), update.norm()
                    scale = torch.where((norm > 0) & (update_norm > 0), group["trust"] * norm / update_norm, 1.0)
                    update = update * scale
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].mul_(group["momentum"]).add_(update)
                parameter.add_(state["momentum"], alpha=-group["lr"])


def learning_rate(step: int, *, steps: int, warm_up: int, peak: float, final: float) -> float:
    """Linear warm-up from 0 over `warm_up` steps, then half a cosine from `peak` down to `final`, both absolute.

    Section 2.3 has 0.8 and 0.002, and counts in epochs; VICReg's code moves the rate with every step.
    """
    if step < warm_up:
        return peak * step / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group this rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
