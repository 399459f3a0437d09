"""The challenge's figures, against definitions written down once more here, and scikit-learn; and their intervals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from statistics import harmonic_mean

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from edge_asd.errors import DataError
from edge_asd_trainer import metrics
from edge_asd_trainer.metrics import (
    MAX_FPR,
    RESAMPLES,
    SectionFigures,
    means,
    official_interval,
    official_score,
    resampled,
    roc_area,
    section_figures,
)

Section = tuple[np.ndarray, np.ndarray, list[str]]


def slow_auc(normal: Sequence[float], anomalous: Sequence[float]) -> float:
    """The share of pairs in which the anomalous clip scores higher; ties count half."""
    wins = sum((a > n) + 0.5 * (a == n) for a in anomalous for n in normal)
    return wins / (len(normal) * len(anomalous))


def slow_pauc(normal: Sequence[float], anomalous: Sequence[float], max_fpr: float = MAX_FPR) -> float:
    """The ROC curve walked from one threshold to the next below it, in fractions; standardised as McClish does."""
    limit, area = Fraction(max_fpr), Fraction(0)
    x = y = Fraction(0)
    for threshold in sorted({*normal, *anomalous}, reverse=True):
        next_x = Fraction(sum(bool(n >= threshold) for n in normal), len(normal))
        next_y = Fraction(sum(bool(a >= threshold) for a in anomalous), len(anomalous))
        if next_x > limit:
            height = y + (next_y - y) * (limit - x) / (next_x - x)
            area += (limit - x) * (y + height) / 2
            x = limit
            break
        area += (next_x - x) * (y + next_y) / 2
        x, y = next_x, next_y
    least, most = limit * limit / 2, limit
    return float((1 + (area - least) / (most - least)) / 2)


def some_section(seed: int = 0, clips: int = 60, digits: int = 1) -> Section:
    random = np.random.default_rng(seed)
    anomalous = np.arange(clips) % 2 == 1
    domains = ["source" if index % 4 < 2 else "target" for index in range(clips)]
    scores = np.round(random.normal(size=clips) + anomalous, digits)  # rounded, so that there are ties
    return scores, anomalous, domains


def scores_of(section: Section, wanted: bool, domain: str | None = None) -> list[float]:
    return [s for s, a, d in zip(*section, strict=True) if a == wanted and domain in (None, d)]


@st.composite
def sections(draw: st.DrawFn) -> Section:
    """A section of few clips and fewer distinct scores, with both kinds of clips in some domain."""
    clip = st.tuples(st.integers(-3, 3), st.booleans(), st.sampled_from(["source", "target"]))
    first = [draw(clip)[::2], draw(clip)[::2]]
    clips = [(first[0][0], True, first[0][1]), (first[1][0], False, first[1][1]), *draw(st.lists(clip, max_size=40))]
    scores, anomalous, domains = zip(*draw(st.permutations(clips)), strict=True)
    unit = draw(st.sampled_from([1.0, 0.1, 1e-9, 1e9]))
    return np.array(scores) * unit, np.array(anomalous), list(domains)


@settings(max_examples=50, deadline=None)
@given(sections())
def test_every_area_is_what_counting_pairs_and_walking_the_curve_give(section: Section) -> None:
    figures = section_figures(*section, 0.0, "section 00")
    normal, anomalous = scores_of(section, False), scores_of(section, True)
    assert figures.auc == pytest.approx(slow_auc(normal, anomalous), abs=1e-12)
    assert figures.auc == pytest.approx(slow_pauc(normal, anomalous, 1.0), abs=1e-12)
    assert figures.pauc == pytest.approx(slow_pauc(normal, anomalous), abs=1e-12)
    assert set(figures.domains) == {d for a, d in zip(*section[1:], strict=True) if not a}
    for domain, one in figures.domains.items():
        assert one.auc == pytest.approx(slow_auc(scores_of(section, False, domain), anomalous), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(sections(), st.sampled_from([0.05, 0.1, 0.5, 1.0]))
def test_the_weighted_area_is_scikit_learns_where_every_clip_counts_once(section: Section, limit: float) -> None:
    scores, anomalous, _ = section
    once = np.ones((2, len(scores)), dtype=np.int64)
    expected = roc_auc_score(anomalous, scores, max_fpr=limit)
    assert roc_area(scores, anomalous, once, limit) == pytest.approx([expected] * 2, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(sections(), st.sampled_from([0.1, 1.0]), st.integers(0, 99))
def test_a_weight_is_a_clip_repeated(section: Section, limit: float, seed: int) -> None:
    scores, anomalous, _ = section
    weights = np.random.default_rng(seed).integers(0, 4, size=(3, len(scores)))
    weights[:, [int(anomalous.argmax()), int(anomalous.argmin())]] += 1  # so that both kinds are left
    for row, found in zip(weights, roc_area(scores, anomalous, weights, limit), strict=True):
        repeated = roc_auc_score(np.repeat(anomalous, row), np.repeat(scores, row), max_fpr=limit)
        assert found == pytest.approx(repeated, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(sections(), st.integers(-4, 4))
def test_decisions_are_scikit_learns_within_a_domain(section: Section, threshold: int) -> None:
    figures = section_figures(*section, threshold, "section 00")
    scores, anomalous, domains = section
    for domain, one in figures.domains.items():
        inside = np.array(domains) == domain
        expected = precision_recall_fscore_support(
            anomalous[inside], scores[inside] > threshold, average="binary", pos_label=True, zero_division=0.0
        )
        assert (one.precision, one.recall, one.f1) == pytest.approx(expected[:3], abs=1e-12)
        assert (one.normal, one.anomalous) == ((~anomalous & inside).sum(), (anomalous & inside).sum())


@pytest.mark.parametrize("seed", range(5))
def test_a_domains_auc_uses_the_anomalies_of_both_domains(seed: int) -> None:
    section = some_section(seed)
    figures = section_figures(*section, 0.5, "section 00")
    for domain in ("source", "target"):
        normal = scores_of(section, False, domain)
        assert figures.domains[domain].auc == pytest.approx(slow_auc(normal, scores_of(section, True)))
        assert figures.domains[domain].auc != pytest.approx(slow_auc(normal, scores_of(section, True, domain)))


def test_a_sections_auc_takes_both_domains_together() -> None:
    section = some_section()
    figures = section_figures(*section, 0.5, "section 00")
    assert figures.auc == pytest.approx(slow_auc(scores_of(section, False), scores_of(section, True)))


def test_decisions_count_within_their_domain_and_strictly_above_the_threshold() -> None:
    scores = np.array([1.0, 2.0, 1.0, 3.0, 0.0, 9.0])
    anomalous = np.array([False, True, True, True, False, True])
    domains = ["source"] * 4 + ["target"] * 2
    source = section_figures(scores, anomalous, domains, 1.0, "").domains["source"]
    assert (source.precision, source.recall) == (1.0, pytest.approx(2 / 3))
    assert source.f1 == pytest.approx(0.8)


def test_a_threshold_is_compared_in_the_precision_in_which_scores_are_written() -> None:
    scores, anomalous = np.array([0.1, 0.0], dtype=np.float32), np.array([True, False])
    threshold = (0.1 + float(np.float32(0.1))) / 2  # above 0.1, below what float32 makes of it
    assert section_figures(scores, anomalous, ["source"] * 2, threshold, "").domains["source"].recall == 1.0


def test_the_partial_auc_is_mcclishs() -> None:
    normal, anomalous = np.arange(10.0), np.array([8.5] * 10)
    scores, truth = np.concatenate([normal, anomalous]), np.arange(20) >= 10
    # the curve is (0, 0) -> (0.1, 0) -> (0.1, 1): nothing is found below a false-positive rate of 0.1
    least, most = 0.1**2 / 2, 0.1
    expected = 0.5 * (1 + (0.0 - least) / (most - least))
    figures = section_figures(scores, truth, ["source"] * 20, 0.0, "")
    assert figures.pauc == pytest.approx(expected, abs=1e-12)


def test_a_domain_without_normal_clips_has_no_auc_and_its_anomalies_still_count() -> None:
    scores = np.array([1.0, 2.0, 3.0, 0.0])
    anomalous = np.array([False, False, True, True])
    figures = section_figures(scores, anomalous, ["source", "source", "source", "target"], 1.5, "")
    assert list(figures.domains) == ["source"]
    assert figures.domains["source"].auc == 0.5  # one anomaly of two scores above both normal clips
    assert figures.official() == [0.5, figures.pauc]
    assert (figures.normal, figures.anomalous) == (2, 2)


@pytest.mark.parametrize("threshold", [-1.0, 1.5, 9.0], ids=["all called", "some called", "none called"])
def test_a_domain_without_anomalies_has_an_auc_and_no_division_by_zero(threshold: float) -> None:
    scores = np.array([1.0, 2.0, 3.0, 0.0])
    anomalous = np.array([False, True, False, False])
    figures = section_figures(scores, anomalous, ["source", "source", "target", "target"], threshold, "")
    target = figures.domains["target"]
    assert (target.auc, target.precision, target.recall, target.f1) == (0.5, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("lift", "auc", "pauc"), [(9.0, 1.0, 1.0), (-9.0, 0.0, 0.5 * (1 - 0.005 / 0.095)), (None, 0.5, 0.5)]
)
def test_perfect_inverted_and_uninformative_scores(lift: float | None, auc: float, pauc: float) -> None:
    scores, anomalous, domains = some_section(clips=40)
    scores = np.full(40, 0.3) if lift is None else scores + lift * anomalous
    figures = section_figures(scores, anomalous, domains, 0.0, "")
    assert [figures.auc, *(one.auc for one in figures.domains.values())] == pytest.approx([auc] * 3, abs=1e-12)
    assert figures.pauc == pytest.approx(pauc, abs=1e-12)
    # Nothing varies from resample to resample, so the interval is a point.
    assert figures.auc_interval == pytest.approx((auc, auc), abs=1e-12)
    assert figures.pauc_interval == pytest.approx((pauc, pauc), abs=1e-12)


@pytest.mark.parametrize("lonely", [True, False], ids=["one anomalous clip", "one normal clip"])
def test_a_single_clip_of_a_kind_is_enough(lonely: bool) -> None:
    scores, anomalous = np.array([0.1, 0.2, 0.3, 0.4, 0.25]), np.array([not lonely] * 4 + [lonely])
    figures = section_figures(scores, anomalous, ["source"] * 5, 0.0, "")
    assert figures.auc == 0.5
    low, high = figures.auc_interval
    assert 0.0 <= low < 0.5 < high <= 1.0


def test_two_clips_give_points() -> None:
    figures = section_figures(np.array([0.0, 1.0]), np.array([False, True]), ["source"] * 2, 0.5, "")
    assert figures.auc_interval == figures.domains["source"].auc_interval == (1.0, 1.0)
    assert figures.pauc_interval == pytest.approx((1.0, 1.0))


def test_the_official_score_is_the_harmonic_mean_of_all_of_them() -> None:
    scores, anomalous, domains = some_section()
    one = section_figures(scores, anomalous, domains, 0.0, "")
    two = section_figures(scores**2, anomalous, domains, 0.0, "")
    values = [value for figures in (one, two) for value in (*(d.auc for d in figures.domains.values()), figures.pauc)]
    assert len(values) == 6
    assert official_score([one, two]) == pytest.approx(6 / sum(1 / value for value in values))


def test_the_official_score_is_summed_in_the_evaluators_order() -> None:
    known = [section_figures(*some_section(seed, digits=6), 0.0, "") for seed in range(21)]
    source, target = ([figures.domains[domain].auc for figures in known] for domain in ("source", "target"))
    ordered = np.array([[*source, *target, *(figures.pauc for figures in known)]])
    assert official_score(known) == stats.hmean(ordered, axis=None)
    assert official_score(known) != stats.hmean([value for figures in known for value in figures.official()])


def test_a_zero_counts_as_epsilon() -> None:
    perfectly_wrong = section_figures(np.array([1.0, 0.0]), np.array([False, True]), ["source"] * 2, 0.0, "")
    assert perfectly_wrong.domains["source"].auc == 0.0
    assert 0 < official_score([perfectly_wrong]) == pytest.approx(2 * 2.220446049250313e-16)
    assert 0 < means([0.0, 1.0])[1] == pytest.approx(2 * 2.220446049250313e-16)


def test_means_are_numpys_and_scipys_to_the_last_digit() -> None:
    values = list(np.random.default_rng(0).uniform(0.3, 1.0, size=42))
    arithmetic, harmonic = means(values)
    # The evaluator's array has a row a figure.
    assert arithmetic == np.mean(np.array([values, values]), axis=1)[0]
    assert harmonic == stats.hmean(np.array([values, values]), axis=1)[0]
    assert harmonic == pytest.approx(harmonic_mean(values))


@pytest.mark.parametrize(("anomalous", "kind"), [(True, "anomalous"), (False, "normal")])
def test_one_kind_of_clips_is_an_error_and_not_a_nan(anomalous: bool, kind: str) -> None:
    section = np.arange(4.0), np.array([anomalous] * 4), ["source"] * 4
    with pytest.raises(DataError, match=f"section 03: all 4 test clips are {kind}"):
        section_figures(*section, 0.0, "section 03")
    with pytest.raises(DataError, match=f"section 03: all 4 test clips are {kind}"):
        resampled(*section, "section 03")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_an_error_and_counted(value: float) -> None:
    scores, anomalous, domains = some_section()
    scores[[3, 5]] = value
    with pytest.raises(DataError, match="section 03: 2 of 60 anomaly scores are NaN or infinite"):
        section_figures(scores, anomalous, domains, 0.0, "section 03")


@pytest.mark.parametrize("seed", range(5))
def test_an_interval_holds_its_figure(seed: int) -> None:
    section = some_section(seed, clips=120)
    figures = section_figures(*section, 0.0, "section 00")
    pairs = [(figures.auc, figures.auc_interval), (figures.pauc, figures.pauc_interval)]
    pairs += [(one.auc, one.auc_interval) for one in figures.domains.values()]
    pairs += [(official_score([figures]), official_interval([resampled(*section, "section 00")]))]
    assert len(pairs) == 5
    for value, (low, high) in pairs:
        assert 0 < low < value < high < 1
        assert high - low < 0.3


def test_an_interval_is_the_same_at_every_call_and_another_for_another_section() -> None:
    section = some_section()
    one, again, other = (section_figures(*section, 0.0, name) for name in ("fan 00", "fan 00", "fan 01"))
    assert one == again
    assert one.auc == other.auc
    assert one.auc_interval != other.auc_interval


def test_resamples_that_are_handed_in_are_taken() -> None:
    section = some_section()
    drawn = resampled(*section, "section 01")
    assert section_figures(*section, 0.0, "section 00", drawn) == section_figures(*section, 0.0, "section 01")


def test_sixteen_times_the_clips_make_an_interval_a_quarter_as_wide() -> None:
    few, many = (section_figures(*some_section(clips=clips, digits=6), 0.0, "") for clips in (80, 1280))
    for name in ("auc_interval", "pauc_interval"):
        (low, high), (lower, higher) = getattr(few, name), getattr(many, name)
        assert 2.5 < (high - low) / (higher - lower) < 6.5


def test_clips_are_drawn_within_their_domain_and_label() -> None:
    """With one score a stratum, another drawing than within strata would move the figures."""
    domains = ["source"] * 20 + ["target"] * 20
    anomalous = np.arange(40) % 4 == 0
    scores = anomalous * 1.0 + np.where(np.array(domains) == "target", 1.0, 0.0)  # normal 0 and 1, anomalous 1 and 2
    drawn = resampled(scores, anomalous, domains, "")
    figures = section_figures(scores, anomalous, domains, 0.0, "")
    assert drawn.auc == pytest.approx(np.full(RESAMPLES, figures.auc))
    assert 0.5 < figures.auc < 1
    for domain, aucs in drawn.domains.items():
        assert aucs == pytest.approx(np.full(RESAMPLES, figures.domains[domain].auc))


def test_resamples_are_bootstraps_of_the_sections_clips() -> None:
    """Spread and mean of the AUC against the formula of Hanley and McNeil (1982), which needs no resampling."""
    scores, anomalous, domains = some_section(clips=400, digits=6)
    drawn = resampled(scores, anomalous, domains, "section 00")
    auc = roc_auc_score(anomalous, scores)
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + 199 * (q1 - auc**2) + 199 * (q2 - auc**2)) / 200**2
    assert drawn.auc.mean() == pytest.approx(auc, abs=0.005)
    assert drawn.auc.std() == pytest.approx(np.sqrt(variance), rel=0.1)


def test_many_clips_are_resampled_in_blocks_which_change_nothing_but_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    section = some_section(clips=200)
    at_once = resampled(*section, "")
    monkeypatch.setattr(metrics, "_VALUES_AT_ONCE", 200 * 300)  # 300, 300, 300, 100
    in_blocks = resampled(*section, "")
    assert in_blocks.auc.shape == in_blocks.domains["target"].shape == at_once.auc.shape == (RESAMPLES,)
    assert len(np.unique(in_blocks.auc)) > 300  # the blocks aren't one block again and again
    assert np.percentile(in_blocks.auc, [2.5, 97.5]) == pytest.approx(np.percentile(at_once.auc, [2.5, 97.5]), abs=0.02)


def test_the_official_interval_combines_resample_by_resample() -> None:
    drawn = [resampled(*some_section(seed), f"section {seed:02d}") for seed in range(3)]
    scores = [
        harmonic_mean([float(values[i]) for one in drawn for values in (*one.domains.values(), one.pauc)])
        for i in range(RESAMPLES)
    ]
    assert official_interval(drawn) == pytest.approx(tuple(np.percentile(scores, [2.5, 97.5])))


def test_a_section_of_the_challenges_size_is_quick() -> None:
    section = some_section(clips=200)
    took = []
    for _ in range(3):
        began = time.process_time()
        section_figures(*section, 0.0, "section 00")
        took.append(time.process_time() - began)
    assert min(took) < 0.5


def test_19_of_20_intervals_hold_the_truth() -> None:
    """Normal scores about 0, anomalous ones about 1: the true AUC is known, the true pAUC an integral."""
    true_auc = stats.norm.cdf(1 / np.sqrt(2))
    area, _ = integrate.quad(lambda fpr: stats.norm.cdf(1 + stats.norm.ppf(fpr)), 0, MAX_FPR)
    true_pauc = 0.5 * (1 + (area - MAX_FPR**2 / 2) / (MAX_FPR - MAX_FPR**2 / 2))
    true_score = harmonic_mean([true_auc, true_auc, true_pauc])
    held = []
    for seed in range(120):
        section = some_section(1000 + seed, clips=120, digits=9)
        drawn = resampled(*section, f"section {seed}")
        figures = section_figures(*section, 0.0, f"section {seed}", drawn)
        intervals = (figures.auc_interval, figures.pauc_interval, official_interval([drawn]))
        truths = (true_auc, true_pauc, true_score)
        held.append([low <= truth <= high for truth, (low, high) in zip(truths, intervals, strict=True)])
    for share in np.mean(held, axis=0):
        assert 0.88 <= share <= 0.99


def test_figures_survive_json() -> None:
    figures = section_figures(*some_section(), 0.0, "section 00")
    assert msgspec.json.decode(msgspec.json.encode(figures), type=SectionFigures) == figures
