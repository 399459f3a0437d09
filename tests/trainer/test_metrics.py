from __future__ import annotations

import numpy as np
import pytest

from edge_asd.errors import DataError
from edge_asd_trainer.metrics import SectionFigures, official_score, section_figures


def slow_auc(normal: list[float], anomalous: list[float]) -> float:
    """The share of pairs in which the anomalous clip scores higher; ties count half."""
    wins = sum((a > n) + 0.5 * (a == n) for a in anomalous for n in normal)
    return wins / (len(normal) * len(anomalous))


def some_section(seed: int = 0, clips: int = 60) -> tuple[np.ndarray, np.ndarray, list[str]]:
    random = np.random.default_rng(seed)
    anomalous = np.arange(clips) % 2 == 1
    domains = ["source" if index % 4 < 2 else "target" for index in range(clips)]
    scores = np.round(random.normal(size=clips) + anomalous, 1)  # rounded, so that there are ties
    return scores, anomalous, domains


@pytest.mark.parametrize("seed", range(5))
def test_a_domains_auc_uses_the_anomalies_of_both_domains(seed: int) -> None:
    scores, anomalous, domains = some_section(seed)
    figures = section_figures(scores, anomalous, domains, 0.5, "section 00")
    for domain in ("source", "target"):
        normal = [s for s, a, d in zip(scores, anomalous, domains, strict=True) if not a and d == domain]
        assert figures.domains[domain].auc == pytest.approx(slow_auc(normal, list(scores[anomalous])))


def test_a_sections_auc_takes_both_domains_together() -> None:
    scores, anomalous, domains = some_section()
    figures = section_figures(scores, anomalous, domains, 0.5, "section 00")
    assert figures.auc == pytest.approx(slow_auc(list(scores[~anomalous]), list(scores[anomalous])))


def test_decisions_count_within_their_domain_and_strictly_above_the_threshold() -> None:
    scores = np.array([1.0, 2.0, 1.0, 3.0, 0.0, 9.0])
    anomalous = np.array([False, True, True, True, False, True])
    domains = ["source"] * 4 + ["target"] * 2
    source = section_figures(scores, anomalous, domains, 1.0, "").domains["source"]
    assert (source.precision, source.recall) == (1.0, pytest.approx(2 / 3))
    assert source.f1 == pytest.approx(0.8)


def test_the_partial_auc_is_mcclishs() -> None:
    normal, anomalous = np.arange(10.0), np.array([8.5] * 10)
    scores, truth = np.concatenate([normal, anomalous]), np.arange(20) >= 10
    # the curve is (0, 0) -> (0.1, 0) -> (0.1, 1): nothing is found below a false-positive rate of 0.1
    least, most = 0.1**2 / 2, 0.1
    expected = 0.5 * (1 + (0.0 - least) / (most - least))
    figures = section_figures(scores, truth, ["source"] * 20, 0.0, "")
    assert figures.pauc == pytest.approx(expected, abs=1e-12)


def test_the_official_score_is_the_harmonic_mean_of_all_of_them() -> None:
    scores, anomalous, domains = some_section()
    one = section_figures(scores, anomalous, domains, 0.0, "")
    two = section_figures(scores**2, anomalous, domains, 0.0, "")
    values = [value for figures in (one, two) for value in (*(d.auc for d in figures.domains.values()), figures.pauc)]
    assert len(values) == 6
    assert official_score([one, two]) == pytest.approx(6 / sum(1 / value for value in values))


def test_a_zero_counts_as_epsilon() -> None:
    assert official_score([SectionFigures(domains={}, auc=0.5, pauc=0.0, normal=1, anomalous=1)]) == pytest.approx(
        2.2e-16, rel=0.1
    )


@pytest.mark.parametrize(("anomalous", "kind"), [(True, "anomalous"), (False, "normal")])
def test_one_kind_of_clips_is_an_error_and_not_a_nan(anomalous: bool, kind: str) -> None:
    with pytest.raises(DataError, match=f"section 03: all 4 test clips are {kind}"):
        section_figures(np.arange(4.0), np.array([anomalous] * 4), ["source"] * 4, 0.0, "section 03")
