"""`edge-asd train`: from a folder of clips to a bundle, stage by stage, in the paper's order.

    features  ->  pre-training  ->  fine-tuning  ->  export  ->  detection: bank, thresholds, bundle

Every stage writes its result into the run's folder and is skipped when that result is there and was made from the
same inputs; the two trainings keep checkpoints besides. So an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from msgspec import structs
from safetensors.torch import load_file, save

from edge_asd import bundle as bundles
from edge_asd import files, progress
from edge_asd.bundle import Bundle
from edge_asd.errors import DataError, UsageError
from edge_asd.manifest import NAME
from edge_asd.model import InputScaling, TFLiteModel
from edge_asd_trainer.checkpoint import Checkpoint
from edge_asd_trainer.config import Compute, Config
from edge_asd_trainer.data import evaluation_clips, training_clips
from edge_asd_trainer.descent import Engine
from edge_asd_trainer.detection import banks, embed_clips
from edge_asd_trainer.distributed import ALONE, Group
from edge_asd_trainer.export import FloatModel, to_onnx, to_tflite
from edge_asd_trainer.features import LogMels, log_mels
from edge_asd_trainer.fine_tuning import fine_tune
from edge_asd_trainer.memory import keep_freed
from edge_asd_trainer.network import Encoder, channels_last
from edge_asd_trainer.packing import mean_cosine, pack
from edge_asd_trainer.pairs import PairSampler
from edge_asd_trainer.pretraining import pretrain
from edge_asd_trainer.run_folder import Provenance, RunFolder, remove, write_json
from edge_asd_trainer.stages import Stages
from edge_asd_trainer.training_log import TrainingLog


def train(
    data: Path, machine: str, folder: RunFolder, config: Config, preset: str, group: Group = ALONE
) -> Path | None:
    """Train System 1 on a machine type's normal clips and write its bundle.

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
        ConfigError: a batch can't be shared out among the group's processes.
        DataError, ClipError, ClipNameError: the clips can't be used; nothing was written but the features' cache.
        TrainingError: training diverged or collapsed, or export failed.
        StorageError: the run's folder can't be written.
    """
    if not NAME.fullmatch(machine):
        raise UsageError(f"--machine {machine!r}: the name goes into the bundle; it is 1 to 32 of 0-9 A-Z a-z _ -.")
    for training in ("pretraining", "fine_tuning"):
        group.share(getattr(config, training).batch, f"{training}.batch")
    clips = training_clips(data, machine)
    evaluation_clips(data, machine, {clip.name.section for clip in clips})  # better refused now than after training
    with group.first():
        train_set = log_mels(
            clips, config.front_end, config.windows, folder.features("train"), config.features.front_end
        )
        scaling = input_scaling(train_set, config)
        if group.leads:
            write_json(folder.provenance, Provenance(str(data.resolve()), machine, preset))
            folder.write_config(config)

    prepare_torch(config)
    kind = torch.device(group.device).type
    compute = structs.replace(config.compute, precision=precision(config.compute, kind))
    numerics = (compute.threads, compute.precision, compute.compile, kind)
    key = (train_set.fingerprint, config.seed, numerics, config.windows, scaling, config.network)
    stages = Stages(folder, *key, group=group)

    def engine(stage: str, key: str) -> Engine:
        checkpoint = Checkpoint(folder.checkpoint(stage), key, config.compute.checkpoint_seconds)
        return Engine(group, compute, checkpoint, TrainingLog(folder.log(stage), folder.tensorboard(stage)))

    stages.stage(
        "pre-training",
        [folder.pretrained],
        lambda key: _pretraining(train_set, scaling, folder, config, engine("pre-training", key)),
        config.pretraining,
    )
    stages.stage(
        "fine-tuning",
        [folder.encoder],
        lambda key: _fine_tuning(train_set, scaling, folder, config, engine("fine-tuning", key)),
        config.fine_tuning,
    )
    if not group.leads:
        return None
    for stage in ("pre-training", "fine-tuning"):  # no earlier: until a stage is marked as done, it goes on from there
        remove(folder.checkpoint(stage).parent, folder.checkpoint(stage).name)
    stages.stage(
        "export",
        [folder.onnx, folder.tflite],
        lambda _: _export(train_set, scaling, folder, config),
        config.quantisation,
    )
    path = folder.bundle(machine)
    stages.stage(
        "detection",
        [path],
        lambda _: bundles.write(path, _detection(train_set, scaling, folder, config, machine)),
        config,
        machine,
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


def input_scaling(train_set: LogMels, config: Config) -> InputScaling:
    """One mean and one standard deviation of the whole training set."""
    if config.input_scaling == "none":
        return InputScaling()
    mean, std = train_set.mean_and_deviation()
    if std == 0:
        raise DataError(
            f"{train_set.clips[0].path.parent}: all clips are digital silence; was the microphone muted? Record again."
        )
    return InputScaling(mean, std)


def load_encoder(path: Path, config: Config) -> Encoder:
    """An encoder that a stage wrote."""
    encoder = Encoder(config.network.channels, config.network.tail)
    encoder.load_state_dict(load_file(path))
    return encoder


def _pretraining(train_set: LogMels, scaling: InputScaling, folder: RunFolder, config: Config, engine: Engine) -> None:
    torch.manual_seed(config.seed)
    encoder = Encoder(config.network.channels, config.network.tail).to(engine.group.device)
    channels_last(encoder)
    pairs = PairSampler(train_set, config.windows, config.seed, engine.group)
    pretrain(encoder, pairs, scaling, config.pretraining, engine)
    _finish(encoder, folder.pretrained, engine)


def _fine_tuning(train_set: LogMels, scaling: InputScaling, folder: RunFolder, config: Config, engine: Engine) -> None:
    torch.manual_seed(config.seed + 1)
    encoder = load_encoder(folder.pretrained, config).to(engine.group.device)
    channels_last(encoder)
    pairs = PairSampler(train_set, config.windows, config.seed + 1, engine.group)
    fine_tune(encoder, pairs, scaling, config.fine_tuning, engine)
    _finish(encoder, folder.encoder, engine)


def _finish(encoder: Encoder, path: Path, engine: Engine) -> None:
    """The leader writes the encoder, before anyone goes on."""
    if engine.group.leads:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in encoder.state_dict().items()}
        files.write_bytes(path, save(tensors))
    engine.group.wait()


def _export(train_set: LogMels, scaling: InputScaling, folder: RunFolder, config: Config) -> None:
    with progress.bar("int8 export", 2) as bar:
        with files.atomic(folder.onnx) as beside:
            to_onnx(load_encoder(folder.encoder, config), config.network, beside)
        bar.advance()
        calibration = (_calibration_windows(train_set, config) - scaling.mean) / scaling.std
        files.write_bytes(folder.tflite, to_tflite(folder.onnx, calibration.astype(np.float32)))
        bar.advance()


def _detection(train_set: LogMels, scaling: InputScaling, folder: RunFolder, config: Config, machine: str) -> Bundle:
    tflite = folder.tflite.read_bytes()
    model = TFLiteModel(tflite, scaling)
    windows = _calibration_windows(train_set, config)
    floating = FloatModel(load_encoder(folder.encoder, config), scaling, config.network)
    cosine = mean_cosine(model.embed(windows), floating.embed(windows))
    sections = banks(embed_clips(train_set, config.windows, model), train_set)
    return pack(config, machine, train_set, scaling, tflite, sections, cosine)


def _calibration_windows(train_set: LogMels, config: Config) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    sampler = PairSampler(train_set, config.windows, config.seed)
    return sampler.sample(config.quantisation.calibration_windows).numpy()
