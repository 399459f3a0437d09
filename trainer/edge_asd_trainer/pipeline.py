"""`edge-asd train`: from a folder of clips to a bundle, stage by stage, in the paper's order.

    features  ->  pre-training  ->  fine-tuning  ->  export  ->  detection: bank, thresholds, bundle

The challenge's baselines have one training in the place of two, and no bank (`systems`, `baselines/`).

Every stage writes its result into the run's folder and is skipped when that result is there and was made from the
same inputs; the two trainings keep checkpoints besides. So an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from msgspec import structs

from edge_asd import __version__, files, progress, systems
from edge_asd import bundle as bundles
from edge_asd.bundle import Bundle
from edge_asd.errors import ConfigError, DataError, UsageError
from edge_asd.manifest import NAME
from edge_asd.model import InputScaling, TFLiteModel
from edge_asd_trainer import made
from edge_asd_trainer.checkpoint import Checkpoint
from edge_asd_trainer.compaction import anomalous_clips, compact
from edge_asd_trainer.config import Compute, Config, fingerprint
from edge_asd_trainer.data import evaluation_clips, training_clips
from edge_asd_trainer.descent import Engine
from edge_asd_trainer.detection import detect, embed_clips
from edge_asd_trainer.distributed import ALONE, Group
from edge_asd_trainer.export import FloatModel, to_onnx, to_tflite
from edge_asd_trainer.features import LogMels, log_mels
from edge_asd_trainer.memory import keep_freed
from edge_asd_trainer.packing import mean_cosine, pack
from edge_asd_trainer.pairs import PairSampler
from edge_asd_trainer.recipe import System, Task
from edge_asd_trainer.run_folder import Provenance, RunFolder, remove, write_json
from edge_asd_trainer.stages import Stages
from edge_asd_trainer.systems import SYSTEMS
from edge_asd_trainer.training_log import TrainingLog


def train(
    data: Path, machine: str, folder: RunFolder, config: Config, preset: str, group: Group = ALONE
) -> Path | None:
    """Train one of the paper's systems on a machine type's normal clips and write its bundle.

    Args:
        data: folder of the data set.
        machine: the machine type, a folder in it.
        folder: of the run.
        config: every number.
        preset: from which the configuration began, to be noted down.
        group: of processes that share the training; they must all see the same folders.

    Returns:
        The bundle's path; None in a process that doesn't lead its group.

    Raises:
        UsageError: the machine's name can't go into a bundle.
        DataError: anomalies were given, and can't be used.
        ConfigError: a batch can't be shared out among the group's processes, a section to be flipped isn't there, or
            SOURCE_DATE_EPOCH is no moment.
        DataError, ClipError, ClipNameError: the clips can't be used; nothing was written but the features' cache.
        TrainingError: training diverged or collapsed, or export failed.
        StorageError: the run's folder can't be written.
    """
    if not NAME.fullmatch(machine):
        raise UsageError(f"--machine {machine!r}: the name goes into the bundle; it is 1 to 32 of 0-9 A-Z a-z _ -.")
    stated = made.stated()
    system = SYSTEMS[config.system]
    for table in system.tables:
        group.share(getattr(config, table).batch, f"{table}.batch")
    clips = training_clips(data, machine)
    sections = {clip.name.section for clip in clips}
    _check_flips(config, machine, sections)
    evaluation_clips(data, machine, sections)  # better refused now than after training
    with group.first():
        windows = system.training_windows(config)
        train_set = log_mels(clips, config.front_end, windows, folder.features("train"), config.features.front_end)
        anomalies = anomalous_clips(config, sections, folder)
        task = Task(train_set, anomalies, input_scaling(train_set, system, config), folder, config)
        trainings = system.trainings(task)
        if group.leads:
            write_json(folder.provenance, Provenance(str(data.resolve()), machine, preset))
            folder.write_config(config)

    prepare_torch(config)
    kind = torch.device(group.device).type
    compute = structs.replace(config.compute, precision=precision(config.compute, kind))
    if config.system != "system1":
        compute = structs.replace(compute, precision="float32")  # as the challenge's; dB as they are need it
    numerics = (compute.threads, compute.precision, compute.compile, kind)
    key = (train_set.fingerprint, config.seed, numerics, windows, task.scaling, config.network)
    detected_from = (config, machine, anomalies.fingerprint if anomalies else "")
    if group.leads:
        moment = made.moment(folder, fingerprint(__version__, *key, *detected_from), stated)
    stages = Stages(folder, *key, group=group)

    def engine(stage: str, key: str) -> Engine:
        checkpoint = Checkpoint(folder.checkpoint(stage), key, config.compute.checkpoint_seconds)
        return Engine(group, compute, checkpoint, TrainingLog(folder.log(stage), folder.tensorboard(stage)))

    for training in trainings:
        stages.stage(
            training.name,
            [training.result],
            lambda key, training=training: training.work(engine(training.name, key)),  # type: ignore[misc]
            training.numbers,
        )
    if not group.leads:
        return None
    for training in trainings:  # no earlier: until a stage is marked as done, it goes on from there
        remove(folder.checkpoint(training.name).parent, folder.checkpoint(training.name).name)
    stages.stage("export", [folder.onnx, folder.tflite], lambda _: _export(task, system), config.quantisation)
    path = folder.bundle(machine)
    stages.stage(
        "detection",
        [path],
        lambda _: bundles.write(path, _detection(task, system, machine, moment)),
        *detected_from,
        moment,
    )
    return path


def can_be_evaluated(data: Path, machine: str) -> bool:
    """There are test clips."""
    return bool(evaluation_clips(data, machine, {clip.name.section for clip in training_clips(data, machine)}))


def prepare_torch(config: Config) -> None:
    """Seeds, threads, memory and determinism."""
    keep_freed()
    torch.manual_seed(config.seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may sum in another order
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else all memory is filled before its use, for code that reads what it never wrote: a quarter of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if config.compute.threads:
        torch.set_num_threads(config.compute.threads)


def precision(compute: Compute, device: str) -> Literal["float32", "bfloat16"]:
    """The precision to train in on a kind of device, "cpu" or "cuda"."""
    if compute.precision != "auto":
        return compute.precision
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    # PyTorch gives this no public name; where it has gone, float32 is right everywhere.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return "bfloat16" if native() else "float32"


def input_scaling(train_set: LogMels, system: System, config: Config) -> InputScaling:
    """One mean and one standard deviation of the whole training set, for a system that standardises."""
    mean, std = train_set.mean_and_deviation()
    if std == 0:
        raise DataError(
            f"{train_set.clips[0].path.parent}: all clips are digital silence; was the microphone muted? Record again."
        )
    return InputScaling(mean, std) if system.standardised(config) else InputScaling()


def _check_flips(config: Config, machine: str, sections: Collection[str]) -> None:
    for flip in config.detection.flip:
        of, section = flip.split("/")
        if of == machine and section not in sections:
            known = ", ".join(sorted(sections))
            raise ConfigError(f"--flip {flip}: {machine} has no section {section}; there are {known}.")


def _export(task: Task, system: System) -> None:
    folder, config = task.folder, task.config
    windows = system.scoring_windows(config)
    with progress.bar("int8 export", 2) as bar:
        with files.atomic(folder.onnx) as beside:
            to_onnx(system.network(folder.network, config), (config.front_end.mels, windows.frames), beside)
        bar.advance()
        calibration = (_calibration_windows(task, system) - task.scaling.mean) / task.scaling.std
        files.write_bytes(folder.tflite, to_tflite(folder.onnx, calibration.astype(np.float32)))
        bar.advance()


def _detection(task: Task, system: System, machine: str, moment: int) -> Bundle:
    folder, config = task.folder, task.config
    tflite = folder.tflite.read_bytes()
    model = TFLiteModel(tflite, task.scaling)
    windows = _calibration_windows(task, system)
    floating = FloatModel(system.network(folder.network, config), task.scaling)
    cosine = mean_cosine(model.embed(windows), floating.embed(windows))
    embeddings = embed_clips(task.train_set, system.training_windows(config), systems.of(config.system, model))
    banks, kept = None, None
    if config.system == "system1":
        banks, kept = compact(task.train_set, embeddings, task.anomalies, model, config)
        progress.say(f"bank: {banks.said()}")
    sections, detector = detect(task.train_set, model, system, config, machine, embeddings=embeddings, kept=kept)
    return pack(config, machine, task.train_set, task.scaling, tflite, sections, detector, cosine, banks, moment)


def _calibration_windows(task: Task, system: System) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    sampler = PairSampler(task.train_set, system.scoring_windows(task.config), task.config.seed)
    return sampler.sample(task.config.quantisation.calibration_windows).numpy()
