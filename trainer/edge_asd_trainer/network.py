"""The network (paper, section 2.2 and Table 1): a 0.5-width MobileNetV2 whose tail gives 320 values a window.

input         operator          t   c    n   s
128x64x3      conv2d 3x3        -   16   1   2
64x32x16      bottleneck        1   8    1   1
64x32x8       bottleneck        6   16   2   2
32x16x16      bottleneck        6   16   3   2
16x8x16       bottleneck        6   32   4   2
8x4x32        bottleneck        6   48   3   1
8x4x48        bottleneck        6   80   3   2
4x2x80        bottleneck        6   160  1   1
4x2x160       conv2d 1x1        -   320  1   1
4x2x320       conv2d 4x2        -   320  1   1
1x1x320       conv2d 1x1        -   320  1   1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

WINDOW = (128, 64)
DIMENSIONS = 320

# t (expansion), c (channels), n (repetitions), s (stride of the first of them)
BOTTLENECKS = ((1, 8, 1, 1), (6, 16, 2, 2), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))

Tail = Literal["dense", "depthwise"]


class _StridedDepthwise(torch.autograd.Function):
    """A depthwise convolution of stride 2 whose gradient by its input is computed in float32.

    PyTorch's library for processors has no fast bfloat16 kernel for just this one gradient: it took two thirds of a
    training step (docs/architecture.md). Everything else stays as it is.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return nn.functional.conv2d(x, weight, None, 2, 1, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        layout = ([2, 2], [1, 1], [1, 1], False, [0, 0], len(weight))  # stride, padding, dilation ... groups
        backward = torch.ops.aten.convolution_backward
        _, by_weight, _ = backward(gradient, x, weight, None, *layout, [False, True, False])
        whole = (gradient.float(), x.float(), weight.float())
        by_x, _, _ = backward(*whole, None, *layout, [True, False, False])
        return by_x.to(x.dtype), by_weight


class StridedDepthwise(nn.Conv2d):
    """A 3x3 depthwise convolution of stride 2, padded by 1: as any other, but trained fast in bfloat16 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype == torch.bfloat16 and torch.is_grad_enabled():
            with torch.autocast("cpu", enabled=False):
                result: Tensor = _StridedDepthwise.apply(x, self.weight.to(torch.bfloat16))  # type: ignore[no-untyped-call]
            return result
        return super().forward(x)


def convolution(
    inputs: int, outputs: int, kernel: int | tuple[int, int], *, stride: int = 1, padding: int = 0, groups: int = 1
) -> list[nn.Module]:
    """Convolution without bias and batch normalisation."""
    kind = StridedDepthwise if groups > 1 and stride == 2 else nn.Conv2d
    conv = kind(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Bottleneck(nn.Module):
    """Inverted residual: expand by t, filter each channel, project linearly; add the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*convolution(inputs, hidden, 1), nn.ReLU6(inplace=True)]
        layers += [*convolution(hidden, hidden, 3, stride=stride, padding=1, groups=hidden), nn.ReLU6(inplace=True)]
        layers += convolution(hidden, outputs, 1)
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class Encoder(nn.Module):
    """f_theta: (N, channels, 128, 64) standardised log-mel to (N, 320)."""

    def __init__(self, channels: int = 3, tail: Tail = "dense") -> None:
        """Build Table 1.

        Args:
            channels: 3 in training (the log-mel repeated), 1 once `fold_channels` has summed the first kernel.
            tail: the 4x2 convolution is "dense", as the table says conv2d, or "depthwise". BN and ReLU6 follow it; the
                last 1x1 is linear, as MobileNetV2's own projections are.
        """
        super().__init__()
        self.channels = channels
        width = 16
        layers: list[nn.Module] = [*convolution(channels, width, 3, stride=2, padding=1), nn.ReLU6(inplace=True)]
        for expansion, outputs, repetitions, stride in BOTTLENECKS:
            for repetition in range(repetitions):
                step = stride if repetition == 0 else 1
                layers.append(Bottleneck(width, outputs, expansion=expansion, stride=step))
                width = outputs
        groups = 1 if tail == "dense" else DIMENSIONS
        layers += [*convolution(width, DIMENSIONS, 1), nn.ReLU6(inplace=True)]
        layers += [*convolution(DIMENSIONS, DIMENSIONS, (4, 2), groups=groups), nn.ReLU6(inplace=True)]
        layers += convolution(DIMENSIONS, DIMENSIONS, 1)  # linear: no activation behind the last
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y.flatten(1)


def _initialise(module: nn.Module) -> None:
    """As torchvision's MobileNetV2: He initialisation by fan-out, BN at identity."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")


def expander(width: int = 1280, last: Literal["bn_relu", "linear"] = "bn_relu") -> nn.Sequential:
    """h_phi (section 2.3): three fully connected layers, each with BN and ReLU.

    Args:
        width: 1280.
        last: "bn_relu" is the paper to the letter; "linear" leaves the last layer bare, as VICReg does, for a unit
            whose ReLU is dead gives the variance term no gradient.
    """
    layers: list[nn.Module] = []
    for inputs in (DIMENSIONS, width, width):
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
    if last == "linear":
        layers = [*layers[:-3], nn.Linear(width, width, bias=False)]
    return nn.Sequential(*layers)


def classifier(sections: int) -> nn.Sequential:
    """320-128-sections (section 2.4: 320-128-6), ReLU between; an output for every section of the machine type."""
    return nn.Sequential(nn.Linear(DIMENSIONS, 128), nn.ReLU(), nn.Linear(128, sections))


def fold_channels(encoder: Encoder, tail: Tail = "dense") -> Encoder:
    """The same function of one channel: Table 1's three are the same, so the first kernel's inputs add up (exact)."""
    folded = Encoder(channels=1, tail=tail)
    folded.load_state_dict(one_channel(encoder.state_dict()))
    return folded.train(encoder.training)


def one_channel(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's parameters, its first kernel summed over its inputs."""
    first = "layers.0.weight"
    return {**state, first: state[first].sum(dim=1, keepdim=True)}


def channels_last(module: nn.Module) -> None:
    """Keep the kernels as the images are kept, channels last: twice as fast on a CPU."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def images(windows: Tensor, channels: int) -> Tensor:
    """(N, mels, P) to Table 1's (N, channels, mels, P), the log-mel repeated, channels last in memory."""
    repeated = windows[:, None].expand(-1, channels, -1, -1)
    return repeated.contiguous(memory_format=torch.channels_last)
