from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edge_asd.bank import Bank
from edge_asd.comparison import Backend, held_out
from edge_asd_trainer.config import Detection
from edge_asd_trainer.detection import gamma_percentile, thresholds


def test_the_percentile_of_gamma_distributed_scores_is_found() -> None:
    truth = stats.gamma(a=4.0, scale=0.5)
    scores = truth.rvs(5000, random_state=0)
    for percentile in (90, 99.9):
        assert gamma_percentile(scores, percentile) == pytest.approx(truth.ppf(percentile / 100), rel=0.05)


@pytest.mark.parametrize(
    "scores", [[0.3, 0.3], [0.1, 0.3], [0.3] * 10, [0.0, 0.3], np.nextafter(0.3, [0, 1] * 5).tolist()]
)
def test_too_few_or_equal_scores_give_the_largest(scores: list[float]) -> None:
    assert gamma_percentile(np.array(scores), 90) == pytest.approx(0.3)


def test_thresholds_come_from_leave_one_out_distances() -> None:
    embeddings = np.random.default_rng(0).normal(size=(60, 320)).astype(np.float32)
    distances = held_out(Backend(), Bank.of(embeddings, [""] * 60), embeddings, range(60))
    found = thresholds(distances, Detection())
    assert 0 < distances.min() < found.decision < found.alarm
    assert (distances > found.decision).mean() == pytest.approx(0.1, abs=0.07)


def test_of_flipped_scores_a_tenth_of_normal_clips_lies_above_the_threshold_too() -> None:
    unseen = np.random.default_rng(0).gamma(5.0, 1.0, 60)
    found = thresholds(unseen, Detection(), flipped=True)
    assert found.decision == -gamma_percentile(unseen, 10)
    assert (-unseen > found.decision).mean() == pytest.approx(0.1, abs=0.05)


def test_a_sum_of_back_ends_may_lie_below_zero() -> None:
    both = Detection(backends=(Backend(), Backend(distance="mahalanobis")))
    unseen = np.random.default_rng(0).normal(0, 1, 500)
    assert thresholds(unseen, both).decision == pytest.approx(1.28, abs=0.2)
    assert thresholds(unseen - 10, both).alarm < 0
