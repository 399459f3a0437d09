"""The commands of the trainer's room. Nothing heavy is imported before one of them is called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asd import progress
from edge_asd.cli import CommandLine
from edge_asd.requirements import extra

if TYPE_CHECKING:
    from edge_asd_trainer.evaluation import Evaluation
    from edge_asd_trainer.run_folder import RunFolder


def register(line: CommandLine) -> None:
    """Add this room's commands."""
    line.app.command()(train)
    line.app.command()(evaluate)
    line.app.command()(report)


def train(
    data: Annotated[Path, typer.Argument(help="Folder of the data set: DATA/<machine>/train/section_*.wav")],
    machine: Annotated[str, typer.Option(help="Machine type: the name of its folder in DATA.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was interrupted goes on there.")],
    preset: Annotated[str, typer.Option(help="paper (a GPU), cpu (two cores) or demo (a try).")] = "cpu",
    config: Annotated[Path | None, typer.Option(help="TOML file, over the preset.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="One number, over both: pretraining.epochs=10; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and pairs; the same seed gives the same bundle.")] = None,
) -> None:
    """Train on a machine's normal clips; ends with a bundle and, where there are test clips, a report.

    Example: edge-asd train plant --machine fan --out runs/fan
    """
    with extra("train"):
        from edge_asd_trainer import pipeline
        from edge_asd_trainer.config import load
        from edge_asd_trainer.run_folder import RunFolder
    options = [*(setting or []), *([] if seed is None else [f"seed={seed}"])]
    folder = RunFolder(out)
    bundle = pipeline.train(data, machine, folder, load(preset, config, options), preset)
    progress.say(f"bundle: {bundle}")
    if pipeline.can_be_evaluated(data, machine):
        _print_table(_evaluated(folder))
        progress.say(f"report: {folder.report / 'index.html'}")
    else:
        progress.say(f"no report: there are no test clips in {data / machine / 'test'}")


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `edge-asd train`.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Everything that was found, on standard output.")] = False,
) -> None:
    """Score a run's test clips with its bundle, as a device would; write the challenge's CSV files and the report.

    Example: edge-asd evaluate runs/fan
    """
    with extra("train"):
        from edge_asd_trainer.run_folder import RunFolder
    folder = RunFolder(run)
    evaluation = _evaluated(folder)
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


def _evaluated(folder: RunFolder) -> Evaluation:
    with extra("train"):
        from edge_asd_trainer import challenge_files
        from edge_asd_trainer import report as reports
        from edge_asd_trainer.evaluation import evaluate as evaluate_run
        from edge_asd_trainer.evaluation import write
    evaluation = evaluate_run(folder)
    write(folder, evaluation)
    challenge_files.write(evaluation, folder.evaluation)
    reports.write(folder, evaluation)
    return evaluation


def _print_table(evaluation: Evaluation) -> None:
    from edge_asd_trainer.results_table import results_table

    typer.echo(results_table(evaluation))
