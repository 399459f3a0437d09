"""The results as plain text: a row a system, a column a figure, all in %."""

from __future__ import annotations

from edge_asd_trainer.evaluation import Evaluation, SystemResult


def results_table(evaluation: Evaluation) -> str:
    """The table, and the line on int8 against float."""
    parity = evaluation.parity
    line = (
        f"int8 against float: cosine {parity.cosine:.4f}, rank correlation {shown(parity.rank_correlation)}, "
        f"largest difference of an AUC or pAUC {parity.auc_difference:.2f} points"
    )
    if not evaluation.systems:
        why = "no section has labelled clips of both kinds, so there are scores and no figures."
        return f"{evaluation.machine}: {why}\n{line}"
    first = evaluation.systems[0]
    header = ["", "score"]
    for section, figures in sorted(first.sections.items()):
        header += [*(f"{section} {domain}" for domain in figures.domains), f"{section} pAUC"]
    rows = [header, *(_row(system) for system in evaluation.systems)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    text = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    title = f"{evaluation.machine}: {len(evaluation.clips)} test clips, AUC and pAUC in %, score: their harmonic mean"
    return "\n".join([title, *text, line])


def shown(value: float | None) -> str:
    """Four digits, or a dash where there is no value."""
    return "-" if value is None else f"{value:.4f}"


def _row(system: SystemResult) -> list[str]:
    cells = [system.name, f"{100 * system.score:.1f}"]
    for _, figures in sorted(system.sections.items()):
        cells += [f"{100 * value:.1f}" for value in figures.official()]
    return cells
