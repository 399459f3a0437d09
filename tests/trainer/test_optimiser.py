from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from edge_asd_trainer.optimiser import LARS, learning_rate, set_learning_rate


def test_a_step_is_scaled_by_the_ratio_of_the_norms() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimiser = LARS([weight], lr=0.5, weight_decay=0.1, momentum=0.9, trust=0.001)
    weight.grad = torch.tensor([[1.0, 0.0]])
    update = torch.tensor([[1.0 + 0.3, 0.4]])
    step = update * (0.001 * 5.0 / update.norm())
    optimiser.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[3.0, 4.0]]) - 0.5 * step)

    before = weight.detach().clone()
    weight.grad = torch.zeros(1, 2)
    decay = 0.1 * before
    momentum = 0.9 * step + decay * (0.001 * before.norm() / decay.norm())
    optimiser.step()
    torch.testing.assert_close(weight.detach(), before - 0.5 * momentum)


def test_one_dimension_gets_neither_decay_nor_scaling() -> None:
    bias = nn.Parameter(torch.tensor([2.0, -1.0]))
    optimiser = LARS([bias], lr=0.5, weight_decay=0.1, momentum=0.0)
    bias.grad = torch.tensor([1.0, 1.0])
    optimiser.step()
    torch.testing.assert_close(bias.detach(), torch.tensor([1.5, -1.5]))


def test_the_rate_warms_up_from_zero_and_ends_at_the_final_value() -> None:
    rates = [learning_rate(step, steps=1000, warm_up=100, peak=0.8, final=0.002) for step in range(1001)]
    assert rates[0] == 0.0
    assert rates[50] == pytest.approx(0.4)
    assert rates[100] == pytest.approx(0.8)
    assert rates[550] == pytest.approx((0.8 + 0.002) / 2)
    assert rates[1000] == pytest.approx(0.002)
    assert all(one > other for one, other in pairwise(rates[100:]))


def test_setting_the_rate_really_sets_it() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimiser = LARS([weight], lr=0.0, momentum=0.0)
    weight.grad = torch.ones(1)
    optimiser.step()
    assert weight.item() == 1.0
    set_learning_rate(optimiser, 0.25)
    optimiser.step()
    assert weight.item() == 0.75
