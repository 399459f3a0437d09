"""Where a training stands, in one file: every weight, the optimiser's state, and how many steps are done."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edge_asd import files
from edge_asd.progress import say

MOST_SHARE = 0.02  # of the time may go into writing


class Checkpoint:
    """The file of one training, written from time to time, whole or not at all.

    What it holds is only taken up again by a training of the same key, which stands for everything that it was made
    from. Nothing random needs keeping: what a step draws follows from its number (`pairs`).
    """

    def __init__(self, path: Path, key: str, seconds: float) -> None:
        """Keep the checkpoint at `path`; one is due every so many seconds."""
        self._path, self._key, self._seconds = path, key, seconds
        self._written, self._took = time.monotonic(), 0.0

    def due(self) -> bool:
        """It's time to write: the seconds are over, and writing stays a small share of all time."""
        return time.monotonic() - self._written >= max(self._seconds, self._took / MOST_SHARE)

    def write(self, step: int, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Keep how it stands after `step` steps. Raises: StorageError; the one before is then as it was."""
        began = time.monotonic()
        tensors = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
        for index, parameter in enumerate(_parameters(optimiser)):
            for name, value in optimiser.state[parameter].items():
                tensors[f"optimiser.{index}.{name}"] = value
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        files.write_bytes(self._path, save(kept, {"key": self._key, "step": str(step)}))
        self._written = time.monotonic()
        self._took = self._written - began

    def read(self, module: nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Take up what was kept, in place; returns the number of steps done, 0 where there is nothing to take up."""
        try:
            with safe_open(self._path, "pt") as file:
                stated = file.metadata() or {}
                if stated.get("key") != self._key:
                    return 0
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return 0
        module.load_state_dict(_under("module.", tensors))
        for index, parameter in enumerate(_parameters(optimiser)):
            for name, value in _under(f"optimiser.{index}.", tensors).items():
                optimiser.state[parameter][name] = _like(parameter, value)
        step = int(stated["step"])
        say(f"going on from step {step}, where it was interrupted")
        return step


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """A state of the optimiser laid out in memory as its parameter, so that sums run in the same order as before."""
    if value.shape != parameter.shape:
        return value  # a count of steps
    return torch.empty_like(parameter).copy_(value)
