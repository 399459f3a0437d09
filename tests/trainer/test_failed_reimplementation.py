"""Six mistakes with which a public re-implementation failed (docs/method.md); none of them must come in here unseen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from edge_asd.bank import Bank
from edge_asd.comparison import Comparison
from edge_asd.front_end import FrontEnd
from edge_asd.model import InputScaling
from edge_asd.scoring import ClipScorer, Detector, StreamScorer
from edge_asd.windows import Windows
from edge_asd_trainer import fine_tuning, pretraining
from edge_asd_trainer.config import Config, FineTuning, Pretraining, load, presets
from edge_asd_trainer.data import training_clips
from edge_asd_trainer.descent import Engine, Training
from edge_asd_trainer.detection import embed_clips
from edge_asd_trainer.features import LogMels, log_mels
from edge_asd_trainer.network import Encoder
from edge_asd_trainer.optimiser import LARS
from edge_asd_trainer.pairs import PairSampler
from edge_asd_trainer.system1 import load_encoder
from edge_asd_trainer.training_log import TrainingLog
from made_up import log_mels_of

STAGES = {"pretraining": pretraining.pretrain, "fine_tuning": fine_tuning.fine_tune}
CLIPS = 12

Captured = Callable[..., Training]


def twelve_clips(folder: Path, mels: int) -> LogMels:
    """Ten-second clips of two sections; a frame's value is its number in the clip."""
    names = [f"section_{clip % 2:02d}_source_train_normal_{clip:04d}.wav" for clip in range(CLIPS)]
    frames = np.tile(np.arange(313, dtype=np.float32), CLIPS)[:, None] + np.zeros((1, mels), np.float32)
    return log_mels_of(names, frames, folder)


@pytest.fixture
def captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Captured:
    """What a stage would do with twelve clips, told by the stage itself: everything but the steps."""
    pairs = PairSampler(twelve_clips(tmp_path, 1), Windows(), 0)

    def capture(stage: str, config: Config) -> Training:
        taken: list[Training] = []
        for module in (pretraining, fine_tuning):
            monkeypatch.setattr(module, "descend", lambda training, _: taken.append(training) or 0.0)
        torch.manual_seed(0)
        work: Any = STAGES[stage]
        work(Encoder(3), pairs, InputScaling(), getattr(config, stage), Engine())
        return taken[0]

    return capture


# 1. The learning rate stayed 0 in pre-training, for want of a stage of that name.


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("preset", presets())
def test_every_presets_rate_leaves_0_behind(preset: str, stage: str, captured: Captured) -> None:
    config = load(preset)
    training = captured(stage, config)
    rates = [training.rate(step) for step in range(training.epochs * training.steps)]
    assert min(rates[1:]) > 0.0
    assert max(rates) == pytest.approx(getattr(config, stage).learning_rate, rel=0.01)


@pytest.mark.parametrize("stage", STAGES)
def test_a_short_training_moves_every_parameter_at_the_logged_rate(stage: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    values = np.random.default_rng(0).normal(0, 1, (CLIPS * 313, 128)).astype(np.float32)
    data = twelve_clips(tmp_path, 128)
    np.save(data.path, values)
    encoder, log = Encoder(3), tmp_path / "log.csv"
    before = {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}
    short = {"epochs": 1, "steps_per_epoch": 3, "batch": 4, "warm_up_epochs": 0.6}
    config = Pretraining(**short, expander_width=16) if stage == "pretraining" else FineTuning(**short)  # type: ignore[arg-type]
    work: Any = STAGES[stage]
    pairs = PairSampler(data, Windows(), 0)
    work(encoder, pairs, InputScaling(), config, Engine(log=TrainingLog(log, tmp_path / "events")))
    rates = np.genfromtxt(log, delimiter=",", names=True)["learning_rate"]
    np.testing.assert_allclose(rates[:3], np.array([0.0, 0.5, 1.0]) * config.learning_rate, rtol=1e-5)
    unmoved = [name for name, parameter in encoder.named_parameters() if torch.equal(parameter, before[name])]
    assert unmoved == []


# 2. No logarithm on the mel spectrogram.


def test_what_is_trained_on_is_logarithmic(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.05, 3 * 16000)
    for number, loudness in enumerate((1.0, 2.0)):
        path = tmp_path / "fan" / "train" / f"section_00_source_train_normal_{number:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, loudness * sound, 16000, subtype="FLOAT")
    data = log_mels(training_clips(tmp_path, "fan"), FrontEnd(), Windows(), tmp_path / "train.npy")
    # twice as loud is 6 dB more in every band, where without the logarithm it is four times as much
    np.testing.assert_allclose(data[1] - data[0], 20 * np.log10(2), atol=1e-3)


# 3. A test clip's embedding came from one position, and not from the mean over its windows.


class Place:
    """A stand-in for the network: an embedding is the mean of its window, so it says where the window lay."""

    name = "place"

    def prepare(self, log_mel: np.ndarray) -> np.ndarray:
        return log_mel

    def embed(self, windows: np.ndarray) -> np.ndarray:
        return windows.mean(axis=(1, 2))[:, None]


def test_a_clips_embedding_is_the_mean_over_its_32_windows(tmp_path: Path) -> None:
    embeddings = embed_clips(twelve_clips(tmp_path, 128), Windows(), Place())
    middles = [start + 31.5 for start in range(0, 249, 8)]
    assert len(middles) == 32
    np.testing.assert_allclose(embeddings, np.full((CLIPS, 1), np.mean(middles)))


def test_a_test_clip_is_embedded_as_the_training_clips_are() -> None:
    random = np.random.default_rng(0)
    waveform = (random.normal(0, 0.1, 160_000) * np.linspace(0.01, 1.0, 160_000)).astype(np.float32)
    front_end, windows = FrontEnd(), Windows()
    of_windows = Place().embed(windows.cut(front_end.log_mel(waveform)))
    assert np.ptp(of_windows) > 10  # it grows louder, so no position stands for all
    detector = Detector(
        front_end, windows, Place(), {"00": Comparison({"embedding": Bank.of(np.zeros((1, 1), np.float32), ["zero"])})}
    )
    expected = abs(of_windows.mean())
    assert ClipScorer(detector).score(waveform, "00").value == pytest.approx(expected, rel=1e-5)
    stream = StreamScorer(detector, "00", padded=True)
    stream.push(waveform)
    assert stream.finish().value == pytest.approx(expected, rel=0.01)


# 4. A depthwise tail.


@pytest.mark.parametrize("preset", presets())
def test_every_presets_tail_is_dense(preset: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    network = load(preset).network
    encoder = Encoder(network.channels, network.tail)
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    for one in (encoder, load_encoder(tmp_path / "encoder.safetensors", load(preset))):
        [kernel] = [
            layer.weight for layer in one.layers if isinstance(layer, nn.Conv2d) and layer.kernel_size == (4, 2)
        ]
        assert kernel.shape == (320, 320, 4, 2)  # every output hears every input


# 5. One crop a clip: three steps an epoch.


@pytest.mark.parametrize("stage", STAGES)
def test_an_epoch_shows_all_32_windows_of_every_clip(stage: str, captured: Captured) -> None:
    training = captured(stage, load("paper", options=["pretraining.batch=16", "fine_tuning.batch=16"]))
    assert training.steps == CLIPS * 32 // 16
    batches = training.batches(0)
    starts = torch.cat([next(batches).x[:, 0, 0] for _ in range(training.steps)])
    assert sorted(starts.tolist()) == sorted([float(start) for start in range(0, 249, 8)] * CLIPS)


# 6. LARS without the exclusion of what has one dimension.


def test_pretrainings_lars_leaves_biases_and_normalisations_alone(captured: Captured) -> None:
    training = captured("pretraining", load("paper", options=["pretraining.weight_decay=0.1"]))
    optimiser, named = training.optimiser, dict(training.learner.named_parameters())
    assert isinstance(optimiser, LARS)
    assert {parameter.dim() for parameter in named.values()} == {1, 2, 4}
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    for gradient, moved in ((0.0, 0.0), (1.0, -0.5)):
        optimiser.state.clear()
        optimiser.param_groups[0]["lr"] = 0.5
        for name, parameter in named.items():
            parameter.data.copy_(before[name])
            parameter.grad = torch.full_like(parameter, gradient)
        optimiser.step()
        for name, parameter in named.items():
            if parameter.dim() == 1:  # plain descent: no decay, no scaling
                torch.testing.assert_close(parameter.detach(), before[name] + moved)
            else:  # a step of a thousandth of the rate, decay alone included
                length = (parameter.detach() - before[name]).norm() / before[name].norm()
                assert length.item() == pytest.approx(0.5 * 0.001, rel=0.02), name
