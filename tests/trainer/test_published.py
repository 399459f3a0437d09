"""The paper's tables as data: held against the totals they state, and laid beside ours on the same clips only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from statistics import harmonic_mean

import pytest

from edge_asd.clip_name import ClipName, Domain, Label
from edge_asd_trainer.metrics import DomainFigures, SectionFigures
from edge_asd_trainer.published import MACHINES, PAPER, TOTAL, HarmonicMeans, is_development_set, rows

KINDS = list(product(("normal", "anomaly"), ("source", "target")))


def names(sections: Iterable[str] = ("00", "01", "02"), each: int = 50) -> list[ClipName]:
    """Test clips as the development set has them: as many of each label and domain in every section."""
    return [ClipName(section, domain, label) for section in sections for label, domain in KINDS for _ in range(each)]


def figures(source: float, target: float, pauc: float) -> SectionFigures:
    def one(auc: float) -> DomainFigures:
        return DomainFigures(auc, (0.0, 1.0), 0.5, 0.5, 0.5, 50, 50)

    domains = {"source": one(source), "target": one(target)}
    return SectionFigures(domains, 0.5, (0.0, 1.0), pauc, (0.0, 1.0), 100, 100)


# As the paper prints them.
TABLES = {
    "auc_source": """
        Auto-Encoder Baseline 90.41 76.32 54.42 78.59 68.93 77.95 52.01 68.84
        MobileNetV2 baseline  59.12 57.26 60.58 70.75 69.21 65.15 67.09 64.73
        System 1              93.26 84.93 66.96 83.38 88.95 94.5  85.1  84.35
    """,
    "auc_target": """
        Auto-Encoder Baseline 34.81 23.35 58.38 47.18 62.64 47.67 49.46 42.27
        MobileNetV2 baseline  51.96 45.90 59.94 48.22 56.19 38.23 57.22 51.06
        System 1              81.73 43.4  82.87 76.73 82.74 67.35 81.96 70.34
    """,
    "pauc": """
        Auto-Encoder Baseline 52.74 50.48 51.98 57.52 58.49 55.78 50.36 53.38
        MobileNetV2 baseline  52.27 51.52 57.14 56.9  56.03 54.67 62.42 55.8
        System 1              68.34 53.88 64.75 70.76 71.23 68.92 71.66 66.48
    """,
}


@pytest.mark.parametrize("figure", TABLES)
def test_the_tables_are_the_papers(figure: str) -> None:
    lines = TABLES[figure].strip().splitlines()
    for system, line in zip(("autoencoder", "mobilenetv2", "system1"), lines, strict=True):
        assert list(PAPER[system]) == [*MACHINES, TOTAL]
        assert [getattr(row, figure) for row in PAPER[system].values()] == [float(cell) for cell in line.split()[-8:]]


@pytest.mark.parametrize("figure", TABLES)
def test_system_1s_totals_are_harmonic_means_and_the_baselines_are_near(figure: str) -> None:
    for system, within in (("system1", 0.02), ("autoencoder", 1.1), ("mobilenetv2", 1.1)):
        row = [getattr(PAPER[system][machine], figure) for machine in MACHINES]
        assert harmonic_mean(row) == pytest.approx(getattr(PAPER[system][TOTAL], figure), abs=within)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_development_set_is_recognised_whatever_the_order_of_its_clips(machine: str) -> None:
    assert is_development_set(names(), machine)
    assert is_development_set(names()[::-1], machine)


def without(label: Label | None, domain: Domain) -> list[ClipName]:
    """The development set, all clips of one kind in section 01 called something else."""
    other: Domain = "target" if domain == "source" else "source"
    return [
        replace(name, domain=other)
        if (name.section, name.domain) == ("01", domain) and label in (None, name.label)
        else name
        for name in names()
    ]


@pytest.mark.parametrize(
    "other",
    [
        [],
        names(("00", "01")),
        names(("03", "04", "05")),
        names(("00", "01", "02", "03")),
        names(each=49),
        names()[1:],
        [*names(), ClipName("00", None, None)],
        [*names()[1:], replace(names()[0], label="anomaly")],
        [*names()[1:], replace(names()[0], label=None)],
        without(None, "target"),
        without("normal", "target"),
        without("anomaly", "source"),
    ],
    ids=lambda other: f"{len(other)} clips",
)
def test_other_clips_are_not_the_development_set(other: list[ClipName]) -> None:
    assert not is_development_set(other, "fan")


def test_another_machine_type_is_not_of_the_development_set() -> None:
    assert not is_development_set(names(), "pump")
    assert not is_development_set(names(), TOTAL)


def test_ours_stand_below_the_papers_three_as_harmonic_means_in_percent() -> None:
    ours = {"int8": [figures(0.5, 1.0, 0.6), figures(1.0, 1.0, 0.6)], "float": [figures(0.9, 0.8, 0.0)]}
    table = rows("slider", ours)
    assert [(row.system, row.ours) for row in table] == [
        ("System 1", False),
        ("autoencoder baseline", False),
        ("MobileNetV2 baseline", False),
        ("int8", True),
        ("float", True),
    ]
    assert table[0].figures == HarmonicMeans(94.5, 67.35, 68.92)
    assert table[1].figures == HarmonicMeans(77.95, 47.67, 55.78)
    int8, floating = (row.figures for row in table[3:])
    assert (int8.auc_source, int8.auc_target, int8.pauc) == pytest.approx((100 * 2 / 3, 100.0, 60.0))
    assert (floating.auc_source, floating.auc_target) == pytest.approx((90.0, 80.0))
    assert 0 < floating.pauc < 1e-12  # a zero counts as epsilon
