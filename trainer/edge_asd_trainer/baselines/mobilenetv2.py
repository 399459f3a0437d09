"""The challenge's second baseline (DCASE 2022 Task 2): a MobileNetV2 that tells the sections of a machine type apart.

Half-width, on 64 frames of 128 mels in dB as they are, repeated three times; one every 8 frames in training, every
frame at test. A clip scores the mean over its windows of log(1 - p) - log(p), p being its own section's softmax.
(The challenge's training script has a parenthesis elsewhere there, which its test script has not.)
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from edge_asd.errors import DataError
from edge_asd.windows import Windows
from edge_asd_trainer.baselines.training import as_keras_does, train
from edge_asd_trainer.config import Config
from edge_asd_trainer.descent import Engine
from edge_asd_trainer.network import BOTTLENECKS, Bottleneck, convolution, one_channel
from edge_asd_trainer.pairs import Labelled
from edge_asd_trainer.recipe import System, Task, TrainingStage

TRAINING_WINDOWS = Windows(frames=64, hop=8, to_the_end=True)
SCORING_WINDOWS = Windows(frames=64, hop=1, to_the_end=True)
CHANNELS = 3
FEATURES = 1280


class MobileNetV2(nn.Module):
    """(N, channels, 128, 64) to a logit a section, (N, sections): Table 1's stem, and MobileNetV2's own tail."""

    def __init__(self, sections: int, channels: int = CHANNELS) -> None:
        super().__init__()
        width = 16
        layers: list[nn.Module] = [*convolution(channels, width, 3, stride=2, padding=1), nn.ReLU6(inplace=True)]
        for expansion, outputs, repetitions, stride in BOTTLENECKS:
            for repetition in range(repetitions):
                step = stride if repetition == 0 else 1
                layers.append(Bottleneck(width, outputs, expansion=expansion, stride=step))
                width = outputs
        layers += [*convolution(width, FEATURES, 1), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*layers, nn.Linear(FEATURES, sections))
        as_keras_does(self, momentum=0.999)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


def trainings(task: Task) -> list[TrainingStage]:
    """One. Raises: DataError where there is but one section, which nothing can be told from."""
    sections = {name.section for name in task.train_set.names}
    if len(sections) < 2:
        raise DataError(
            f"{task.train_set.clips[0].path.parent}: one section only, {', '.join(sections)}, and this baseline "
            "learns to tell sections apart; record a second unit as another section, or take another --system."
        )
    work = partial(_training, task)
    return [TrainingStage("training", task.config.mobilenetv2, task.folder.network, work)]


def network(path: Path, config: Config) -> nn.Module:
    """With one input channel: what was repeated three times adds up (exact)."""
    state = one_channel(load_file(path))
    *_, weights = (tensor for tensor in state.values() if tensor.dim() == 2)
    single = MobileNetV2(len(weights), channels=1)
    single.load_state_dict(state)
    return single


def _training(task: Task, engine: Engine) -> None:
    torch.manual_seed(task.config.seed)
    learner = MobileNetV2(len({name.section for name in task.train_set.names}))
    train(learner, CHANNELS, _loss, TRAINING_WINDOWS, task, task.config.mobilenetv2, engine)


def _loss(logits: Tensor, batch: Labelled) -> Tensor:
    return nn.functional.cross_entropy(logits, batch.section)


SYSTEM = System(
    title="MobileNetV2 baseline",
    training_windows=lambda config: TRAINING_WINDOWS,
    scoring_windows=lambda config: SCORING_WINDOWS,
    standardised=lambda config: False,
    stages=("training",),
    tables=("mobilenetv2",),
    trainings=trainings,
    network=network,
)
