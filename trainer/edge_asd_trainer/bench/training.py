"""Pre-training steps, beside the plain loop that one writes first; what loading takes of them, and memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from edge_asd.clip_name import parse_clip_name
from edge_asd.model import InputScaling
from edge_asd.windows import Windows
from edge_asd_trainer.bench.measurement import Effort, Row
from edge_asd_trainer.bench.pool import StartedPool, started_pool
from edge_asd_trainer.config import Compute, Config, FineTuning, Pretraining
from edge_asd_trainer.data import Clip
from edge_asd_trainer.descent import Engine
from edge_asd_trainer.features import LogMels
from edge_asd_trainer.fine_tuning import fine_tune
from edge_asd_trainer.losses import mix, pretraining_loss
from edge_asd_trainer.network import Encoder, channels_last, expander
from edge_asd_trainer.optimiser import LARS
from edge_asd_trainer.pairs import Pairs, PairSampler
from edge_asd_trainer.pipeline import prepare_torch
from edge_asd_trainer.pretraining import pretrain

CLIPS, MANY_CLIPS, FRAMES = 64, 6000, 313
BATCH, STEPS = 128, 3
LIMIT = 4096.0  # MB
SCALING = InputScaling(0.0, 10.0)
PRECISIONS = ("float32", "bfloat16")
PLAIN = "plain loop"


def steps(effort: Effort) -> list[Row]:
    """A pre-training step of 128 pairs, 3 x 128 images, milliseconds on all cores, everything included.

    The plain loop has the same network, loss, optimiser and single pass over the images; but images are NCHW float32,
    windows come one by one from a Python data set through PyTorch's DataLoader, and freed memory is returned.
    Each runs in a process of its own; steps of one and the other take turns. The last rows are the share of a step
    that cutting and gathering the windows takes: 3 % is a ratio of 33.
    """
    batch = effort.of(BATCH, 2)
    with TemporaryDirectory(prefix="edge-asd-bench.") as folder, ExitStack() as stack:
        path = _log_mels(Path(folder), effort.of(CLIPS, 4))
        pools = {name: stack.enter_context(started_pool(1, _nothing)) for name in (PLAIN, *PRECISIONS)}
        figures = dict.fromkeys(pools, (float("inf"), float("inf")))
        for _ in range(effort.repetitions):
            for name, pool in pools.items():
                found = _in(pool, partial(_plain_steps if name == PLAIN else partial(_our_steps, name), path, batch))
                figures[name] = min(figures[name], found)
    rows = []
    for name in PRECISIONS:
        whole, loading = figures[name]
        rows.append(Row(f"a pre-training step, {name}", whole, figures[PLAIN][0], "ms", PLAIN, 2.5))
        rows.append(Row(f"loading in a step, {name}", loading, whole, "ms", "the whole step", 1 / 0.03))
    return rows


def memory(effort: Effort) -> list[Row]:
    """Largest resident size of a process that pre-trains and fine-tunes on 6000 clips, log-mels as a file of 0.96 GB.

    The batches are those of preset `cpu`: 3 x 128 images, then 3 x 64.
    """
    rows = []
    with TemporaryDirectory(prefix="edge-asd-bench.") as folder:
        path = _log_mels(Path(folder), effort.of(MANY_CLIPS, 4))
        for precision in PRECISIONS:
            with started_pool(1, _nothing) as pool:
                peak = _in(pool, partial(_peak, precision, path, effort.of(BATCH, 4)))
            rows.append(Row(f"memory of training on 6000 clips, {precision}", peak, LIMIT, "MB", "the limit", 1.0))
    return rows


class _Timed(PairSampler):
    """Notes when a batch is asked for and when it is there."""

    def epochs(self, *arguments: Any, **options: Any) -> Iterator[Pairs]:
        self.asked: list[float] = []
        self.given: list[float] = []
        batches = super().epochs(*arguments, **options)
        while True:
            self.asked.append(time.perf_counter())
            batch = next(batches, None)
            self.given.append(time.perf_counter())
            if batch is None:
                return
            yield batch


def _our_steps(precision: str, path: Path, batch: int) -> tuple[float, float]:
    """Milliseconds of the fastest step, and of the loading in it."""
    pairs = _pretrained(precision, path, batch)
    whole = np.diff(pairs.asked)[1:]  # the first one warms up
    loading = np.subtract(pairs.given, pairs.asked)[1:-1]
    fastest = int(np.argmin(whole))
    return 1e3 * float(whole[fastest]), 1e3 * float(loading[fastest])


def _peak(precision: str, path: Path, batch: int) -> float:
    """Megabytes, after some steps of both trainings."""
    pairs = _pretrained(precision, path, batch)
    engine = Engine(compute=_compute(precision))
    encoder = Encoder()
    channels_last(encoder)
    tuning = FineTuning(epochs=1, steps_per_epoch=STEPS, batch=batch // 2, averaging=0.99)
    fine_tune(encoder, pairs, SCALING, tuning, engine)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _pretrained(precision: str, path: Path, batch: int) -> _Timed:
    prepare_torch(Config())
    log_mels = _opened(path)
    log_mels.mean_and_deviation()  # looks at every frame, so that all of the file is in memory
    encoder, pairs = Encoder(), _Timed(log_mels, Windows(), 0)
    channels_last(encoder)
    config = Pretraining(epochs=1, steps_per_epoch=STEPS, batch=batch, warm_up_epochs=0.0, learning_rate=0.1)
    pretrain(encoder, pairs, SCALING, config, Engine(compute=_compute(precision)))
    return pairs


def _plain_steps(path: Path, batch: int) -> tuple[float, float]:
    """Milliseconds of the fastest step, and nothing for what isn't asked."""
    branch = nn.Sequential(Encoder(), expander()).train()
    optimiser = LARS(branch.parameters(), lr=0.1)
    loader = iter(DataLoader(_PlainData(path), batch_size=batch, shuffle=True))
    moments = []
    for _ in range(STEPS):
        moments.append(time.perf_counter())
        x, other, lam = next(loader)
        branches = torch.cat([x, other, mix(x, other, lam)])
        z, z_other, z_lam = branch(branches[:, None].repeat(1, 3, 1, 1)).chunk(3)
        loss = pretraining_loss(z, z_other, z_lam, lam).loss
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        loss.item()
    moments.append(time.perf_counter())
    return 1e3 * float(np.diff(moments)[1:].min()), 0.0


class _PlainData(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """A pair of windows for an index, cut when it is asked for."""

    def __init__(self, path: Path) -> None:
        log_mels = _opened(path)
        self._frames, (self._starts, _) = log_mels.frames, log_mels.window_starts(Windows())
        self._random = np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        other = int(self._random.integers(len(self)))
        lam = torch.tensor(self._random.beta(0.5, 0.5), dtype=torch.float32)
        return self._window(index), self._window(other), lam

    def _window(self, index: int) -> Tensor:
        start = self._starts[index]
        return torch.from_numpy(np.array(self._frames[start : start + Windows().frames].T)) / SCALING.std


def _log_mels(folder: Path, clips: int) -> Path:
    """A file of the log-mels of so many clips of noise."""
    path, random = folder / "train.npy", np.random.default_rng(0)
    frames = np.lib.format.open_memmap(path, "w+", np.float32, (clips * FRAMES, 128))  # type: ignore[no-untyped-call]
    for clip in range(clips):
        frames[clip * FRAMES : (clip + 1) * FRAMES] = 10 * random.standard_normal((FRAMES, 128), np.float32)
    frames.flush()
    return path


def _opened(path: Path) -> LogMels:
    frames = np.load(path, mmap_mode="c", allow_pickle=False)
    names = [f"section_{i % 6:02d}_source_train_normal_{i:04d}.wav" for i in range(len(frames) // FRAMES)]
    clips = [Clip(Path(name), parse_clip_name(name)) for name in names]
    return LogMels(path, frames, FRAMES * np.arange(1, len(clips) + 1), clips, "")


def _compute(precision: str) -> Compute:
    return msgspec.convert({"precision": precision}, Compute)


def _in(pool: StartedPool, work: Any) -> Any:
    with pool.each(_call, [work], 1) as results:
        [result] = results
    return result


def _call(work: Any) -> Any:
    return work()


def _nothing() -> None:
    """No preparation."""
