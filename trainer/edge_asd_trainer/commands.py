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
from edge_asd_trainer import data_commands, threshold_command

if TYPE_CHECKING:
    from edge_asd_trainer.evaluation import Evaluation
    from edge_asd_trainer.jobs import Outcome


def register(line: CommandLine) -> None:
    """Add this room's commands."""
    line.app.command()(train)
    line.app.command()(evaluate)
    line.app.command()(report)
    line.app.command()(threshold_command.threshold)
    line.group("data").command()(data_commands.download)
    line.group("data").command()(data_commands.check)


class SystemName(StrEnum):
    """The paper's systems."""

    system1 = "system1"
    autoencoder = "autoencoder"
    mobilenetv2 = "mobilenetv2"


class Where(StrEnum):
    """Where trainings run."""

    here = "here"
    ray = "ray"


def train(
    data: Annotated[Path, typer.Argument(help="Folder of the data set: DATA/<machine>/train/section_*.wav")],
    machine: Annotated[str, typer.Option(help="Machine type: the name of its folder in DATA; all for every one.")],
    out: Annotated[Path, typer.Option(help="Folder of the run (of the runs, with all); an interrupted one goes on.")],
    preset: Annotated[str, typer.Option(help="paper or vicreg (a GPU), cpu (two cores) or demo (a try).")] = "cpu",
    system: Annotated[
        SystemName | None,
        typer.Option(help="The paper's own, or one of the challenge's baselines.  [default: system1]"),
    ] = None,
    flip: Annotated[
        list[str] | None,
        typer.Option(help="A section, as fan/00, whose scores get the opposite sign (submission 2); repeatable."),
    ] = None,
    bank_size: Annotated[
        int | None, typer.Option(min=1, help="Clips that a section's bank keeps; otherwise as few as lose little.")
    ] = None,
    bank_tolerance: Annotated[
        float | None, typer.Option(help="What a smaller bank may lose, in points of AUC; 0 keeps all.  [default: 0.5]")
    ] = None,
    anomalies: Annotated[
        Path | None, typer.Option(help="Folder of clips of real faults to measure that with; else they are made up.")
    ] = None,
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
    chosen = [] if system is None else [f"system={system.value}"]
    chosen += [] if seed is None else [f"seed={seed}"]
    chosen += [f"detection.flip={flip!r}"] if flip else []
    chosen += [] if bank_size is None else [f"detection.bank_size={bank_size}"]
    chosen += [] if bank_tolerance is None else [f"detection.bank_tolerance={bank_tolerance}"]
    chosen += [] if anomalies is None else [f"detection.anomalies={str(anomalies.resolve())!r}"]
    numbers = load(preset, config, [*(setting or []), *chosen])
    every = machine == "all"
    wanted = [
        jobs.Job(data, name, out / name if every else out, preset, numbers)
        for name in (_machines(data) if every else [machine])
    ]
    for section in numbers.detection.flip:
        if section.split("/")[0] not in {job.machine for job in wanted}:
            raise UsageError(f"--flip {section}: expected a section of {', '.join(job.machine for job in wanted)}.")
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
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs of `edge-asd train`.")],
    ground_truth: Annotated[
        Path | None,
        typer.Option(
            help="Labels of clips whose names don't say them: CSV, or the folder of the challenge's evaluator."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The challenge's files of all runs together, one a machine type, in this folder."),
    ] = None,
    *,
    last: Annotated[bool, typer.Option("--last", help="Score nothing; show what was last found.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Everything that was found, on standard output.")] = False,
) -> None:
    """Score runs' test clips with their bundles, as a device would; write the challenge's CSV files and the reports.

    Several runs are also set side by side: systems, and seeds with mean and deviation.

    Example: edge-asd evaluate runs/fan runs/fan-autoencoder
    """
    with extra("train"):
        from edge_asd_trainer import challenge_files, jobs
        from edge_asd_trainer.evaluation import read
        from edge_asd_trainer.results_table import side_by_side
        from edge_asd_trainer.run_folder import RunFolder
    if last and ground_truth:
        raise UsageError("--last: shows what was found with the labels of then; leave --ground-truth out, or --last.")
    if ground_truth and not ground_truth.exists():
        raise UsageError(f"--ground-truth {ground_truth}: there is no such file or folder.")
    evaluations = []
    for folder in map(RunFolder, runs):
        evaluations.append(read(folder) if last else jobs.evaluated(folder, ground_truth))
        if not json:
            typer.echo(("" if len(evaluations) == 1 else "\n") + _table(evaluations[-1]))
        progress.say(f"files: {folder.evaluation}, report: {folder.report / 'index.html'}")
    if out:
        challenge_files.write(evaluations, out)
        progress.say(f"the challenge's files: {out}")
    if json:
        texts = [(RunFolder(run).evaluation / "evaluation.json").read_text() for run in runs]
        typer.echo(texts[0] if len(texts) == 1 else "[" + ",\n".join(texts) + "]", nl=len(texts) > 1)
    elif len(evaluations) > 1:
        typer.echo("\n" + side_by_side(evaluations))
        _print_summary(evaluations)


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
            typer.echo(_table(outcome.evaluation))
        if outcome.error and several:
            progress.say(f"{outcome.job.machine}: {outcome.error}")
        yield outcome


def _table(evaluation: Evaluation) -> str:
    from edge_asd_trainer.results_table import results_table

    return results_table(evaluation)


def _print_summary(evaluations: list[Evaluation]) -> None:
    from edge_asd_trainer.results_table import summary_table

    machines, systems = ({getattr(one, name) for one in evaluations} for name in ("machine", "system"))
    if len(evaluations) > 1 and len(machines) == len(evaluations) and len(systems) == 1:
        typer.echo(summary_table(evaluations))
