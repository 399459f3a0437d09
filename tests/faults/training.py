"""A training of a moment. As a program: `edge-asd train`, which acknowledges its checkpoints and its stages.

python -m faults.training PLANT RUN     # to be watched
"""

from __future__ import annotations

import sys
from pathlib import Path

from common import MOMENT
from edge_asd.cli import main
from edge_asd_trainer.checkpoint import Checkpoint
from edge_asd_trainer.stages import Stages
from faults.disk import acknowledge

RESULTS = ("pretrained.safetensors", "network.safetensors", "network.onnx", "model.tflite", "fan.easd")


def command(plant: Path, run: Path) -> list[str]:
    """The words behind `edge-asd`."""
    settings = [word for setting in MOMENT for word in ("--set", setting)]
    return ["train", str(plant), "--machine", "fan", "--preset", "demo", "--out", str(run), *settings]


def same(one: Path, other: Path) -> bool:
    return one.exists() and one.read_bytes() == other.read_bytes()


def left(run: Path, whole: Path) -> list[str]:
    """What lies in a run's folder that one without faults doesn't have, but for TensorBoard's files: one a start."""
    expected = {path.relative_to(whole) for path in whole.rglob("*")}
    found = [path.relative_to(run) for path in run.rglob("*")]
    return [str(path) for path in found if path not in expected and not path.name.startswith("events.out.")]


def acknowledging() -> None:
    mark, write = Stages._mark, Checkpoint.write

    def mark_and_say(self: Stages, name: str, seconds: float) -> None:
        mark(self, name, seconds)
        acknowledge(f"{name}: done before, from the same inputs")

    def write_and_say(self: Checkpoint, step: int, *what: object) -> None:
        write(self, step, *what)  # type: ignore[arg-type]
        acknowledge(f"going on from step {step},")

    Stages._mark, Checkpoint.write = mark_and_say, write_and_say  # type: ignore[method-assign]


if __name__ == "__main__":
    acknowledging()
    sys.argv = ["edge-asd", *command(Path(sys.argv[1]), Path(sys.argv[2]))]
    main()
