"""System 1 as the pipeline trains it: pre-training, then fine-tuning, each from what the one before left."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from edge_asd_trainer.config import Config
from edge_asd_trainer.descent import Engine
from edge_asd_trainer.fine_tuning import fine_tune
from edge_asd_trainer.network import Encoder, channels_last, fold_channels
from edge_asd_trainer.pairs import PairSampler
from edge_asd_trainer.pretraining import pretrain
from edge_asd_trainer.recipe import System, Task, TrainingStage, keep


def trainings(task: Task) -> list[TrainingStage]:
    """Sections 2.3 and 2.4."""
    config, folder = task.config, task.folder
    return [
        TrainingStage("pre-training", config.pretraining, folder.pretrained, partial(_pretraining, task)),
        TrainingStage("fine-tuning", config.fine_tuning, folder.network, partial(_fine_tuning, task)),
    ]


def network(path: Path, config: Config) -> nn.Module:
    """The encoder as it is exported: (N, 1, 128, 64) to (N, 320)."""
    return fold_channels(load_encoder(path, config), config.network.tail)


def load_encoder(path: Path, config: Config) -> Encoder:
    """An encoder that a stage wrote."""
    encoder = Encoder(config.network.channels, config.network.tail)
    encoder.load_state_dict(load_file(path))
    return encoder


def _pretraining(task: Task, engine: Engine) -> None:
    config = task.config
    torch.manual_seed(config.seed)
    encoder = Encoder(config.network.channels, config.network.tail).to(engine.group.device)
    channels_last(encoder)
    pairs = PairSampler(task.train_set, config.windows, config.seed, engine.group)
    pretrain(encoder, pairs, task.scaling, config.pretraining, engine)
    keep(encoder, task.folder.pretrained, engine)


def _fine_tuning(task: Task, engine: Engine) -> None:
    config = task.config
    torch.manual_seed(config.seed + 1)
    encoder = load_encoder(task.folder.pretrained, config).to(engine.group.device)
    channels_last(encoder)
    pairs = PairSampler(task.train_set, config.windows, config.seed + 1, engine.group)
    fine_tune(encoder, pairs, task.scaling, config.fine_tuning, engine)
    keep(encoder, task.folder.network, engine)


SYSTEM = System(
    title="System 1",
    training_windows=lambda config: config.windows,
    scoring_windows=lambda config: config.windows,
    standardised=lambda config: config.input_scaling == "standardise",
    stages=("pre-training", "fine-tuning"),
    tables=("pretraining", "fine_tuning"),
    trainings=trainings,
    network=network,
)
