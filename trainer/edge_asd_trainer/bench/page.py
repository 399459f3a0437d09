"""Rows as a table, on the terminal and between two marks of docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge_asd import files
from edge_asd.errors import UsageError
from edge_asd_trainer.bench.measurement import Effort, Row

HEADER = ("what", "ours", "peer", "peer's", "ratio", "goal", "met")
PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "librosa",
    "kaldi-native-fbank",
    "torchaudio",
    "ai-edge-litert",
    "onnxruntime",
    "scikit-learn",
    "faiss-cpu",
    "tf_keras",
)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [HEADER, ["---"] * len(HEADER), *map(_cells, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def circumstances(effort: Effort) -> str:
    """When and where this was measured: date, processor, cores, versions, and how."""
    versions = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    return f"{machine()}, {versions}; fastest of {effort.repetitions} interleaved repetitions, scale {effort.scale:g}."


def machine() -> str:
    """The date, and on what something is measured."""
    return f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def write(page: Path, name: str, text: str, *, kind: str = "bench") -> None:
    """Put what a measurement found between its marks, in place of what was there; new marks go to the page's end.

    Args:
        page: to write to.
        name: of the measurement, in the marks.
        text: what was found.
        kind: the marks' first word.

    Raises:
        UsageError: there is no such page.
        StorageError: it can't be written.
    """
    try:
        before = page.read_text()
    except OSError as error:
        raise UsageError(
            f"--page {page}: can't be read ({error.strerror}); run this in the project's folder, or name another page."
        ) from error
    begin, end = f"<!-- {kind} {name} -->", f"<!-- end of {kind} {name} -->"
    block = f"{begin}\n{text}{end}"
    marked = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    after, replaced = marked.subn(lambda _: block, before, count=1)
    files.write_text(page, after if replaced else f"{before.rstrip()}\n\n{block}\n")


def _cells(row: Row) -> tuple[str, ...]:
    met = {True: "yes", False: "no", None: ""}[row.met]
    goal = "" if row.goal is None else f"{row.goal:g}"
    figures = [f"{figure:.3g} {row.unit}" for figure in (row.ours, row.theirs)]
    return (row.what, figures[0], row.peer, figures[1], f"{row.ratio:.2f}", goal, met)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
