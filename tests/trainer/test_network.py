"""Table 1, stage by stage."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edge_asd_trainer.network import (
    Bottleneck,
    Encoder,
    StridedDepthwise,
    classifier,
    expander,
    fold_channels,
    images,
)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_one_input_channel_gives_1_454_752_parameters() -> None:
    assert parameters(Encoder(channels=1)) == 1_454_752
    assert parameters(Encoder(channels=3)) == 1_454_752 + 2 * 9 * 16


def test_every_stage_has_the_shape_of_table_1() -> None:
    encoder = Encoder(channels=3).eval()
    shapes: list[tuple[int, ...]] = []
    for layer in encoder.layers:
        layer.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape[1:])))
    encoder(torch.zeros(1, 3, 128, 64))
    convolutions_and_bottlenecks = [
        shape for layer, shape in zip(encoder.layers, shapes, strict=True) if isinstance(layer, nn.Conv2d | Bottleneck)
    ]
    assert convolutions_and_bottlenecks == [
        (16, 64, 32),  # conv 3x3
        (8, 64, 32),  # t 1, c 8, n 1, s 1
        (16, 32, 16),
        (16, 32, 16),  # t 6, c 16, n 2, s 2
        *[(16, 16, 8)] * 3,  # t 6, c 16, n 3, s 2
        *[(32, 8, 4)] * 4,  # t 6, c 32, n 4, s 2
        *[(48, 8, 4)] * 3,  # t 6, c 48, n 3, s 1
        *[(80, 4, 2)] * 3,  # t 6, c 80, n 3, s 2
        (160, 4, 2),  # t 6, c 160, n 1, s 1
        (320, 4, 2),  # conv 1x1
        (320, 1, 1),  # conv 4x2
        (320, 1, 1),  # conv 1x1
    ]


def test_the_tail_is_dense_unless_asked_for_depthwise() -> None:
    dense = Encoder(1).layers[-5]
    assert isinstance(dense, nn.Conv2d)
    assert dense.groups == 1
    assert dense.kernel_size == (4, 2)
    assert parameters(Encoder(1, tail="depthwise")) == 1_454_752 - 320 * 8 * 319
    assert isinstance(Encoder(1).layers[-1], nn.BatchNorm2d)  # the last is linear: nothing behind it


def test_folding_three_channels_into_one_is_exact() -> None:
    torch.manual_seed(0)
    encoder = Encoder(3).train()
    windows = torch.randn(8, 128, 64)
    for _ in range(3):  # batch normalisation gets statistics to fold
        encoder(images(windows, 3))
    first = encoder.eval().layers[0]
    assert isinstance(first, nn.Conv2d)
    first.weight.data = first.weight.round(decimals=2).double().float()  # three of them add up without rounding
    folded = fold_channels(encoder).eval()
    kernel = folded.layers[0]
    assert isinstance(kernel, nn.Conv2d)
    torch.testing.assert_close(kernel.weight[:, 0], first.weight.double().sum(1).float(), rtol=0, atol=1e-7)
    with torch.no_grad():
        torch.testing.assert_close(
            folded.double()(images(windows.double(), 1)),
            encoder.double()(images(windows.double(), 3)),
            rtol=1e-5,
            atol=1e-5,
        )


def test_images_repeat_the_log_mel() -> None:
    windows = torch.randn(2, 128, 64)
    for channel in range(3):
        torch.testing.assert_close(images(windows, 3)[:, channel], windows)


@pytest.mark.parametrize(("last", "kinds"), [("bn_relu", "LBRLBRLBR"), ("linear", "LBRLBRL")])
def test_the_expander_is_the_papers_or_vicregs(last: str, kinds: str) -> None:
    letters = {nn.Linear: "L", nn.BatchNorm1d: "B", nn.ReLU: "R"}
    head = expander(1280, last)  # type: ignore[arg-type]
    assert "".join(letters[type(layer)] for layer in head) == kinds
    assert [layer.out_features for layer in head if isinstance(layer, nn.Linear)] == [1280] * 3


def test_the_classifier_is_320_128_sections() -> None:
    head = classifier(6)
    assert [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)] == [
        (320, 128),
        (128, 6),
    ]


def test_a_strided_depthwise_convolution_has_the_gradients_of_any_other() -> None:
    """In bfloat16 on a processor they are computed otherwise; both are held against float32."""
    torch.manual_seed(0)
    conv = StridedDepthwise(8, 8, 3, 2, 1, groups=8, bias=False)
    x, direction = torch.randn(4, 8, 16, 10), torch.randn(4, 8, 8, 5)
    found = {}
    for precision in (torch.float32, torch.bfloat16):
        image = x.clone().requires_grad_()
        conv.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            result = conv(image.to(precision))
        result.float().backward(direction)
        assert image.grad is not None
        assert conv.weight.grad is not None
        found[precision] = (result.detach().float(), image.grad, conv.weight.grad)
    for exact, rounded in zip(*found.values(), strict=True):
        assert (exact - rounded).norm() < 0.01 * exact.norm()
