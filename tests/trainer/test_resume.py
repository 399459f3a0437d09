"""A training that is interrupted, killed or out of disk goes on, and ends with the bytes of one that wasn't."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from common import MOMENT
from edge_asd.errors import StorageError, TrainingError
from edge_asd.model import InputScaling
from edge_asd.windows import Windows
from edge_asd_trainer.checkpoint import Checkpoint
from edge_asd_trainer.config import Compute, FineTuning, Pretraining
from edge_asd_trainer.descent import Engine
from edge_asd_trainer.features import LogMels
from edge_asd_trainer.fine_tuning import fine_tune
from edge_asd_trainer.network import Encoder, channels_last
from edge_asd_trainer.pairs import PairSampler
from edge_asd_trainer.pretraining import pretrain
from edge_asd_trainer.run_folder import RunFolder
from edge_asd_trainer.training_log import TrainingLog
from made_up import log_mels_of

STEPS = 6
PRETRAINING = Pretraining(epochs=2, steps_per_epoch=3, batch=4, warm_up_epochs=0.5, expander_width=16)
FINE_TUNING = FineTuning(epochs=2, steps_per_epoch=3, batch=4, learning_rate=1e-3, averaging=0.5)


def log_mels(folder: Path, *, constant: bool = False) -> LogMels:
    names = [f"section_{i % 2:02d}_source_train_normal_{i:04d}.wav" for i in range(6)]
    return log_mels_of(names, np.random.default_rng(0).normal(0, 0 if constant else 5, (600, 128)), folder)


def trained(stage: str, data: LogMels, engine: Engine) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    encoder = Encoder(3)
    channels_last(encoder)
    pairs = PairSampler(data, Windows(), 0)
    if stage == "pre-training":
        pretrain(encoder, pairs, InputScaling(0.0, 5.0), PRETRAINING, engine)
    else:
        fine_tune(encoder, pairs, InputScaling(0.0, 5.0), FINE_TUNING, engine)
    return encoder.state_dict()


def kept_in(folder: Path, key: str = "key", precision: str = "float32") -> Engine:
    log = TrainingLog(folder / "log.csv", folder / "events")
    compute = msgspec.convert({"precision": precision}, Compute)
    return Engine(compute=compute, checkpoint=Checkpoint(folder / "checkpoint.safetensors", key, 1000.0), log=log)


def interrupt_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C while a step is worked on."""
    epochs = PairSampler.epochs

    def interrupting(self, *arguments, **options):  # type: ignore[no-untyped-def]
        for number, batch in enumerate(epochs(self, *arguments, **options)):
            if number == step:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    monkeypatch.setattr(PairSampler, "epochs", interrupting)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stage", ["pre-training", "fine-tuning"])
def test_ctrl_c_finishes_the_step_and_the_rest_gives_the_same_bits(
    stage: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = log_mels(tmp_path)
    (tmp_path / "whole").mkdir()
    expected = trained(stage, data, kept_in(tmp_path / "whole", precision=precision))
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        with pytest.raises(KeyboardInterrupt):
            trained(stage, data, kept_in(tmp_path, precision=precision))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    found = trained(stage, data, kept_in(tmp_path, precision=precision))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    rows, uninterrupted = (
        [line.rsplit(",", 1)[0] for line in (folder / "log.csv").read_text().splitlines()]
        for folder in (tmp_path, tmp_path / "whole")
    )
    assert len(rows) == 1 + STEPS
    assert rows == uninterrupted  # but for the speed


def test_a_checkpoint_of_other_numbers_is_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = log_mels(tmp_path)
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        with pytest.raises(KeyboardInterrupt):
            trained("pre-training", data, kept_in(tmp_path, "these numbers"))
    module, optimiser = torch.nn.Linear(1, 1), torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    assert Checkpoint(tmp_path / "checkpoint.safetensors", "others", 0.0).read(module, optimiser) == 0
    found = trained("pre-training", data, kept_in(tmp_path, "others"))
    expected = trained("pre-training", data, Engine())
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + STEPS


def test_a_full_disk_leaves_the_last_checkpoint_readable(tmp_path: Path) -> None:
    module = torch.nn.Linear(1000, 300)
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(torch.ones(1, 1000)).sum().backward()
    optimiser.step()
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "key", 0.0)
    checkpoint.write(1, module, optimiser)
    first = module.weight.detach().clone()
    optimiser.step()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="could not be written"):
            checkpoint.write(2, module, optimiser)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.read(module, optimiser) == 1
    assert torch.equal(module.weight.detach(), first)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_writing_stays_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("edge_asd_trainer.checkpoint.time.monotonic", lambda: now)
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "key", 20.0)
    now = 119.0
    assert not checkpoint.due()
    now = 120.0
    assert checkpoint.due()

    def slowly(*_: object) -> None:
        nonlocal now
        now += 2.0

    monkeypatch.setattr("edge_asd_trainer.checkpoint.files.write_bytes", slowly)
    checkpoint.write(1, torch.nn.Linear(1, 1), torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]))
    now += 99.0
    assert not checkpoint.due()
    now += 1.0
    assert checkpoint.due()


def test_rows_that_a_killed_training_wrote_too_far_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n0,3.0\n1,2.0\n2,1.5\n3,1.")
    with TrainingLog(path, tmp_path / "events").from_step(2) as log:
        log.row(2, {"loss": 1.25})
    assert path.read_text() == "step,loss\n0,3.0\n1,2.0\n2,1.25\n"
    with TrainingLog(path, tmp_path / "events").from_step(0) as log:
        log.row(0, {"loss": 9.0})
    assert path.read_text() == "step,loss\n0,9\n"
    [events] = (tmp_path / "events").iterdir()
    assert b"loss" in events.read_bytes()


def test_what_a_killed_training_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """A run's folder may be any: `--out .` in a folder of one's own."""
    ours = [".network.safetensors.abcd_123", "logs/.pre-training.csv.abcd1234", ".fan.easd.12345678"]
    ours += ["report/.roc.png.a1ha7xjq", "evaluation/.result.csv.abcd1234"]
    others = [".env", ".gitignore", "logs/.gitkeep", ".git/config", "features/.env.production"]
    for name in (*ours, *others):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    with RunFolder(tmp_path).taken():
        assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {*others, "lock"}


# The limit on files' sizes is what a full disk is: both files are written at their ends.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from edge_asd_trainer.training_log import TrainingLog

start, limit = map(int, sys.argv[1:])
Path("log.csv").write_text("step,loss\\n" + "".join(f"{step},1\\n" for step in range(start)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with TrainingLog(Path("log.csv"), Path("events")).from_step(start) as log:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for step in range(start, start + 1000):
        log.row(step, {"loss": 1.0})
"""


@pytest.mark.parametrize(("start", "limit"), [(0, 500), (200, 1150)])  # TensorBoard's file is full first; the CSV
def test_a_disk_that_fills_ends_a_training_with_what_to_do(start: int, limit: int, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(FULL_DISK)
    command = [sys.executable, str(program), str(start), str(limit)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    said = "log.csv: could not be written (File too large); free space or mend the permissions there"
    assert said in done.stderr.splitlines()[-1]
    [events] = (tmp_path / "events").iterdir()
    full = tmp_path / "log.csv" if start else events
    assert full.stat().st_size == limit


def test_embeddings_that_are_all_the_same_stop_the_training_with_advice(tmp_path: Path) -> None:
    data = log_mels(tmp_path, constant=True)
    config = Pretraining(epochs=1, steps_per_epoch=20, batch=4, expander_width=16)
    with pytest.raises(
        TrainingError, match=r"pre-training collapsed by step 9: .* raise pretraining\.mu \(now 25\.0\)"
    ):
        pretrain(Encoder(1), PairSampler(data, Windows(), 0), InputScaling(0.0, 5.0), config, Engine())


# `edge-asd train`, ended as by the kernel once it has come so far.
KILLED = """
import os, signal
from edge_asd import files
from edge_asd.cli import main
from edge_asd_trainer.checkpoint import Checkpoint

when, place = os.environ["KILLED"].split()
sync, write = files.sync, Checkpoint.write

def sync_or_die(path):
    if when == "before" and path.name.startswith(f".{place}."):  # all but renamed into place
        os.kill(os.getpid(), signal.SIGKILL)
    sync(path)

def write_and_die(self, *arguments):
    write(self, *arguments)
    if when == "after" and place == self._path.name:
        os.kill(os.getpid(), signal.SIGKILL)

files.sync, Checkpoint.write = sync_or_die, write_and_die
if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_with_the_same_bundle(plant: Path, run_folder: Path, tmp_path: Path) -> None:
    program, run = tmp_path / "killed.py", tmp_path / "fan"
    program.write_text(KILLED)
    train = ["train", str(plant), "--machine", "fan", "--preset", "demo", "--out", str(run)]
    train += [word for setting in MOMENT for word in ("--set", setting)]
    places = {
        "before train.npy": "",
        "before pre-training.safetensors": "",
        "after pre-training.safetensors": "",
        "before stages.json": "going on from step 1,",  # pre-training is done, and not yet marked as done
        "after fine-tuning.safetensors": "going on from step 2,",
        "before model.tflite": "going on from step 1,",
        "before fan.easd": "",
    }
    for place, said in places.items():
        command = [sys.executable, str(program), *train]
        done = subprocess.run(command, env={**os.environ, "KILLED": place}, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert said in done.stderr
    done = subprocess.run([sys.executable, "-m", "edge_asd", *train], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("pretrained.safetensors", "network.safetensors", "model.tflite", "fan.easd"):
        assert (run / name).read_bytes() == (run_folder / name).read_bytes(), name
    assert not list((run / "checkpoints").iterdir())
    assert not list(run.rglob(".*"))
