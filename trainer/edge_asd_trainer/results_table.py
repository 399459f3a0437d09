"""The results as plain text: a row a system, a column a figure, all in %."""

from __future__ import annotations

from collections.abc import Sequence

from edge_asd_trainer.evaluation import Evaluation, Parity, SystemResult
from edge_asd_trainer.metrics import official_score


def results_table(evaluation: Evaluation) -> str:
    """The table, and the line on int8 against float."""
    line = parity_line(evaluation.parity)
    if not evaluation.systems:
        why = "no section has labelled clips of both kinds, so there are scores and no figures."
        return f"{evaluation.machine}: {why}\n{line}"
    first = evaluation.systems[0]
    header = ["", "score"]
    for section, figures in sorted(first.sections.items()):
        header += [*(f"{section} {domain}" for domain in figures.domains), f"{section} pAUC"]
    rows = [header, *(_row(system) for system in evaluation.systems)]
    title = f"{evaluation.machine}: {len(evaluation.clips)} test clips, AUC and pAUC in %, score: their harmonic mean"
    return "\n".join([title, *_aligned(rows), line])


def summary_table(evaluations: Sequence[Evaluation]) -> str:
    """The official score of every system, a column a machine type and one over all of them."""
    judged = [evaluation for evaluation in evaluations if evaluation.systems]
    rows = [["", "all", *(evaluation.machine for evaluation in judged)]]
    for systems in zip(*(evaluation.systems for evaluation in judged), strict=True):
        overall = official_score(figures for system in systems for figures in system.sections.values())
        rows.append([systems[0].name, *(f"{100 * score:.1f}" for score in (overall, *(one.score for one in systems)))])
    title = "harmonic mean of all AUC and pAUC in %, over all machine types and of each"
    return "\n".join([title, *_aligned(rows)])


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def parity_line(parity: Parity) -> str:
    """What quantisation costs, as one line."""
    overall, worst = parity.overall, parity.worst
    return (
        f"int8 against float: cosine {parity.cosine:.4f}, rank correlation {_shown(overall.rank_correlation, 4)}, "
        f"AUC {_shown(overall.auc, 2)} points apart; in single sections at worst rank correlation "
        f"{_shown(worst.rank_correlation, 4)}, AUC {_shown(worst.auc, 2)} points, pAUC {_shown(worst.pauc, 2)} points"
    )


def _shown(value: float | None, digits: int) -> str:
    """A value, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _row(system: SystemResult) -> list[str]:
    cells = [system.name, f"{100 * system.score:.1f}"]
    for _, figures in sorted(system.sections.items()):
        cells += [f"{100 * value:.1f}" for value in figures.official()]
    return cells
