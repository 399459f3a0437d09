"""The terms on which the pipeline deals with a system: what its training is handed, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save
from torch import nn

from edge_asd import files
from edge_asd.model import InputScaling
from edge_asd.windows import Windows
from edge_asd_trainer.config import Config, Table
from edge_asd_trainer.descent import Engine
from edge_asd_trainer.features import LogMels
from edge_asd_trainer.run_folder import RunFolder


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be trained on what: the clips' log-mels and their scaling, where results go, every number.

    The anomalous clips, if there are any, are not trained on: they say how small a bank may be.
    """

    train_set: LogMels
    anomalies: LogMels | None
    scaling: InputScaling
    folder: RunFolder
    config: Config


@dataclass(frozen=True, eq=False)
class TrainingStage:
    """One training of a system.

    Attributes:
        name: of the stage, for its log and its checkpoints.
        numbers: of the configuration that it alone depends on.
        result: the file that it leaves.
        work: does it.
    """

    name: str
    numbers: Table
    result: Path
    work: Callable[[Engine], None]


@dataclass(frozen=True, eq=False)
class System:
    """One of the paper's systems.

    Attributes:
        title: as results name it.
        training_windows, scoring_windows: how a log-mel is cut for either.
        standardised: whether the network takes the log-mel standardised, or in dB as it is.
        stages, tables: the names of its trainings, in order, and those of their numbers in the configuration.
        trainings: those; the last one leaves `RunFolder.network`.
        network: from that file, as it is exported: (N, 1, mels, frames) to (N, outputs).
    """

    title: str
    training_windows: Callable[[Config], Windows]
    scoring_windows: Callable[[Config], Windows]
    standardised: Callable[[Config], bool]
    stages: tuple[str, ...]
    tables: tuple[str, ...]
    trainings: Callable[[Task], list[TrainingStage]]
    network: Callable[[Path, Config], nn.Module]


def keep(network: nn.Module, path: Path, engine: Engine) -> None:
    """The leader writes a network's parameters, before anyone goes on. Raises: StorageError."""
    if engine.group.leads:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
        files.write_bytes(path, save(tensors))
    engine.group.wait()
