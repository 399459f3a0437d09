"""How the challenge trains its baselines: Adam at a constant rate, mini-batches of single windows, Keras's defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from edge_asd.windows import Windows
from edge_asd_trainer.config import Baseline
from edge_asd_trainer.descent import Engine, Training, descend
from edge_asd_trainer.network import channels_last, images
from edge_asd_trainer.pairs import Labelled, PairSampler
from edge_asd_trainer.recipe import Task, keep

ADAM_EPSILON = 1e-7  # Keras's; PyTorch's is 1e-8
NORMALISATION_EPSILON = 1e-3  # likewise, 1e-5


def as_keras_does(network: nn.Module, *, momentum: float) -> None:
    """Initialise as Keras does: Glorot's uniform weights, no biases, batch normalisation with its own constants.

    Args:
        network: to be changed.
        momentum: what a running mean keeps of itself a step; PyTorch names what it takes over.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps, module.momentum = NORMALISATION_EPSILON, 1 - momentum


def train(
    network: nn.Module,
    channels: int,
    loss: Callable[[Tensor, Labelled], Tensor],
    windows: Windows,
    task: Task,
    config: Baseline,
    engine: Engine,
) -> None:
    """Train a network in place, and keep it.

    Args:
        network: (N, channels, mels, frames) to (N, outputs).
        channels: how often the log-mel is repeated.
        loss: of outputs and the batch that they are of.
        windows: how the log-mel is cut.
        task: the clips, and the run's folder.
        config: the numbers.
        engine: what carries it out.

    Raises:
        TrainingError: the loss is not finite any more.
        StorageError: a checkpoint, the log or the result could not be written.
    """
    if not config.epochs:
        engine.left_out()
        keep(network, task.folder.network, engine)
        return
    network.to(engine.group.device).train()
    channels_last(network)
    forward = engine.prepared(network)
    sampler = PairSampler(task.train_set, windows, task.config.seed, engine.group, held_out=config.held_out)

    def objective(batch: Labelled) -> tuple[Tensor, Mapping[str, Tensor]]:
        x = (batch.x - task.scaling.mean) / task.scaling.std
        return loss(forward(images(x, channels)), batch), {}

    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate, eps=ADAM_EPSILON)
    training = Training(
        title="training",
        learner=network,
        optimiser=optimiser,
        pairs=sampler,
        config=config,
        final_rate=config.learning_rate,
        draw=lambda training, start: sampler.singles(training.epochs, config.batch, training.steps, start=start),
        objective=objective,
        if_diverged=f"lower the learning rate (now {config.learning_rate})",
        images_an_item=1,
    )
    descend(training, engine)
    keep(network, task.folder.network, engine)
