"""What the paper reports on DCASE 2022's development set, to stand beside what is measured here.

The numbers are Tables 2 to 4 of Nejjar et al., "DCASE Challenge 2022: self-supervised learning pre-training, training
for unsupervised anomalous sound detection": harmonic means over a machine type's sections, in %. The baselines' rows
it takes from the challenge's organisers; their totals lie up to 1.1 points beside the harmonic means of their rows,
System 1's are them. Nothing but the same test clips compares with any of it, see `is_development_set`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_asd.clip_name import ClipName
from edge_asd.systems import System
from edge_asd_trainer.metrics import SectionFigures, means
from edge_asd_trainer.systems import SYSTEMS

MACHINES = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
TOTAL = "total"
DOMAINS = ("source", "target")

SECTIONS = ("00", "01", "02")
CLIPS_OF_A_KIND = 100  # in each section: as many normal as anomalous ones

# In the tables' order: seven machine types and the total.
_AUC_SOURCE: Mapping[System, tuple[float, ...]] = {
    "autoencoder": (90.41, 76.32, 54.42, 78.59, 68.93, 77.95, 52.01, 68.84),
    "mobilenetv2": (59.12, 57.26, 60.58, 70.75, 69.21, 65.15, 67.09, 64.73),
    "system1": (93.26, 84.93, 66.96, 83.38, 88.95, 94.5, 85.1, 84.35),
}
_AUC_TARGET: Mapping[System, tuple[float, ...]] = {
    "autoencoder": (34.81, 23.35, 58.38, 47.18, 62.64, 47.67, 49.46, 42.27),
    "mobilenetv2": (51.96, 45.90, 59.94, 48.22, 56.19, 38.23, 57.22, 51.06),
    "system1": (81.73, 43.4, 82.87, 76.73, 82.74, 67.35, 81.96, 70.34),
}
_PAUC: Mapping[System, tuple[float, ...]] = {
    "autoencoder": (52.74, 50.48, 51.98, 57.52, 58.49, 55.78, 50.36, 53.38),
    "mobilenetv2": (52.27, 51.52, 57.14, 56.9, 56.03, 54.67, 62.42, 55.8),
    "system1": (68.34, 53.88, 64.75, 70.76, 71.23, 68.92, 71.66, 66.48),
}


@dataclass(frozen=True)
class HarmonicMeans:
    """A row of Tables 2, 3 and 4 for one machine type: harmonic means over its sections, in %."""

    auc_source: float
    auc_target: float
    pauc: float


@dataclass(frozen=True)
class Row:
    """One system's figures in a comparison; `ours` tells what was measured here from what the paper reports."""

    system: str
    ours: bool
    figures: HarmonicMeans


# By system and machine type, TOTAL among the latter.
PAPER: Mapping[System, Mapping[str, HarmonicMeans]] = {
    system: {
        machine: HarmonicMeans(*values)
        for machine, *values in zip(
            (*MACHINES, TOTAL), _AUC_SOURCE[system], _AUC_TARGET[system], _PAUC[system], strict=True
        )
    }
    for system in ("system1", "autoencoder", "mobilenetv2")
}


def is_development_set(names: Sequence[ClipName], machine: str) -> bool:
    """Whether test clips are those of DCASE 2022's development set, which the paper's figures are of.

    They are when the machine type is one of its seven and the sections are 00, 01 and 02, each of 100 normal and 100
    anomalous clips, with both domains in either kind. (Other clips of such names and numbers can't be told from them.)
    """
    kinds = Counter((name.section, name.label) for name in names)
    wanted = {(section, label): CLIPS_OF_A_KIND for section in SECTIONS for label in ("normal", "anomaly")}
    domains = {(name.section, name.label, name.domain) for name in names}
    return machine in MACHINES and kinds == wanted and domains == {(*kind, one) for kind in wanted for one in DOMAINS}


def harmonic_means(sections: Iterable[SectionFigures]) -> HarmonicMeans:
    """The figures of one system as the paper's tables have them, of sections with both domains each."""
    known = list(sections)
    columns = [[section.domains[domain].auc for section in known] for domain in DOMAINS]
    return HarmonicMeans(*(100 * means(column)[1] for column in (*columns, [section.pauc for section in known])))


def rows(machine: str, ours: Mapping[str, Iterable[SectionFigures]]) -> list[Row]:
    """The paper's three systems on one machine type, then ours, in their order: one row each, to be printed as a table.

    Args:
        machine: one of MACHINES, whose development set was evaluated on.
        ours: by the system's name the figures of its sections.
    """
    published = [Row(SYSTEMS[system].title, False, figures[machine]) for system, figures in PAPER.items()]
    return [*published, *(Row(name, True, harmonic_means(sections)) for name, sections in ours.items())]
