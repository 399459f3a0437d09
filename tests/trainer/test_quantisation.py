from __future__ import annotations

import pytest
import torch

from edge_asd_trainer.network import Encoder, images
from edge_asd_trainer.quantisation import RoundedKernel, Rounding, quantisation_aware, round_activations


def test_activations_have_at_most_256_values_and_zero_is_one_of_them() -> None:
    x = torch.linspace(-1.3, 4.1, 10001)
    rounded = round_activations(x)
    assert len(rounded.unique()) <= 256
    assert (rounded == 0).any()
    assert (rounded - x).abs().max() <= 1.01 * (4.1 + 1.3) / 255


def test_gradients_pass_straight_through() -> None:
    x = torch.linspace(-1, 1, 101, requires_grad=True)
    round_activations(x).sum().backward()
    assert x.grad is not None
    assert (x.grad[1:-1] == 1).all()


def test_a_kernel_is_rounded_by_output_channel() -> None:
    weight = torch.randn(4, 3, 3, 3) * torch.tensor([1.0, 1e-3, 10.0, 0.1])[:, None, None, None]
    rounded = RoundedKernel(Rounding(active=True))(weight)
    for channel in range(4):
        step = weight[channel].abs().max() / 127
        steps = rounded[channel] / step
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
        assert (rounded[channel] - weight[channel]).abs().max() <= 0.51 * step


def test_inside_it_rounds_and_outside_it_is_a_float_network_again() -> None:
    torch.manual_seed(0)
    encoder, x = Encoder(3).eval(), images(torch.randn(4, 128, 64), 3)
    names = list(encoder.state_dict())
    with torch.no_grad():
        before = encoder(x)
        with quantisation_aware(encoder) as rounding:
            assert torch.equal(encoder(x), before)  # until it is asked to
            rounding.active = True
            inside = encoder(x)
            assert not torch.equal(inside, before)
            assert len(inside.unique()) <= 256
        torch.testing.assert_close(encoder(x), before, rtol=0, atol=0)
    assert list(encoder.state_dict()) == names


def test_what_is_learnt_inside_stays() -> None:
    torch.manual_seed(0)
    encoder, x = Encoder(3).train(), images(torch.randn(4, 128, 64), 3)
    kernel = encoder.layers[0].weight.detach().clone()
    with quantisation_aware(encoder) as rounding:
        rounding.active = True
        optimiser = torch.optim.SGD(encoder.parameters(), lr=0.1)
        encoder(x).square().mean().backward()
        optimiser.step()
    assert not torch.equal(encoder.layers[0].weight, kernel)


def test_it_leaves_the_network_alone_even_after_an_error() -> None:
    encoder = Encoder(3)
    with pytest.raises(KeyboardInterrupt), quantisation_aware(encoder):
        raise KeyboardInterrupt
    assert "layers.0.weight" in encoder.state_dict()
