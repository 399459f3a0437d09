"""The commands of the trainer's room. Nothing heavy is imported before one of them is called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asd import progress
from edge_asd.cli import CommandLine
from edge_asd.errors import DataError, UsageError
from edge_asd.requirements import extra
from edge_asd_trainer import data_commands

if TYPE_CHECKING:
    from edge_asd_trainer.evaluation import Evaluation
    from edge_asd_trainer.jobs import Outcome


def register(line: CommandLine) -> None:
    """Add this room's commands."""
    line.app.command()(train)
    line.app.command()(evaluate)
    line.app.command()(report)
    line.group("data").command()(data_commands.download)
    line.group("data").command()(data_commands.check)


class Where(StrEnum):
    """Where trainings run."""

    here = "here"
    ray = "ray"


def train(
    data: Annotated[Path, typer.Argument(help="Folder of the data set: DATA/<machine>/train/section_*.wav")],
    machine: Annotated[str, typer.Option(help="Machine type: the name of its folder in DATA; all for every one.")],
    out: Annotated[Path, typer.Option(help="Folder of the run (of the runs, with all); an interrupted one goes on.")],
    preset: Annotated[str, typer.Option(help="paper or vicreg (a GPU), cpu (two cores) or demo (a try).")] = "cpu",
    config: Annotated[Path | None, typer.Option(help="TOML file, over the preset.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="One number, over both: pretraining.epochs=10; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and pairs; the same seed gives the same bundle.")] = None,
    on: Annotated[Where, typer.Option(help="here, or ray: a job a machine type on a Ray cluster.")] = Where.here,
) -> None:
    """Train on a machine's normal clips; ends with a bundle and, where there are test clips, a report.

    Example: edge-asd train plant --machine fan --out runs/fan

    Several GPUs: torchrun --nproc-per-node 2 -m edge_asd_trainer train plant --machine fan --out runs/fan
    """
    with extra("train"):
        from edge_asd_trainer import jobs
        from edge_asd_trainer.config import load
        from edge_asd_trainer.distributed import joined
    numbers = load(preset, config, [*(setting or []), *([] if seed is None else [f"seed={seed}"])])
    every = machine == "all"
    wanted = [
        jobs.Job(data, name, out / name if every else out, preset, numbers)
        for name in (_machines(data) if every else [machine])
    ]
    with joined() as group:
        if on is Where.ray and group.size > 1:
            raise UsageError("--on ray: not under torchrun; Ray gives every machine type a process of its own.")
        ended = jobs.on_ray(wanted) if on is Where.ray else jobs.one_by_one(wanted, group)
        outcomes = list(_told(ended, several=len(wanted) > 1))
    _print_summary([outcome.evaluation for outcome in outcomes if outcome.evaluation])
    for outcome in outcomes:
        if outcome.error:
            raise outcome.error


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `edge-asd train`.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Everything that was found, on standard output.")] = False,
) -> None:
    """Score a run's test clips with its bundle, as a device would; write the challenge's CSV files and the report.

    Example: edge-asd evaluate runs/fan
    """
    with extra("train"):
        from edge_asd_trainer import jobs
        from edge_asd_trainer.run_folder import RunFolder
    folder = RunFolder(run)
    evaluation = jobs.evaluated(folder)
    if json:
        typer.echo((folder.evaluation / "evaluation.json").read_text(), nl=False)
    else:
        _print_table(evaluation)
    progress.say(f"files: {folder.evaluation}, report: {folder.report / 'index.html'}")


def report(run: Annotated[Path, typer.Argument(help="Folder of a run that was evaluated.")]) -> None:
    """Draw the report of a run anew from its last evaluation.

    Example: edge-asd report runs/fan
    """
    with extra("train"):
        from edge_asd_trainer import report as reports
        from edge_asd_trainer.evaluation import read
        from edge_asd_trainer.run_folder import RunFolder
    folder = RunFolder(run)
    progress.say(f"report: {reports.write(folder, read(folder))}")


def _machines(data: Path) -> list[str]:
    from edge_asd_trainer.data import machines

    found = machines(data) if data.is_dir() else []
    if not found:
        raise DataError(f"{data}: no machine types there; expected folders like {data / 'fan' / 'train'} with clips.")
    return found


def _told(outcomes: Iterable[Outcome], *, several: bool) -> Iterator[Outcome]:
    """Say how each ended as soon as it did: of several errors only the first would be heard at the end."""
    for outcome in outcomes:
        if outcome.evaluation:
            _print_table(outcome.evaluation)
        if outcome.error and several:
            progress.say(f"{outcome.job.machine}: {outcome.error}")
        yield outcome


def _print_table(evaluation: Evaluation) -> None:
    from edge_asd_trainer.results_table import results_table

    typer.echo(results_table(evaluation))


def _print_summary(evaluations: list[Evaluation]) -> None:
    from edge_asd_trainer.results_table import summary_table

    if len(evaluations) > 1:
        typer.echo(summary_table(evaluations))
