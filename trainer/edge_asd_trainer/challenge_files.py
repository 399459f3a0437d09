"""The challenge's own files (DCASE 2022 Task 2): scores, decisions and results as its evaluator reads them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from edge_asd import files
from edge_asd_trainer.evaluation import Evaluation, SystemResult
from edge_asd_trainer.metrics import SectionFigures, means
from edge_asd_trainer.run_folder import remove

DOMAINS = ("source", "target")
COLUMNS = [
    *(f"AUC ({domain})" for domain in DOMAINS),
    "pAUC",
    *(f"{figure} ({domain})" for figure in ("precision", "recall", "F1 score") for domain in DOMAINS),
]


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write anomaly_score_*, decision_result_* and, where there are labels, result.csv; earlier ones go first.

    Raises:
        StorageError: the folder can't be written.
    """
    remove(folder, "anomaly_score_*_test.csv", "decision_result_*_test.csv", "result.csv")
    for section in sorted({clip.section for clip in evaluation.clips}):
        clips = [clip for clip in evaluation.clips if clip.section == section]
        suffix = f"{evaluation.machine}_section_{section}_test.csv"
        files.write_text(folder / f"anomaly_score_{suffix}", _csv((clip.file, clip.score) for clip in clips))
        threshold = evaluation.thresholds[section]
        files.write_text(
            folder / f"decision_result_{suffix}", _csv((clip.file, int(clip.score > threshold)) for clip in clips)
        )
    if evaluation.systems:
        files.write_text(folder / "result.csv", _csv(_result_rows(evaluation.machine, evaluation.systems[0])))


def _result_rows(machine: str, system: SystemResult) -> list[list[object]]:
    """A machine's name, the header, a row a section, the arithmetic and the harmonic mean."""
    rows = {name: _figures(figures) for name, figures in sorted(system.sections.items())}
    columns = [[value for value in column if value is not None] for column in zip(*rows.values(), strict=True)]
    arithmetic, harmonic = zip(*(means(column) if column else (None, None) for column in columns), strict=True)
    table = {**rows, "arithmetic mean": list(arithmetic), "harmonic mean": list(harmonic)}
    return [[machine], ["", *COLUMNS], *([name, *map(_cell, values)] for name, values in table.items())]


def _cell(value: float | None) -> object:
    """A domain that has no clips leaves its cell empty."""
    return "" if value is None else value


def _figures(section: SectionFigures) -> list[float | None]:
    """One section's figures, in the order of COLUMNS."""
    domains = [section.domains.get(domain) for domain in DOMAINS]
    return [
        *(None if domain is None else domain.auc for domain in domains),
        section.pauc,
        *(None if domain is None else domain.precision for domain in domains),
        *(None if domain is None else domain.recall for domain in domains),
        *(None if domain is None else domain.f1 for domain in domains),
    ]


def _csv(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
