"""A run a machine type: train, evaluate, report; many of them here, one behind the other, or side by side on Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from edge_asd import progress
from edge_asd.errors import EdgeAsdError, TrainingError, UsageError
from edge_asd.requirements import extra
from edge_asd_trainer import challenge_files, pipeline
from edge_asd_trainer import report as reports
from edge_asd_trainer.config import Config
from edge_asd_trainer.distributed import ALONE, Group, joined
from edge_asd_trainer.evaluation import Evaluation, evaluate, write
from edge_asd_trainer.run_folder import RunFolder


@dataclass(frozen=True)
class Job:
    """What `edge-asd train` does for one machine type: from which clips, into which folder, with which numbers."""

    data: Path
    machine: str
    out: Path
    preset: str
    config: Config


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with an error, or with an evaluation where the data set has test clips."""

    job: Job
    evaluation: Evaluation | None = None
    error: EdgeAsdError | None = None


def one_by_one(jobs: Sequence[Job], group: Group = ALONE) -> Iterator[Outcome]:
    """Do the jobs here, in order; what stops one doesn't stop the next.

    Raises:
        EdgeAsdError: what stopped a job of a group, whose other processes wait for this one: all must end.
    """
    for job in jobs:
        outcome = _outcome(job, group)
        if outcome.error and group.size > 1:
            raise outcome.error
        yield outcome


def on_ray(jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Do the jobs on the Ray cluster that RAY_ADDRESS names, or on one of this machine's own; as they end.

    Every node must have edge-asd installed and see the same folders. A job takes a GPU where the cluster has some, and
    `compute.threads` processors, or its part of all.

    Raises:
        MissingRequirement: Ray isn't installed.
        UsageError: no cluster answers at RAY_ADDRESS.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with extra("ray"):
        import ray

    address = os.environ.get("RAY_ADDRESS", "local")
    try:
        ray.init(address=address, include_dashboard=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({error}); start one with `ray start --head`, or "
            "unset it for one of this machine's own."
        ) from error
    try:
        cluster, nodes = ray.cluster_resources(), ray.nodes()  # type: ignore[no-untyped-call]
        fair = max(1, int(cluster.get("CPU", 1)) // len(jobs))
        most = max(int(node["Resources"].get("CPU", 1)) for node in nodes if node["Alive"])  # that a job can wait for
        waiting = {
            ray.remote(_outcome_on_a_node)
            .options(
                num_cpus=min(job.config.compute.threads or fair, most),
                num_gpus=min(1, cluster.get("GPU", 0)),
                max_retries=0,
            )
            .remote(replace(job, data=job.data.resolve(), out=job.out.resolve())): job
            for job in jobs
        }
        while waiting:
            [done], _ = ray.wait(list(waiting))
            job = waiting.pop(done)
            try:
                outcome: Outcome = ray.get(done)
            except ray.exceptions.RayError as error:
                *_, why = str(error).strip().splitlines()
                outcome = Outcome(job, error=TrainingError(f"{job.machine}: its process on Ray was ended: {why}"))
            yield outcome
    finally:
        ray.shutdown()


def evaluated(folder: RunFolder, ground_truth: Path | None = None) -> Evaluation:
    """Evaluate a run; write the challenge's files and the report. Labels may come from `ground_truth`."""
    evaluation = evaluate(folder, ground_truth)
    write(folder, evaluation)
    challenge_files.write([evaluation], folder.evaluation)
    reports.write(folder, evaluation)
    return evaluation


def _outcome_on_a_node(job: Job) -> Outcome:
    with joined() as group:
        return _outcome(job, group)


def _outcome(job: Job, group: Group = ALONE) -> Outcome:
    try:
        return Outcome(job, _done(job, group))
    except EdgeAsdError as error:
        return Outcome(job, error=error)


def _done(job: Job, group: Group) -> Evaluation | None:
    folder = RunFolder(job.out)
    with folder.taken() if group.leads else nullcontext():
        bundle = pipeline.train(job.data, job.machine, folder, job.config, job.preset, group)
        if bundle is None:
            return None
        progress.say(f"bundle: {bundle}")
        if not pipeline.can_be_evaluated(job.data, job.machine):
            progress.say(f"no report: there are no test clips in {job.data / job.machine / 'test'}")
            return None
        evaluation = evaluated(folder)
        progress.say(f"report: {folder.report / 'index.html'}")
        return evaluation
