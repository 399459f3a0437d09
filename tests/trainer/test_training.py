"""The two training stages, for a few steps: the schedule really moves, and so do the weights."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from edge_asd.errors import DataError, TrainingError
from edge_asd.model import InputScaling
from edge_asd.windows import Windows
from edge_asd_trainer import descent, fine_tuning, memory, pretraining
from edge_asd_trainer.config import Compute, Config, FineTuning, Pretraining
from edge_asd_trainer.descent import Engine
from edge_asd_trainer.features import LogMels
from edge_asd_trainer.network import Encoder
from edge_asd_trainer.pairs import PairSampler
from edge_asd_trainer.pipeline import input_scaling
from edge_asd_trainer.run_folder import RunFolder
from edge_asd_trainer.stages import Stages
from edge_asd_trainer.systems import SYSTEMS
from edge_asd_trainer.training_log import TrainingLog
from made_up import log_mels_of


def log_mels(folder: Path, sections: int = 2, *, silent: bool = False) -> LogMels:
    """Three clips of noise a section, every section louder than the one before."""
    random = np.random.default_rng(0)
    names = [f"section_{s:02d}_source_train_normal_{i:04d}.wav" for s in range(sections) for i in range(3)]
    frames = [random.normal(10 * s, 1, (100, 128)) for s in range(sections) for _ in range(3)]
    return log_mels_of(names, np.zeros((100 * len(names), 128)) if silent else np.concatenate(frames), folder)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every learning rate with which an optimiser really stepped."""
    seen: list[float] = []
    for kind in (pretraining.LARS, torch.optim.AdamW):
        original = kind.step

        def step(self, *arguments, original=original):  # type: ignore[no-untyped-def]
            seen.append(self.param_groups[0]["lr"])
            return original(self, *arguments)

        monkeypatch.setattr(kind, "step", step)
    return seen


def kernels(encoder: Encoder) -> list[torch.Tensor]:
    return [module.weight.detach().clone() for module in encoder.modules() if isinstance(module, nn.Conv2d)]


def test_pretraining_moves_the_rate_and_every_kernel(tmp_path: Path, rates: list[float]) -> None:
    torch.manual_seed(0)
    encoder, pairs = Encoder(3), PairSampler(log_mels(tmp_path), Windows(), 0)
    before = kernels(encoder)
    config = Pretraining(epochs=2, steps_per_epoch=3, batch=4, warm_up_epochs=1.0, learning_rate=0.5, expander_width=16)
    pretraining.pretrain(encoder, pairs, InputScaling(0.0, 5.0), config, Engine())
    assert len(rates) == 6
    assert rates[:4] == pytest.approx([0.0, 0.5 / 3, 1.0 / 3, 0.5])
    assert rates[4] > rates[5] > 0.002
    assert all(not torch.equal(one, other) for one, other in zip(before, kernels(encoder), strict=True))


@pytest.mark.parametrize(
    ("schedule", "expected"), [("constant", [0.01] * 4), ("cosine", [0.01, 0.00854, 0.005, 0.00146])]
)
def test_fine_tuning_moves_every_kernel(
    tmp_path: Path, rates: list[float], schedule: str, expected: list[float]
) -> None:
    torch.manual_seed(0)
    encoder, pairs = Encoder(3), PairSampler(log_mels(tmp_path), Windows(), 0)
    before = kernels(encoder)
    values = {"epochs": 2, "steps_per_epoch": 2, "batch": 4, "learning_rate": 0.01, "schedule": schedule}
    config = msgspec.convert(values, FineTuning)
    fine_tuning.fine_tune(encoder, pairs, InputScaling(0.0, 5.0), config, Engine())
    assert rates == pytest.approx(expected, abs=1e-5)
    assert all(not torch.equal(one, other) for one, other in zip(before, kernels(encoder), strict=True))


def test_averaging_keeps_the_exponential_average_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = log_mels(tmp_path)

    def tuned(averaging: float) -> list[list[torch.Tensor]]:
        torch.manual_seed(0)
        encoder, steps = Encoder(3), []
        monkeypatch.setattr(descent, "set_learning_rate", lambda *_: steps.append(kernels(encoder)))
        config = FineTuning(epochs=1, steps_per_epoch=3, batch=4, learning_rate=0.01, averaging=averaging)
        fine_tuning.fine_tune(encoder, PairSampler(data, Windows(), 0), InputScaling(0.0, 5.0), config, Engine())
        return [*steps[1:], kernels(encoder)]

    [*_, last] = tuned(0.5)
    for one, two, three, averaged in zip(*tuned(0.0), last, strict=True):
        torch.testing.assert_close(averaged, 0.25 * one + 0.25 * two + 0.5 * three)


def test_fine_tuning_learns_to_tell_sections_apart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, pairs = Encoder(1), PairSampler(log_mels(tmp_path), Windows(), 0)
    config = FineTuning(epochs=1, steps_per_epoch=40, learning_rate=1e-3, batch=8)
    log = tmp_path / "log.csv"
    fine_tuning.fine_tune(
        encoder, pairs, InputScaling(0.0, 5.0), config, Engine(log=TrainingLog(log, tmp_path / "events"))
    )
    losses = np.genfromtxt(log, delimiter=",", names=True)["loss"]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])


def test_a_single_section_is_not_fine_tuned_towards_nothing(tmp_path: Path) -> None:
    encoder = Encoder(1)
    before = kernels(encoder)
    loss = fine_tuning.fine_tune(
        encoder,
        PairSampler(log_mels(tmp_path, 1), Windows(), 0),
        InputScaling(),
        FineTuning(epochs=1, batch=4),
        Engine(),
    )
    assert np.isnan(loss)
    assert all(torch.equal(one, other) for one, other in zip(before, kernels(encoder), strict=True))


def test_a_training_that_is_left_out_leaves_no_log_of_an_earlier_one(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.csv", tmp_path / "events")
    with log.from_step(0) as writer:
        writer.row(0, {"loss": 1.0})
    pairs = PairSampler(log_mels(tmp_path, 1), Windows(), 0)
    fine_tuning.fine_tune(Encoder(1), pairs, InputScaling(), FineTuning(epochs=1, batch=4), Engine(log=log))
    assert not (tmp_path / "log.csv").exists()
    assert not list((tmp_path / "events").iterdir())


def test_a_run_that_diverges_stops_with_advice(tmp_path: Path) -> None:
    pairs = PairSampler(log_mels(tmp_path), Windows(), 0)
    config = Pretraining(
        epochs=1, steps_per_epoch=20, batch=4, warm_up_epochs=0.0, learning_rate=1e30, expander_width=16
    )
    with pytest.raises(TrainingError, match=r"lower pretraining\.learning_rate \(now 1e\+30\)"):
        pretraining.pretrain(Encoder(1), pairs, InputScaling(0.0, 5.0), config, Engine())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_that_does_not_fit_into_memory_is_said_beforehand(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 12 images, 104 MB in float32 and 53 in bfloat16, where 70 are free."""
    monkeypatch.setattr(memory, "_available", lambda: 70_000_000)
    encoder, pairs = Encoder(3), PairSampler(log_mels(tmp_path), Windows(), 0)
    config = Pretraining(epochs=1, steps_per_epoch=1, batch=4, warm_up_epochs=0.0, expander_width=16)
    engine = Engine(compute=msgspec.convert({"precision": precision}, Compute))
    pretraining.pretrain(encoder, pairs, InputScaling(0.0, 5.0), config, engine)
    expected = [
        "pre-training: a step of 12 images takes some 0.1 GB, and 0.07 GB are free; if it is ended for want of "
        "memory, lower its batch"
    ]
    assert [record.getMessage() for record in caplog.records if "GB" in record.getMessage()] == (
        expected if precision == "float32" else []
    )


def test_a_gpu_that_is_too_small_is_told_with_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(pretraining, "pretraining_loss", refused)
    config = Pretraining(epochs=1, steps_per_epoch=1, batch=4, warm_up_epochs=0.0, expander_width=16)
    pairs = PairSampler(log_mels(tmp_path), Windows(), 0)
    with pytest.raises(TrainingError, match=r"memory doesn't hold a step of 12 images; lower its batch \(now 4\)"):
        pretraining.pretrain(Encoder(1), pairs, InputScaling(0.0, 5.0), config, Engine())


def test_compilation_is_asked_for_by_its_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    pairs = PairSampler(log_mels(tmp_path), Windows(), 0)
    config = Pretraining(epochs=1, steps_per_epoch=1, batch=4, warm_up_epochs=0.0, expander_width=16)
    for wanted in (False, True):
        engine = Engine(compute=Compute(compile=wanted))
        pretraining.pretrain(Encoder(1), pairs, InputScaling(0.0, 5.0), config, engine)
        assert len(compiled) == wanted


def test_this_machine_says_how_much_memory_is_free() -> None:
    free = memory._available()
    assert free is None or 1e7 < free < 1e14


def test_scaling_is_the_training_sets_mean_and_deviation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asd_trainer.features.FRAMES_AT_ONCE", 37)
    data = log_mels(tmp_path)
    scaling = input_scaling(data, SYSTEMS["system1"], Config())
    assert scaling.mean == pytest.approx(data.frames.mean(dtype=np.float64))
    assert scaling.std == pytest.approx(data.frames.std(dtype=np.float64))
    assert input_scaling(data, SYSTEMS["autoencoder"], Config()) == InputScaling(0.0, 1.0)  # in dB as it is
    assert input_scaling(data, SYSTEMS["system1"], Config(input_scaling="none")) == InputScaling(0.0, 1.0)


def test_digital_silence_is_an_error_that_asks_for_the_microphone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="digital silence; was the microphone muted"):
        input_scaling(log_mels(tmp_path, silent=True), SYSTEMS["system1"], Config())


def test_a_stage_that_was_broken_off_is_not_done(tmp_path: Path) -> None:
    folder, output, done = RunFolder(tmp_path), tmp_path / "output", []

    def work(value: str, *, fail: bool = False) -> None:
        output.write_text(value)
        if fail:
            raise KeyboardInterrupt
        done.append(value)

    Stages(folder).stage("export", [output], lambda _: work("A"), "A")
    Stages(folder).stage("export", [output], lambda _: work("A"), "A")
    assert done == ["A"]
    with pytest.raises(KeyboardInterrupt):
        Stages(folder).stage("export", [output], lambda _: work("B", fail=True), "B")
    Stages(folder).stage("export", [output], lambda _: work("A again"), "A")
    assert output.read_text() == "A again"
    assert folder.read_timings().seconds.keys() == {"export"}


def test_a_stage_is_done_again_when_anything_before_it_changed(tmp_path: Path) -> None:
    folder, done = RunFolder(tmp_path), []
    for seed in (0, 0, 1):
        stages = Stages(folder, seed)
        stages.stage("one", [], lambda _: done.append("one"))
        stages.stage("two", [], lambda _: done.append("two"))
    assert done == ["one", "two", "one", "two"]
