"""The results as plain text: tables of systems, of one system's sections, and of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from edge_asd.clip_name import parse_clip_name
from edge_asd_trainer import published, tables
from edge_asd_trainer.evaluation import Evaluation, SystemResult
from edge_asd_trainer.metrics import SectionFigures, means, official_score
from edge_asd_trainer.parity import Parity

Cells = list[str]


def results_table(evaluation: Evaluation) -> str:
    """Every system, the bundle's sections, the paper's figures where it has any, and int8 against float."""
    line = parity_line(evaluation.parity)
    if not evaluation.systems:
        why = "no section has labelled clips of both kinds, so there are scores and no figures."
        return f"{evaluation.machine}: {why}\n{line}"
    clips = f"{len(evaluation.clips)} test clips"
    title = f"{evaluation.machine}: {clips}, AUC and pAUC in %, the official score: their harmonic mean"
    texts = [
        "\n".join([title, *_aligned(_systems(evaluation.systems)), line]),
        "\n".join([f"{evaluation.systems[0].name}, by section and domain, in %", *_aligned(_sections(evaluation))]),
    ]
    if rows := _published(evaluation):
        texts.append("\n".join(["beside the paper's Tables 2 to 4, harmonic means in %", *_aligned(rows)]))
    return "\n\n".join(texts)


def side_by_side(evaluations: Sequence[Evaluation]) -> str:
    """All systems of several runs, a row each and as mean and deviation over the seeds that they were run with."""
    groups: dict[tuple[str, str], dict[str, list[tuple[Evaluation, SystemResult]]]] = {}
    for evaluation in evaluations:
        systems = groups.setdefault((evaluation.data, evaluation.machine), {})
        for system in evaluation.systems:
            learnt = system in evaluation.systems[:2]
            name = f"{system.name}, {evaluation.preset}" if learnt else system.name
            systems.setdefault(name, []).append((evaluation, system))
    texts = []
    for (data, machine), systems in groups.items():
        header = ["", "seeds", "AUC source", "AUC target", "pAUC", "score", "training s", "bytes", "ms a clip"]
        rows = [header, *(_over_seeds(name, runs) for name, runs in systems.items())]
        title = f"{machine} of {Path(data).name}: harmonic means over the sections in %, mean and deviation over seeds"
        texts.append("\n".join([title, *_aligned(rows)]))
    return "\n\n".join(texts)


def summary_table(evaluations: Sequence[Evaluation]) -> str:
    """The official score of every system, a column a machine type and one over all of them."""
    judged = [evaluation for evaluation in evaluations if evaluation.systems]
    rows = [["", "all", *(evaluation.machine for evaluation in judged)]]
    for systems in zip(*(evaluation.systems for evaluation in judged), strict=True):
        overall = official_score(figures for system in systems for figures in system.sections.values())
        rows.append([systems[0].name, *(tables.percent(score) for score in (overall, *(one.score for one in systems)))])
    title = "harmonic mean of all AUC and pAUC in %, over all machine types and of each"
    return "\n".join([title, *_aligned(rows)])


def parity_line(parity: Parity) -> str:
    """What quantisation costs, as one line."""
    overall, worst = parity.overall, parity.worst
    return (
        f"int8 against float: cosine {_shown(parity.cosine, 4)}, "
        f"rank correlation {_shown(overall.rank_correlation, 4)}, AUC {_shown(overall.auc, 2)} points apart; in single "
        f"sections at worst rank correlation {_shown(worst.rank_correlation, 4)}, AUC {_shown(worst.auc, 2)} points, "
        f"pAUC {_shown(worst.pauc, 2)} points"
    )


def paper_figures(sections: Iterable[SectionFigures]) -> list[float | None]:
    """AUC source, AUC target and pAUC as the paper's tables have them: harmonic means over the sections."""
    known = list(sections)
    columns = [[one.domains[domain].auc for one in known if domain in one.domains] for domain in ("source", "target")]
    return [means(column)[1] if column else None for column in (*columns, [one.pauc for one in known])]


def _systems(systems: Sequence[SystemResult]) -> list[Cells]:
    header = ["", "score", "95 %"]
    for section, figures in sorted(systems[0].sections.items()):
        header += [*(f"{section} {domain}" for domain in figures.domains), f"{section} pAUC"]
    rows = [header]
    for system in systems:
        values = [value for _, section in sorted(system.sections.items()) for value in section.official()]
        rows.append(
            [system.name, tables.percent(system.score), tables.interval(system.interval), *map(tables.percent, values)]
        )
    return rows


def _sections(evaluation: Evaluation) -> list[Cells]:
    """A row a domain of a section, then the means; precision, recall and F1 at the decision threshold."""
    rows = [["section", "domain", "AUC", "95 %", "pAUC", "95 %", "precision", "recall", "F1", "normal", "anomalous"]]
    for section in tables.figures_rows(evaluation):
        for one in section.domains:
            figures = [one.auc.text, one.auc.below, section.pauc.text, section.pauc.below]
            rows.append(
                [section.name, one.domain, *figures, one.precision, one.recall, one.f1, one.normal, one.anomalous]
            )
    return rows


def _over_seeds(name: str, runs: Sequence[tuple[Evaluation, SystemResult]]) -> Cells:
    """One system's row; what doesn't depend on a seed says the same in every run, and is told once."""
    systems = [system for _, system in runs]
    columns = [*zip(*(paper_figures(system.sections.values()) for system in systems), strict=True)]
    columns.append(tuple(system.score for system in systems))
    seeds = sorted({evaluation.seed for evaluation, _ in runs})
    [size, *_] = (system.bundle_bytes for system in systems)
    return [
        name,
        ", ".join(map(str, seeds)) if len(set(columns[-1])) > 1 or len(seeds) == 1 else "any",
        *(_spread(column) for column in columns),
        f"{fmean(system.training_seconds for system in systems):.1f}",
        "-" if size is None else f"{size:,}",
        f"{fmean(system.milliseconds for system in systems):.1f}",
    ]


def _spread(values: Sequence[float | None]) -> str:
    """Mean and sample deviation of several values in %; of equal ones that value."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    if len(set(known)) == 1:
        return f"{known[0]:.1f}"
    return f"{fmean(known):.1f} ± {stdev(known):.1f}"


def _published(evaluation: Evaluation) -> list[Cells]:
    """The paper's systems and ours, on the development set that its figures are of; else nothing."""
    names = [parse_clip_name(clip.file) for clip in evaluation.clips]
    if not published.is_development_set(names, evaluation.machine):
        return []
    rows = [["", "AUC source", "AUC target", "pAUC"]]
    for row in published.rows(evaluation.machine, {one.name: one.sections.values() for one in evaluation.systems}):
        figures = (row.figures.auc_source, row.figures.auc_target, row.figures.pauc)
        rows.append([row.system if row.ours else f"{row.system}, paper", *(f"{figure:.1f}" for figure in figures)])
    return rows


def _aligned(rows: Sequence[Cells]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _shown(value: float | None, digits: int) -> str:
    """A value, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
