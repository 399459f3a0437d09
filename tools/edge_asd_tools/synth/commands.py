"""`edge-asd data synth`: the command. The project's command line registers it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edge_asd import progress
from edge_asd.errors import UsageError


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist, or be empty.")],
    machines: Annotated[str, typer.Option(help="Machine types, separated by commas.")] = "fan,gearbox",
    sections: Annotated[int, typer.Option(help="Sections (units) of each machine type, 1 to 6.")] = 3,
    train_clips: Annotated[int, typer.Option(help="Normal source clips for training, per section.")] = 40,
    target_clips: Annotated[int, typer.Option(help="Normal target clips for training, per section.")] = 4,
    test_clips: Annotated[int, typer.Option(help="Clips for testing, per section; a multiple of 4.")] = 20,
    seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 10.0,
    recording_seconds: Annotated[float, typer.Option(help="Length of a recording in which a fault begins.")] = 90.0,
    fault_at: Annotated[float, typer.Option(help="Second of the recording at which the fault begins.")] = 45.0,
    seed: Annotated[int, typer.Option(help="Of everything that is random; the same seed gives the same files.")] = 0,
    jobs: Annotated[int | None, typer.Option(help="Processes; by default one for each processor.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is a synthetic plant.")] = False,
) -> None:
    """Synthesise a small plant in the layout of DCASE 2022 Task 2.

    Fans and gearboxes with several units each, normal and broken, in a source and a target domain, and one recording
    of each type in which a fault begins. For trying things out and for tests: results on it say nothing about
    results on real machines.

    Example: edge-asd data synth plant --machines fan --sections 2 --seed 7
    """
    from edge_asd_tools.synth.plant import Plan
    from edge_asd_tools.synth.writing import write_plant

    plan = Plan(
        tuple(name.strip() for name in machines.split(",") if name.strip()),
        sections,
        train_clips,
        target_clips,
        test_clips,
        seconds,
        recording_seconds,
        fault_at,
        seed,
    )
    processes = (os.cpu_count() or 1) if jobs is None else jobs
    if processes < 1:
        raise UsageError(f"--jobs: found {jobs}; expected 1 or more.")
    number = len(list(plan.clips()))
    with progress.bar("synthesis", number + len(plan.machines)) as bar:
        write_plant(plan, out, processes, force, bar.advance)
    typer.echo(f"{out}: {number} clips and {len(plan.machines)} recordings, synthetic (seed {plan.seed}).")
