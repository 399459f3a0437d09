"""`python -m edge_asd_trainer.bench`, or `make bench`: measure, print tables and keep them in docs/benchmarks.md."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_asd import progress
from edge_asd.errors import EdgeAsdError, UsageError
from edge_asd_trainer.bench import page as pages
from edge_asd_trainer.bench.catalogue import MEASUREMENTS, measurement
from edge_asd_trainer.bench.measurement import Effort


def bench(
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(MEASUREMENTS)}; else all.")] = None,
    repetitions: Annotated[int, typer.Option(min=1, help="Of everything; the fastest counts.")] = 5,
    scale: Annotated[float, typer.Option(min=0.01, help="Of the amount of data.")] = 1.0,
    page: Annotated[Path, typer.Option(help="Where the tables are kept.")] = Path("docs/benchmarks.md"),
) -> None:
    """Measure ours beside its peers, in one run on this machine."""
    if only is not None and only not in MEASUREMENTS:
        raise UsageError(f"--only {only}: there is no such measurement; there are {', '.join(MEASUREMENTS)}.")
    effort = Effort(repetitions, scale)
    for name in MEASUREMENTS if only is None else [only]:
        progress.say(f"measuring {name}")
        measure = measurement(name)
        rows = pages.table(measure(effort))
        typer.echo(rows)
        pages.write(page, name, f"{inspect.getdoc(measure)}\n\n{rows}\n{pages.circumstances(effort)}\n")


def main() -> None:
    """Run it; an error of ours is one line on standard error and its branch's exit code."""
    try:
        typer.run(bench)
    except EdgeAsdError as error:
        sys.stderr.write(f"bench: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
