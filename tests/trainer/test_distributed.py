"""Two processes that share a batch are one process with the whole batch."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common import MOMENT
from edge_asd import bundle as bundles
from edge_asd.errors import ConfigError
from edge_asd_trainer.distributed import Group

STEPS = 20
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]

# Trains for 20 steps in each of the two ways and writes down the losses and the weights.
PROGRAM = f"""
import sys
from pathlib import Path
import numpy as np
import torch
from safetensors.torch import save_file
from edge_asd.clip_name import parse_clip_name
from edge_asd.model import InputScaling
from edge_asd.windows import Windows
from edge_asd_trainer.config import FineTuning, Pretraining
from edge_asd_trainer.data import Clip
from edge_asd_trainer.descent import Engine
from edge_asd_trainer.distributed import joined
from edge_asd_trainer.features import LogMels
from edge_asd_trainer.fine_tuning import fine_tune
from edge_asd_trainer.network import Encoder, channels_last
from edge_asd_trainer.pairs import PairSampler
from edge_asd_trainer.pretraining import pretrain
from edge_asd_trainer.training_log import TrainingLog

stage, precision, frames, out = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
torch.set_num_threads(1)
torch.set_default_dtype(getattr(torch, precision))
names = [f"section_{{i % 2:02d}}_source_train_normal_{{i:04d}}.wav" for i in range(8)]
clips = [Clip(Path(name), parse_clip_name(name)) for name in names]
data = LogMels(frames, np.load(frames, mmap_mode="c"), np.arange(1, 9) * 100, clips, "")
with joined() as group:
    torch.manual_seed(0)
    encoder = Encoder(3)
    channels_last(encoder)
    pairs = PairSampler(data, Windows(), 0, group)
    log = TrainingLog(out.with_suffix(".csv"), out.with_suffix(".events"))
    engine = Engine(group, log=log)
    before = {{name: tensor.clone() for name, tensor in encoder.named_parameters()}}
    if stage == "pre-training":
        # A small rate and a large trust: normalisations, whose steps aren't scaled, would soon blow up any rounding.
        gentle = {{"warm_up_epochs": 0.0, "learning_rate": 1e-5, "final_learning_rate": 1e-5, "trust": 10.0}}
        config = Pretraining(epochs=1, steps_per_epoch={STEPS}, batch=8, expander_width=64, **gentle)
        pretrain(encoder, pairs, InputScaling(10.0, 10.0), config, engine)
    else:
        config = FineTuning(epochs=1, steps_per_epoch={STEPS}, batch=8, averaging=0.5)
        fine_tune(encoder, pairs, InputScaling(10.0, 10.0), config, engine)
    if group.leads:
        kept = {{name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}}
        kernels = {{name: tensor for name, tensor in encoder.named_parameters() if tensor.dim() == 4}}
        moved = [(tensor - before[name]).abs().max() for name, tensor in kernels.items()]
        save_file({{**kept, "moved": torch.stack(moved).detach()}}, out)
"""


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Log-mels of eight clips of noise, every other one of another section, in float64."""
    path = tmp_path_factory.mktemp("features") / "train.npy"
    random = np.random.default_rng(0)
    np.save(path, np.concatenate([random.normal(5 + 10 * (clip % 2), 8, (100, 128)) for clip in range(8)]))
    return path


def trained(
    stage: str, precision: str, processes: int, frames: Path, folder: Path
) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    program, out = folder / "program.py", folder / f"{processes}.safetensors"
    program.write_text(PROGRAM)
    launcher = [*TORCHRUN, f"--nproc-per-node={processes}"] if processes > 1 else [sys.executable]
    done = subprocess.run(
        [*launcher, str(program), stage, precision, str(frames), str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with out.with_suffix(".csv").open() as file:
        losses = np.array([float(row["loss"]) for row in csv.DictReader(file)])
    assert len(losses) == STEPS
    return losses, load_file(out)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pre-training", "fine-tuning"])
def test_two_processes_give_the_loss_and_the_weights_of_one(stage: str, frames: Path, tmp_path: Path) -> None:
    (loss, weights), (shared_loss, shared_weights) = (
        trained(stage, "float64", processes, frames, tmp_path) for processes in (1, 2)
    )
    assert weights["moved"].min() > 1e-4  # every kernel, far more than what is asked of the agreement
    np.testing.assert_allclose(shared_loss, loss, atol=1e-5, rtol=1e-5)
    for name, expected in weights.items():
        torch.testing.assert_close(shared_weights[name], expected, atol=1e-5, rtol=1e-5)


def train(data: Path, run: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    """By two processes, as docs/training.md says."""
    command = [*TORCHRUN, "--nproc-per-node=2", "-m", "edge_asd_trainer", "train", str(data), "--machine", "fan"]
    words = [word for setting in (*MOMENT, *settings) for word in ("--set", setting)]
    whole = [*command, "--preset", "cpu", "--out", str(run), *words]
    return subprocess.run(whole, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_two_processes_train_a_machine_type_to_its_bundle(plant: Path, tmp_path: Path) -> None:
    run = tmp_path / "fan"
    done = train(plant, run, "compute.precision=bfloat16")
    assert done.returncode == 0, done.stderr
    assert sorted(bundles.read(run / "fan.easd").manifest.sections) == ["00", "01"]
    assert done.stdout.count("test clips, AUC and pAUC") == 1  # only one of them speaks
    assert (run / "report" / "index.html").is_file()
    assert not list((run / "checkpoints").iterdir())


@pytest.mark.slow
def test_what_stops_one_of_two_processes_ends_both(plant: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(plant / "fan", data / "fan")
    broken = sorted((data / "fan" / "train").glob("*.wav"))[3]
    broken.write_bytes(b"")
    done = train(data, tmp_path / "run")
    assert done.returncode != 0
    assert f"edge-asd: {broken}: empty (0 bytes)" in done.stderr
    done = train(plant, tmp_path / "run", "fine_tuning.batch=9")
    assert "edge-asd: fine_tuning.batch: 9 can't be shared out evenly among 2 processes" in done.stderr
    assert not (tmp_path / "run" / "logs").exists()  # it was refused before anything was trained


def test_a_batch_that_cant_be_shared_out_says_what_could() -> None:
    assert [Group(rank, 2).share(8) for rank in (0, 1)] == [slice(0, 4), slice(4, 8)]
    with pytest.raises(ConfigError, match=r"^batch: 9 can't be shared out evenly among 2 processes.*such as 8"):
        Group(0, 2).share(9)
