"""What the tables of the report and of the command line say: every figure in them is formatted here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge_asd.bundle import Bundle
from edge_asd_trainer.evaluation import Evaluation, SystemResult
from edge_asd_trainer.metrics import DomainFigures, means

NONE = "-"
DOMAINS = ("source", "target")


@dataclass(frozen=True)
class Cell:
    """A number as text, and what stands below it: its interval."""

    text: str
    below: str = ""


@dataclass(frozen=True)
class DomainRow:
    """One domain of a section, or a mean over the sections.

    Attributes:
        domain: its name.
        auc, precision, recall, f1: its figures in %.
        normal, anomalous: how many test clips it has.
    """

    domain: str
    auc: Cell
    precision: str
    recall: str
    f1: str
    normal: str = ""
    anomalous: str = ""


@dataclass(frozen=True)
class SectionRows:
    """A section, or a mean over the sections: its pAUC in %, and a row a domain."""

    name: str
    pauc: Cell
    domains: list[DomainRow]


@dataclass(frozen=True)
class TrainedSection:
    """What a section was trained on, and what was found to be its thresholds."""

    name: str
    source: int
    target: int
    decision: str
    alarm: str
    flipped: bool


def trained_sections(bundle: Bundle) -> list[TrainedSection]:
    """The sections of a bundle, with the training clips of each."""
    return [
        TrainedSection(
            name=section,
            source=stated.source_clips,
            target=stated.target_clips,
            decision=f"{stated.thresholds.decision:.4g}",
            alarm=f"{stated.thresholds.alarm:.4g}",
            flipped=stated.flipped,
        )
        for section, stated in sorted(bundle.manifest.sections.items())
    ]


def results_header(first: SystemResult) -> list[str]:
    """The columns of the table of all systems."""
    header = ["system", "score", "training, s", "bytes", "ms a clip"]
    for section, figures in sorted(first.sections.items()):
        header += [*(f"{section} {domain}" for domain in figures.domains), f"{section} pAUC"]
    return header


def results_rows(systems: Sequence[SystemResult]) -> list[list[Cell]]:
    """A row a system, in the order of `results_header`."""
    return [
        [
            Cell(system.name),
            Cell(percent(system.score), interval(system.interval)),
            Cell(_short(system.training_seconds)),
            Cell(NONE if system.bundle_bytes is None else f"{system.bundle_bytes:,}"),
            Cell(_short(system.milliseconds)),
            *(Cell(percent(value)) for _, figures in sorted(system.sections.items()) for value in figures.official()),
        ]
        for system in systems
    ]


def figures_rows(evaluation: Evaluation) -> list[SectionRows]:
    """Every section of the bundle's system, then the means over them: the numbers of the challenge's result.csv."""
    sections = evaluation.systems[0].sections
    rows = [
        SectionRows(
            section,
            Cell(percent(figures.pauc), interval(figures.pauc_interval)),
            [
                DomainRow(
                    domain=domain,
                    auc=Cell(percent(one.auc), interval(one.auc_interval)),
                    precision=percent(one.precision),
                    recall=percent(one.recall),
                    f1=percent(one.f1),
                    normal=str(one.normal),
                    anomalous=str(one.anomalous),
                )
                for domain, one in figures.domains.items()
            ],
        )
        for section, figures in sorted(sections.items())
    ]
    by_domain = {
        domain: [figures.domains[domain] for figures in sections.values() if domain in figures.domains]
        for domain in DOMAINS
    }
    paucs = [figures.pauc for figures in sections.values()]
    for which, name in enumerate(("arithmetic mean", "harmonic mean")):
        rows.append(
            SectionRows(
                name,
                Cell(percent(means(paucs)[which])),
                [_mean_row(domain, figures, which) for domain, figures in by_domain.items() if figures],
            )
        )
    return rows


def _mean_row(domain: str, figures: Sequence[DomainFigures], which: int) -> DomainRow:
    def mean(values: Iterable[float]) -> str:
        return percent(means(list(values))[which])

    return DomainRow(
        domain=domain,
        auc=Cell(mean(one.auc for one in figures)),
        precision=mean(one.precision for one in figures),
        recall=mean(one.recall for one in figures),
        f1=mean(one.f1 for one in figures),
    )


def percent(value: float) -> str:
    """A share in %."""
    return f"{100 * value:.1f}"


def interval(ends: tuple[float, float]) -> str:
    """Both ends in %."""
    low, high = ends
    return f"{percent(low)} to {percent(high)}"


def _short(value: float) -> str:
    """Two digits at least: 1,234 or 12 or 1.2 or 0.012."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
