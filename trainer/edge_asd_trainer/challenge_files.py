"""The challenge's own files (DCASE 2022 Task 2): scores, decisions and results as its evaluator reads them.

One folder holds those of one machine type, or of several as they are submitted together.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from edge_asd import files
from edge_asd.errors import UsageError
from edge_asd_trainer.evaluation import Evaluation
from edge_asd_trainer.metrics import SectionFigures, means
from edge_asd_trainer.run_folder import remove

DOMAINS = ("source", "target")
COLUMNS = [
    *(f"AUC ({domain})" for domain in DOMAINS),
    "pAUC",
    *(f"{figure} ({domain})" for figure in ("precision", "recall", "F1 score") for domain in DOMAINS),
]
MEANS = ("arithmetic mean", "harmonic mean")

Figures = list[float | None]  # in the order of COLUMNS; a domain without normal clips has none


def write(evaluations: Sequence[Evaluation], folder: Path) -> None:
    """Write anomaly_score_*, decision_result_* and, where there are labels, result.csv; earlier ones go first.

    Rows carry the clip's own name; the evaluator pairs them with its ground truth by their order of names.

    Raises:
        UsageError: two evaluations are of the same machine type, whose files would have the same names.
        StorageError: the folder can't be written.
    """
    by_machine = sorted(evaluations, key=lambda evaluation: evaluation.machine)
    for one, other in pairwise(by_machine):
        if one.machine == other.machine:
            raise UsageError(
                f"{folder}: would have the files of {one.machine} twice, from {one.data} and from {other.data}; "
                "the challenge's files name the machine type only, so give one run of each, or another folder."
            )
    remove(folder, "anomaly_score_*_test.csv", "decision_result_*_test.csv", "result.csv")
    for evaluation in by_machine:
        _write_clips(evaluation, folder)
    tables = {
        evaluation.machine: {
            section: _figures(figures) for section, figures in sorted(evaluation.systems[0].sections.items())
        }
        for evaluation in by_machine
        if evaluation.systems
    }
    if tables:
        files.write_text(folder / "result.csv", _csv(_result_rows(tables)))


def _write_clips(evaluation: Evaluation, folder: Path) -> None:
    """Two files a section: a row a clip with its score, from which the same float is read, and one with its verdict."""
    for section in sorted({clip.section for clip in evaluation.clips}):
        clips = [clip for clip in evaluation.clips if clip.section == section]
        threshold = evaluation.thresholds[section]
        suffix = f"{evaluation.machine}_section_{section}_test.csv"
        scores = _csv((clip.file, repr(float(clip.score))) for clip in clips)
        files.write_text(folder / f"anomaly_score_{suffix}", scores)
        decisions = _csv((clip.file, int(clip.score > threshold)) for clip in clips)
        files.write_text(folder / f"decision_result_{suffix}", decisions)


def _result_rows(tables: dict[str, dict[str, Figures]]) -> Iterable[Sequence[object]]:
    """A machine's name, the header, a row a section, the arithmetic and the harmonic mean.

    Of several machine types each is followed by an empty row, and the means over all sections of all of them stand at
    the end, as in the challenge's baseline.

    Args:
        tables: by machine type and section.
    """
    header = ["", *COLUMNS]
    several = len(tables) > 1
    for machine, sections in tables.items():
        yield [machine]
        yield header
        yield from ([section, *map(_cell, figures)] for section, figures in sections.items())
        yield from _mean_rows(sections.values(), "")
        if several:
            yield []
    if several:
        yield header
        everything = [figures for sections in tables.values() for figures in sections.values()]
        yield from _mean_rows(everything, " over all machine types, sections, and domains")
        yield []


def _mean_rows(rows: Iterable[Figures], over: str) -> Iterable[list[object]]:
    """Both means of each column, over the sections that have a figure there."""
    columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    both = zip(*(means(column) if column else (None, None) for column in columns), strict=True)
    return ([f"{name}{over}", *map(_cell, values)] for name, values in zip(MEANS, both, strict=True))


def _cell(value: float | None) -> object:
    """What isn't there leaves its cell empty."""
    return "" if value is None else repr(value)


def _figures(section: SectionFigures) -> Figures:
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
