"""The challenge's first baseline (DCASE 2022 Task 2): an autoencoder, which repeats well what it has heard often.

640 - 128 x 4 - 8 - 128 x 4 - 640, dense, with BN and ReLU but for the last; a vector is 5 frames of 128 mels, one every
frame. It learns to repeat the normal clips of all sections, in dB as they are; a clip scores the mean squared error.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from edge_asd.windows import Windows
from edge_asd_trainer.baselines.training import as_keras_does, train
from edge_asd_trainer.config import Config
from edge_asd_trainer.descent import Engine
from edge_asd_trainer.pairs import Labelled
from edge_asd_trainer.recipe import System, Task, TrainingStage

WINDOWS = Windows(frames=5, hop=1, to_the_end=True)
WIDTHS = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128)


class Autoencoder(nn.Module):
    """(N, 1, 128, 5) to its reconstruction (N, 640)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, width in pairwise(WIDTHS):
            layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTHS[-1], WIDTHS[0]))
        as_keras_does(self, momentum=0.99)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.flatten(1))
        return y


def trainings(task: Task) -> list[TrainingStage]:
    """One, of all sections together."""
    work = partial(_training, task)
    return [TrainingStage("training", task.config.autoencoder, task.folder.network, work)]


def network(path: Path, config: Config) -> nn.Module:
    """As it was trained."""
    autoencoder = Autoencoder()
    autoencoder.load_state_dict(load_file(path))
    return autoencoder


def _training(task: Task, engine: Engine) -> None:
    torch.manual_seed(task.config.seed)
    train(Autoencoder(), 1, _loss, WINDOWS, task, task.config.autoencoder, engine)


def _loss(reconstruction: Tensor, batch: Labelled) -> Tensor:
    return nn.functional.mse_loss(reconstruction, batch.x.flatten(1))


SYSTEM = System(
    title="autoencoder baseline",
    training_windows=lambda config: WINDOWS,
    scoring_windows=lambda config: WINDOWS,
    standardised=lambda config: False,
    stages=("training",),
    tables=("autoencoder",),
    trainings=trainings,
    network=network,
)
