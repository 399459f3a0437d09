"""How the paper is read (docs/method.md): what no other file holds; each test fails under the other reading."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge_asd.comparison import Backend
from edge_asd.model import InputScaling
from edge_asd.windows import Windows
from edge_asd_trainer import fine_tuning, pretraining
from edge_asd_trainer.config import FineTuning, Pretraining, load
from edge_asd_trainer.descent import Engine, Training
from edge_asd_trainer.detection import normal_clips
from edge_asd_trainer.features import LogMels
from edge_asd_trainer.losses import covariance, invariance, pretraining_loss, variance
from edge_asd_trainer.metrics import means
from edge_asd_trainer.network import Encoder, classifier
from edge_asd_trainer.optimiser import LARS, learning_rate
from edge_asd_trainer.pairs import Pairs, PairSampler
from made_up import log_mels_of

RECORDED = json.loads((Path(__file__).parent / "vicreg_recorded.json").read_text())
CLOSE = {"rtol": 0.0, "atol": 1e-9}  # in float64; 1e-6 is asked
SCALING = InputScaling(3.0, 2.0)

Captured = Callable[..., Training]


def clips(folder: Path, source: int, target: int, sections: int, values: np.ndarray) -> LogMels:
    """So many clips of each domain in each section; `values` are their frames, (clips x frames, mels)."""
    names = [
        f"section_{section:02d}_{domain}_train_normal_{number:04d}.wav"
        for section in range(sections)
        for domain, count in (("source", source), ("target", target))
        for number in range(count)
    ]
    return log_mels_of(names, values, folder)


@pytest.fixture(scope="module")
def dcase_2022(tmp_path_factory: pytest.TempPathFactory) -> PairSampler:
    """A machine type of DCASE 2022 in its true numbers, with one mel band; a frame's value is its number."""
    values = np.arange(6000 * 313)[:, None]
    return PairSampler(clips(tmp_path_factory.mktemp("dcase"), 990, 10, 6, values), Windows(), 0)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> PairSampler:
    """Three sections of three source clips and one target clip: noise, in images that the network takes."""
    values = np.random.default_rng(0).normal(3, 2, (12 * 80, 128))
    return PairSampler(clips(tmp_path_factory.mktemp("noise"), 3, 1, 3, values), Windows(), 0)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Captured:
    """What a stage would do, told by the stage itself: everything but the steps."""

    def capture(config: Pretraining | FineTuning, pairs: PairSampler) -> Training:
        module: Any = pretraining if isinstance(config, Pretraining) else fine_tuning
        stage = module.pretrain if isinstance(config, Pretraining) else module.fine_tune
        taken: list[Training] = []
        monkeypatch.setattr(module, "descend", lambda training, _: taken.append(training) or 0.0)
        torch.manual_seed(0)
        stage(Encoder(3), pairs, SCALING, config, Engine())
        return taken[0]

    return capture


def is_target(windows: Tensor) -> Tensor:
    """Whether a window of `dcase_2022` is of the ten last clips of its section."""
    return windows[:, 0, 0] // 313 % 1000 >= 990


# Learning rate, optimiser


def test_the_rate_of_0_8_is_not_multiplied_by_the_batch_once_more(captured: Captured, dcase_2022: PairSampler) -> None:
    assert captured(load("paper").pretraining, dcase_2022).rate(1870) == 0.2 * 1024 / 256
    half = captured(load("paper", options=["pretraining.batch=512"]).pretraining, dcase_2022)
    assert half.rate(3750) == 0.8


def test_the_rate_moves_with_every_step_from_0_and_ends_at_0_002(captured: Captured, dcase_2022: PairSampler) -> None:
    training = captured(load("paper").pretraining, dcase_2022)
    rates = [training.rate(step) for step in range(training.epochs * training.steps)]
    assert rates[:2] == pytest.approx([0.0, 0.8 / 1870])
    assert rates[935] == pytest.approx(0.4)
    assert np.argmax(rates) == 1870
    assert np.all(np.diff(rates) != 0.0)
    assert rates[-1] == pytest.approx(0.002, rel=1e-4)


@pytest.mark.parametrize("run", RECORDED["lars"], ids=["as in the paper", "another decay, momentum and trust"])
def test_lars_takes_vicregs_steps(run: dict[str, Any]) -> None:
    parameters = {
        name: nn.Parameter(torch.tensor(values, dtype=torch.float64)) for name, values in RECORDED["start"].items()
    }
    assert {name: parameter.dim() for name, parameter in parameters.items()} == {
        "matrix": 2,
        "bias": 1,
        "kernel": 4,
        "born_zero": 2,
    }
    optimiser = LARS(parameters.values(), **run["settings"])
    for rate, gradients, after in zip(run["rates"], RECORDED["gradients"], run["after"], strict=True):
        optimiser.param_groups[0]["lr"] = rate
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(gradients[name], dtype=torch.float64)
        optimiser.step()
        for name, parameter in parameters.items():
            torch.testing.assert_close(parameter.detach(), torch.tensor(after[name], dtype=torch.float64), **CLOSE)


def test_the_schedule_is_vicregs() -> None:
    for run in RECORDED["lars"]:
        rates = [learning_rate(step, **run["schedule"]) for step in range(len(run["rates"]))]
        assert rates == pytest.approx(run["rates"], abs=1e-9)
    long = RECORDED["long_schedule"]
    assert [learning_rate(step, **long["schedule"]) for step in long["steps"]] == pytest.approx(long["rates"], abs=1e-9)


def test_pretraining_takes_its_steps_by_lars(captured: Captured, noise: PairSampler) -> None:
    training = captured(load("paper").pretraining, noise)
    assert isinstance(training.optimiser, LARS)
    [group] = training.optimiser.param_groups
    assert (group["momentum"], group["trust"], group["weight_decay"]) == (0.9, 0.001, 1e-4)
    assert {id(parameter) for parameter in group["params"]} == {id(p) for p in training.learner.parameters()}
    other = captured(Pretraining(momentum=0.5, trust=0.01, weight_decay=0.1, expander_width=8), noise)
    [group] = other.optimiser.param_groups
    assert (group["momentum"], group["trust"], group["weight_decay"]) == (0.5, 0.01, 0.1)


# Loss


def test_variance_and_covariance_are_vicregs() -> None:
    x, y = (torch.tensor(RECORDED["loss"][name], dtype=torch.float64) for name in "xy")
    assert 0.5 * (variance(x) + variance(y)).item() == pytest.approx(RECORDED["loss"]["variance"], abs=1e-9)
    assert (covariance(x) + covariance(y)).item() == pytest.approx(RECORDED["loss"]["covariance"], abs=1e-9)


def test_vicregs_loss_is_ours_with_lambda_0_and_half_the_variance() -> None:
    x, y = (torch.tensor(RECORDED["loss"][name], dtype=torch.float64) for name in "xy")
    terms = pretraining_loss(x, y, x, torch.zeros(7, dtype=torch.float64), variance_scale=0.5)
    assert terms.loss.item() == pytest.approx(RECORDED["loss"]["weighted"], abs=1e-6)


def test_left_to_itself_the_loss_weighs_25_25_and_1_and_halves_nothing() -> None:
    x, y = (torch.tensor(RECORDED["loss"][name], dtype=torch.float64) for name in "xy")
    s = (y - y.flip(0)).square().sum().item() / y.numel()
    v, c = variance(x) + variance(y), covariance(x) + covariance(y)
    terms = pretraining_loss(x, y, y.flip(0), torch.zeros(7, dtype=torch.float64))
    assert terms.loss.item() == pytest.approx(25 * s + 25 * v.item() + c.item(), abs=1e-6)


def test_every_weight_and_choice_of_the_loss_reaches_pretraining(captured: Captured, noise: PairSampler) -> None:
    def figures(**values: Any) -> dict[str, float]:
        training = captured(Pretraining(batch=8, expander_width=16, **values), noise)
        loss, terms = training.objective(next(training.batches(0)))
        return {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}}

    literal = figures()
    weighed = 25 * literal["invariance"] + 25 * literal["variance"] + literal["covariance"]
    assert literal["loss"] == pytest.approx(weighed)
    other = figures(gamma=2.0, mu=3.0, nu=5.0, reduction="sum", variance_scale=0.5)
    assert other["invariance"] == pytest.approx(16 * literal["invariance"], rel=1e-4)
    assert other["variance"] == pytest.approx(0.5 * literal["variance"], rel=1e-4)
    weighed = 2 * other["invariance"] + 3 * other["variance"] + 5 * other["covariance"]
    assert other["loss"] == pytest.approx(weighed)


@pytest.mark.parametrize(("preset", "last"), [("paper", nn.ReLU), ("vicreg", nn.Linear)])
def test_a_presets_expander_is_what_pretraining_trains(
    preset: str, last: type[nn.Module], captured: Captured, noise: PairSampler
) -> None:
    training = captured(load(preset).pretraining, noise)
    expander: Any = list(training.learner.children())[-1]
    assert [layer.out_features for layer in expander if isinstance(layer, nn.Linear)] == [1280] * 3
    assert isinstance(expander[-1], last)


# Pairs


def test_the_other_window_is_of_any_section(captured: Captured, dcase_2022: PairSampler) -> None:
    batch = next(captured(load("paper").pretraining, dcase_2022).batches(0))
    same = (batch.section == batch.other_section).float().mean().item()
    assert same == pytest.approx(1 / 6, abs=0.04)


def test_by_chance_two_pairs_in_a_hundred_cross_the_domains(captured: Captured, dcase_2022: PairSampler) -> None:
    [batch] = dcase_2022.epoch(20_000, 1, 0.5)
    crossing = (is_target(batch.x) != is_target(batch.other)).float().mean().item()
    assert crossing == pytest.approx(2 * 0.01 * 0.99, abs=0.003)
    forced = load("paper", options=["pretraining.cross_domain_share=0.5"]).pretraining
    batch = next(captured(forced, dcase_2022).batches(0))
    crossing = (is_target(batch.x) != is_target(batch.other)).float().mean().item()
    assert crossing == pytest.approx(0.5 + 0.5 * 0.02, abs=0.02)


@pytest.mark.parametrize("preset", ["paper", "vicreg"])
def test_every_pair_has_a_lambda_of_its_own(preset: str, captured: Captured, dcase_2022: PairSampler) -> None:
    config = load(preset)
    for stage in (config.pretraining, config.fine_tuning):
        lam = next(captured(stage, dcase_2022).batches(0)).lam
        assert len(lam.unique()) > 0.9 * len(lam) == 0.9 * stage.batch


def test_half_of_fine_tunings_pairs_are_source_and_target_of_one_section(
    captured: Captured, dcase_2022: PairSampler
) -> None:
    batch = next(captured(load("paper").fine_tuning, dcase_2022).batches(0))
    same, crossing = batch.section == batch.other_section, is_target(batch.x) != is_target(batch.other)
    assert (same & crossing)[:32].all()
    assert same[32:].float().mean() < 0.5
    assert not (same & crossing)[32:].any()


# What the network is shown, and how


@pytest.mark.parametrize("config", [Pretraining(batch=8, expander_width=8), FineTuning(batch=8)])
def test_the_three_branches_pass_through_the_network_as_one_batch(
    config: Pretraining | FineTuning, captured: Captured, noise: PairSampler
) -> None:
    training = captured(config, noise)
    [first, *_] = [module for module in training.learner.modules() if isinstance(module, Encoder)]
    normalisation = next(module for module in first.modules() if isinstance(module, nn.BatchNorm2d))
    shown: list[Tensor] = []
    normalised: list[int] = []
    first.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    normalisation.register_forward_pre_hook(lambda _, inputs: normalised.append(len(inputs[0])))
    batch = next(training.batches(0))
    training.objective(batch)
    assert normalised == [24]
    [images] = shown
    assert images.shape == (24, 3, 128, 64)
    x, other, mixed = images.chunk(3)
    for channel in range(3):
        torch.testing.assert_close(x[:, channel], (batch.x - 3.0) / 2.0)
        torch.testing.assert_close(other[:, channel], (batch.other - 3.0) / 2.0)
    lam = batch.lam[:, None, None, None]
    torch.testing.assert_close(mixed, lam * x + (1 - lam) * other)


@pytest.mark.parametrize(("stage", "steps", "in_all"), [("pretraining", 187, 18_700), ("fine_tuning", 3000, 60_000)])
def test_an_epoch_of_dcase_2022_is_every_window_of_every_clip(
    stage: str, steps: int, in_all: int, captured: Captured, dcase_2022: PairSampler
) -> None:
    assert dcase_2022.windows_a_clip == 32
    assert len(dcase_2022) == 6000 * 32
    training = captured(getattr(load("paper"), stage), dcase_2022)
    assert (training.steps, training.epochs * training.steps) == (steps, in_all)


def test_a_machine_type_of_dcase_2022_has_six_sections(captured: Captured, dcase_2022: PairSampler) -> None:
    assert dcase_2022.sections == ["00", "01", "02", "03", "04", "05"]
    learner: Any = captured(load("paper").fine_tuning, dcase_2022).learner
    assert learner["classified"].head[-1].out_features == 6


def test_the_classifier_has_a_class_for_every_section_however_many(captured: Captured, noise: PairSampler) -> None:
    learner: Any = captured(FineTuning(), noise).learner
    head = learner["classified"].head
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear]
    assert [head[0].in_features, head[0].out_features, head[2].out_features] == [320, 128, 3]
    assert [type(layer) for layer in classifier(6)] == [nn.Linear, nn.ReLU, nn.Linear]


def test_the_tail_is_conv_bn_relu6_twice_and_a_linear_projection() -> None:
    tail = [type(layer) for layer in Encoder(1).layers][-8:]
    assert tail == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU6] * 2 + [nn.Conv2d, nn.BatchNorm2d]


@pytest.mark.parametrize(("channels", "millions"), [(3, 15.3), (1, 14.8)])
def test_a_window_costs_15_3_million_multiplications_and_14_8_once_folded(channels: int, millions: float) -> None:
    counts: list[int] = []
    encoder = Encoder(channels).eval()
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, _, output: counts.append(output[0].numel() * m.weight[0].numel()))
    with torch.inference_mode():
        encoder(torch.zeros(1, channels, 128, 64))
    assert round(sum(counts) / 1e6, 1) == millions


# Fine-tuning's loss


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_fine_tuning_adds_equation_1_on_the_encoders_output(
    weight: float, captured: Captured, noise: PairSampler
) -> None:
    training = captured(FineTuning(batch=8, constraint=weight), noise)
    learner: Any = training.learner
    outputs: list[Tensor] = []
    learner["classified"].encoder.register_forward_hook(lambda _m, _i, output: outputs.append(output.detach()))
    batch: Pairs = next(training.batches(0))
    loss, terms = training.objective(batch)
    y, y_other, y_lam = outputs[0].chunk(3)
    assert y.shape == (8, 320)
    constraint = invariance(y_lam, y, y_other, batch.lam, "mean").item()
    with torch.inference_mode():
        says = learner["classified"].head(y_lam).softmax(dim=1).tolist()
    divergence = 0.0
    for i in range(8):
        truth = [0.0] * 3
        truth[batch.section[i]] += float(batch.lam[i])
        truth[batch.other_section[i]] += 1 - float(batch.lam[i])
        divergence += sum(t * math.log(t / s) for t, s in zip(truth, says[i], strict=True) if t > 0) / 8
    assert terms["constraint"].item() == pytest.approx(constraint, rel=1e-4)
    assert terms["divergence"].item() == pytest.approx(divergence, abs=1e-5)
    assert loss.item() == pytest.approx(divergence + weight * constraint, rel=1e-4)


# Detection


def test_a_bank_holds_both_domains_of_its_own_section_as_they_are(tmp_path: Path) -> None:
    data = clips(tmp_path, 2, 1, 2, np.zeros((6, 1)))
    embeddings = np.arange(6, dtype=np.float32)[:, None] * np.full((1, 320), 2.0, np.float32)
    for first in (0, 3):
        comparison, _ = normal_clips(data, embeddings, np.arange(first, first + 3), (Backend(),))
        bank = comparison.banks["embedding"]
        np.testing.assert_allclose(bank.decoded(), embeddings[first : first + 3], atol=0.01)
        assert [name.split("_")[2] for name in bank.clips] == ["source", "source", "target"]
        # raw, and to its own section alone
        far = 6 if first == 0 else 2
        assert bank.nearest(embeddings[5 - first]).distance == pytest.approx(far * math.sqrt(320), rel=1e-3)


@pytest.mark.parametrize(
    ("row", "total"),
    [
        ([93.26, 84.93, 66.96, 83.38, 88.95, 94.5, 85.1], 84.35),
        ([81.73, 43.4, 82.87, 76.73, 82.74, 67.35, 81.96], 70.34),
        ([68.34, 53.88, 64.75, 70.76, 71.23, 68.92, 71.66], 66.48),
    ],
    ids=["AUC source", "AUC target", "pAUC"],
)
def test_the_papers_totals_are_harmonic_means(row: list[float], total: float) -> None:
    arithmetic, harmonic = means(row)
    assert harmonic == pytest.approx(total, abs=0.02)
    assert abs(arithmetic - total) > 0.2
