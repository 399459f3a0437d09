"""What a check found, as plain text: a line a finding, then a table of what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from edge_asd_trainer.data.check import MachineReport, Report, SectionRow

MOST_OF_A_KIND = 10  # lines; a whole day recorded too loud needs no thousand

TESTED = ("test normal", "test anomaly", "test unlabelled")
HEADER = ("machine", "section", "domain", "train", *TESTED, "minutes", "Hz", "channels")


def as_text(report: Report) -> str:
    """The findings, the table, and the verdict."""
    findings = [line for machine in report.machines for line in _findings(machine)]
    return "\n".join([*findings, *([""] if findings else []), *_table(report), "", verdict(report)])


def verdict(report: Report) -> str:
    """One line: how many errors and warnings, and what that means."""
    counts = f"{_number(report.errors, 'error')}, {_number(report.warnings, 'warning')}"
    if report.errors:
        return f"{counts}: training would refuse this."
    return f"{counts}: training can begin" + (", but look at the warnings first." if report.warnings else ".")


def _findings(machine: MachineReport) -> Iterator[str]:
    totals = Counter(finding.kind for finding in machine.findings)
    shown: Counter[str] = Counter()
    for finding in machine.findings:
        shown[finding.kind] += 1
        if shown[finding.kind] <= MOST_OF_A_KIND:
            yield f"{finding.severity}: {finding.place}: {finding.message}"
        elif shown[finding.kind] == totals[finding.kind]:
            more = totals[finding.kind] - MOST_OF_A_KIND
            yield f"{finding.severity}: {machine.machine}: {more} more like these; --json names them all."


def _table(report: Report) -> Iterator[str]:
    rows = [HEADER, *(_cells(machine.machine, row) for machine in report.machines for row in machine.sections)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        words = [cell.ljust(width) for cell, width in islice(cells, 3)]
        yield "  ".join([*words, *(cell.rjust(width) for cell, width in cells)])


def _cells(machine: str, row: SectionRow) -> tuple[str, ...]:
    counts = (row.train, row.test_normal, row.test_anomaly, row.test_unlabelled)
    return (
        machine,
        row.section,
        row.domain,
        *(str(count) if count else "-" for count in counts),
        f"{row.seconds / 60:.1f}",
        "/".join(map(str, row.sample_rates)) or "-",
        "/".join(map(str, row.channels)) or "-",
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
