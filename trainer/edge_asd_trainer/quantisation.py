"""Quantisation-aware fine-tuning: the network learns under the rounding that int8 will bring.

Post-training quantisation alone moved an AUC by up to 2.8 points on a trained network. The error was made in few
places: the rounding of the input, of the first kernels, and of the linear bottlenecks' outputs, whose range is wide
because no ReLU6 bounds it. Here these are rounded in the last part of fine-tuning, gradients passing straight through
(Jacob et al., 2018); what ReLU6 bounds contributes little and is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edge_asd_trainer.network import Bottleneck, Encoder

STEPS = 255  # from the smallest to the largest int8


def round_activations(x: Tensor) -> Tensor:
    """Round to 256 steps over the batch's own range, one scale for the whole tensor, zero exactly representable."""
    low, high = torch.aminmax(x.detach())
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = ((high - low) / STEPS).clamp(min=1e-8)
    zero_point = torch.round(-low / scale).int()
    rounded: Tensor = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, 0, STEPS)
    return rounded


@dataclass
class Rounding:
    """Whether an encoder rounds now."""

    active: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """An activation, rounded while active."""
        return round_activations(x) if self.active else x


class RoundedKernel(nn.Module):
    """Round a kernel to int8, symmetric, one scale an output channel. Folding BN into it later changes no step."""

    def __init__(self, rounding: Rounding) -> None:
        super().__init__()
        self._rounding = rounding

    def forward(self, weight: Tensor) -> Tensor:
        if not self._rounding.active:
            return weight
        scale = (weight.detach().abs().amax(dim=(1, 2, 3)) / 127).clamp(min=1e-12)
        zero_point = torch.zeros_like(scale, dtype=torch.int32)
        rounded: Tensor = torch.fake_quantize_per_channel_affine(weight, scale, zero_point, 0, -127, 127)
        return rounded


@contextmanager
def quantisation_aware(encoder: Encoder) -> Iterator[Rounding]:
    """Inside, the encoder rounds as int8 will, while the `Rounding` that this gives is active.

    Afterwards it is a float network again, with the weights that it learnt. Its parameters are others inside than
    outside: make the optimiser inside.
    """
    rounding = Rounding()
    kernels = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    bottlenecks = [module for module in encoder.modules() if isinstance(module, Bottleneck)]
    rounded = [encoder, *(one.layers for one in bottlenecks), *(one for one in bottlenecks if one.residual)]
    hooks = [module.register_forward_hook(lambda _m, _i, output: rounding(output)) for module in rounded]
    hooks.append(encoder.register_forward_pre_hook(lambda _, inputs: rounding(inputs[0])))
    for kernel in kernels:
        parametrize.register_parametrization(kernel, "weight", RoundedKernel(rounding))
    try:
        yield rounding
    finally:
        rounding.active = False
        for kernel in kernels:
            parametrize.remove_parametrizations(kernel, "weight", leave_parametrized=False)
        for hook in hooks:
            hook.remove()
