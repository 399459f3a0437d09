"""Systems without a network: the bar, each against its own definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from edge_asd.bank import Bank
from edge_asd_trainer.bank_size import bank_sizes
from edge_asd_trainer.baselines import statistics
from edge_asd_trainer.baselines.statistics import SYSTEMS, gaussian_mixture, mahalanobis, weighted_ranks
from made_up import log_mels_of


def test_weighted_ranks_lie_between_the_mean_and_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    log_mel = np.random.default_rng(0).normal(-30, 10, (313, 128)).astype(np.float32)
    pooled = weighted_ranks(log_mel)
    assert (pooled > log_mel.mean(axis=0)).all()
    assert (pooled < log_mel.max(axis=0)).all()
    assert pooled[7] == pytest.approx(
        sum(0.99**n * value for n, value in enumerate(sorted(log_mel[:, 7], reverse=True)))
        / sum(0.99**n for n in range(313)),
        rel=1e-5,
    )
    monkeypatch.setattr(statistics, "DECAY", 1.0)
    np.testing.assert_allclose(weighted_ranks(log_mel), log_mel.mean(axis=0), rtol=1e-5)


def test_mahalanobis_is_its_formula() -> None:
    train = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    test = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    covariance = np.cov(train, rowvar=False, bias=True)
    shrunk = 0.9 * covariance + 0.1 * np.trace(covariance) / 6 * np.eye(6)
    centred = test - train.mean(axis=0)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", centred, np.linalg.inv(shrunk), centred))
    np.testing.assert_allclose(mahalanobis(train)(test), expected, rtol=1e-4)


def test_a_mixture_of_one_is_a_gaussians_negative_log_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "COMPONENTS", 1)
    train = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    test = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    covariance = np.cov(train, rowvar=False, bias=True) + np.eye(4)
    expected = -stats.multivariate_normal(train.mean(axis=0), covariance).logpdf(test)
    np.testing.assert_allclose(gaussian_mixture(train)(test), expected, rtol=1e-4)


def test_the_mixture_finds_two_operating_states_where_one_gaussian_finds_none() -> None:
    random = np.random.default_rng(0)
    train = np.concatenate([random.normal(place, 0.5, (60, 8)) for place in (-20, 20)]).astype(np.float32)
    between, normal = np.zeros((1, 8), np.float32), train[:1]
    assert gaussian_mixture(train)(between) > 20 * gaussian_mixture(train)(normal)
    assert mahalanobis(train)(between) < mahalanobis(train)(normal)


@pytest.mark.parametrize("clips", [2, 3, 25])
@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.title)
def test_no_clip_is_scored_by_what_knows_it(system: statistics.Statistics, clips: int, tmp_path: Path) -> None:
    names = [f"section_00_source_train_normal_{clip:04d}.wav" for clip in range(clips)]
    frames = np.random.default_rng(0).normal(-30, 10, (clips * 70, 128))
    rows = system.pooled(log_mels_of(names, frames, tmp_path))
    scores = system.held_out_scores(rows)
    assert np.isfinite(scores).all()
    seen = system.fit(rows)(rows)
    if clips > 2:
        assert (scores > seen).mean() > 0.9  # it is stranger to those who never heard it
    else:
        np.testing.assert_array_equal(scores, seen)


def test_a_larger_bank_finds_more_and_the_whole_one_is_the_detectors() -> None:
    random = np.random.default_rng(0)
    places = random.normal(0, 3, (40, 8)).astype(np.float32)  # forty operating states, one clip each
    normal = places + random.normal(0, 0.1, places.shape).astype(np.float32)
    strange = places + random.normal(0, 1.0, places.shape).astype(np.float32)
    embeddings = np.concatenate([normal, strange])
    bank = Bank.of(places, [""] * 40)
    found = bank_sizes({"00": bank}, embeddings, ["00"] * 80, [False] * 40 + [True] * 40, np.ones(80))
    assert [one.entries for one in found] == [1, 2, 4, 8, 16, 32, 40]
    assert found[0].auc < 0.75
    assert found[-1].auc > 0.98
    assert found[-1].auc == found[-1].lowest == found[-1].highest == found[-1].coreset
    assert [one.bytes for one in found] == sorted(one.bytes for one in found)
    assert found[-1].bytes == bank.codes.nbytes + bank.axes.nbytes + 40 * len('"",')
    assert found[0].bytes < found[-1].bytes / 3
    assert all(one.lowest <= one.auc <= one.highest for one in found)
    flipped = bank_sizes({"00": bank}, embeddings, ["00"] * 80, [False] * 40 + [True] * 40, -np.ones(80))
    assert flipped[-1].auc == pytest.approx(1 - found[-1].auc)
