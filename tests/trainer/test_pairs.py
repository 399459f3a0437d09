from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_asd.windows import Windows
from edge_asd_trainer.features import LogMels
from edge_asd_trainer.pairs import PairSampler
from made_up import log_mels_of


def some_log_mels(folder: Path, clips: int = 12, frames: int = 313) -> LogMels:
    """Clips of two sections, the last of each the target domain; a frame's value is its index."""
    names = [
        f"section_{index % 2:02d}_{'target' if index >= clips - 2 else 'source'}_train_normal_{index:04d}.wav"
        for index in range(clips)
    ]
    values = np.arange(clips * frames, dtype=np.float32)[:, None] + np.zeros((1, 128), np.float32)
    return log_mels_of(names, values, folder)


@pytest.fixture
def sampler(tmp_path: Path) -> PairSampler:
    return PairSampler(some_log_mels(tmp_path), Windows(), seed=0)


def test_every_window_of_every_clip_comes_once_an_epoch(sampler: PairSampler) -> None:
    assert len(sampler) == 12 * 32
    steps = sampler.steps_per_epoch(32)
    assert steps == 12
    batches = list(sampler.epoch(32, steps, 0.5))
    first_frames = torch.cat([batch.x[:, 0, 0] for batch in batches])
    expected = [clip * 313 + start for clip in range(12) for start in range(0, 249, 8)]
    assert sorted(first_frames.tolist()) == expected
    assert batches[0].x.shape == (32, 128, 64)


def test_6000_clips_at_batch_1024_give_187_steps(tmp_path: Path) -> None:
    log_mels = some_log_mels(tmp_path)
    ends = np.arange(1, 6001) * 313  # no window is drawn, so there need be no frames
    many = LogMels(log_mels.path, log_mels.frames, ends, list(log_mels.clips) * 500, "")
    assert PairSampler(many, Windows(), 0).steps_per_epoch(1024) == 187


def test_the_other_window_is_an_independent_draw(sampler: PairSampler) -> None:
    [batch] = sampler.epoch(300, 1, 0.5)
    x, other = batch.x[:, 0, 0], batch.other[:, 0, 0]
    assert not torch.equal(x.sort().values, other.sort().values)  # no permutation of the same batch
    assert len(set(batch.section.tolist())) == len(set(batch.other_section.tolist())) == 2


def test_one_lambda_a_pair_from_beta(sampler: PairSampler) -> None:
    lam = torch.cat([batch.lam for batch in sampler.epoch(300, 20, 0.5)]).numpy()
    assert lam.shape == (6000,)
    assert lam.mean() == pytest.approx(0.5, abs=0.03)
    assert lam.var() == pytest.approx(0.125, abs=0.01)  # of Beta(0.5, 0.5); the uniform distribution has 1/12


def is_target(windows: torch.Tensor) -> torch.Tensor:
    return windows[:, 0, 0] >= 10 * 313


def test_a_share_of_the_pairs_crosses_the_domains(sampler: PairSampler) -> None:
    [batch] = sampler.epoch(200, 1, 0.5, cross_domain_share=1.0)
    assert (is_target(batch.x) != is_target(batch.other)).all()
    [batch] = sampler.epoch(200, 1, 0.5, cross_domain_share=0.5)
    assert (is_target(batch.x) != is_target(batch.other))[:100].all()
    [batch] = sampler.epoch(200, 1, 0.5)
    assert 0.1 < (is_target(batch.x) != is_target(batch.other)).float().mean() < 0.5


def test_a_share_of_the_pairs_is_source_and_target_of_one_section(sampler: PairSampler) -> None:
    [batch] = sampler.epoch(200, 1, 0.5, same_section_share=0.5)
    assert (batch.section == batch.other_section)[:100].all()
    assert (is_target(batch.x) != is_target(batch.other))[:100].all()
    assert not (batch.section == batch.other_section)[100:].all()


def test_the_same_seed_draws_the_same_pairs(tmp_path: Path) -> None:
    log_mels = some_log_mels(tmp_path)
    [one], [same], [another] = (list(PairSampler(log_mels, Windows(), seed).epoch(64, 1, 0.5)) for seed in (1, 1, 2))
    assert torch.equal(one.x, same.x)
    assert torch.equal(one.lam, same.lam)
    assert not torch.equal(one.x, another.x)
