"""Samples to a score: the whole, its parts beside nothing but their arithmetic, and many clips on all cores."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_asd import bundle as bundles
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.model import TFLiteModel, installed_runtime
from edge_asd.native_output import silenced
from edge_asd.scoring import ClipScorer
from edge_asd.workers import one_thread, usable_cores
from edge_asd_trainer.bench.clip_peers import (
    AUTOENCODER,
    MOBILENETV2,
    ONNX_RUNTIME,
    keras_baselines,
    onnx_runtime,
)
from edge_asd_trainer.bench.log_mels import waveform
from edge_asd_trainer.bench.made_up_bundle import HEARD, network, written
from edge_asd_trainer.bench.measurement import Effort, Row, fastest
from edge_asd_trainer.bench.turns import Contenders, Group, fastest_apart, needs

SECTION = "00"
ENTRIES, CLIPS, SOUNDS = 1000, 400, 16
OURS, LIMIT = "ours", "bare transform and network"
TRANSFORM = "SciPy's float32 FFT alone"
GOALS = {LIMIT: 1 / 1.15, ONNX_RUNTIME: 2.0, AUTOENCODER: 20.0, MOBILENETV2: 20.0}
JOBS_GOAL = 1.8
SCORE_SECONDS = 600.0


def log_mel_limit(effort: Effort) -> list[Row]:
    """A clip's log-mel beside its Fourier transform and nothing else, milliseconds on one thread.

    The peer transforms the same 313 frames of 1024 samples, windowed and in float32 before it begins. Ours cuts and
    windows them, and computes in float64 up to the decibel. At most 2.5 times as long is a ratio of 0.4.
    """
    needs("scipy")
    seconds = fastest_apart([Group(_log_mel_and_transform, effort.of(100))], effort.repetitions)
    ours, theirs = 1e3 * seconds[OURS], 1e3 * seconds[TRANSFORM]
    return [Row("log-mel of a clip, one thread", ours, theirs, "ms", TRANSFORM, 1 / 2.5)]


def clip(effort: Effort) -> list[Row]:
    """From 10 s of samples in memory to an anomaly score, milliseconds on one thread; a bank of 1000 entries.

    First beside nothing but the arithmetic: SciPy's float32 FFT of the frames, then the interpreter's `invoke` for the
    32 windows at once; at most 1.15 times as long is a ratio of 0.87. Then beside other tools with the same network,
    and beside the challenge's two baselines as its own code runs them: other networks, one on 309 windows of 5 frames,
    one on 250 of 64.
    """
    needs("scipy", "librosa", "onnxruntime", "sklearn", "tf_keras")
    with TemporaryDirectory(prefix="edge-asd-bench.") as folder:
        bundle = written(Path(folder), effort.of(ENTRIES, 20))
        onnx = Path(folder) / "network.onnx"
        onnx.write_bytes(network().onnx)
        groups = [
            Group(partial(_ours_and_limit, bundle), effort.of(30)),
            Group(partial(onnx_runtime, onnx, bundle), effort.of(30)),
            Group(keras_baselines, effort.of(4)),
        ]
        seconds = fastest_apart(groups, effort.repetitions)
    figures = {name: 1e3 * value for name, value in seconds.items()}
    return [Row("score of a clip", figures[OURS], figures[name], "ms", name, goal) for name, goal in GOALS.items()]


def score_jobs(effort: Effort) -> list[Row]:
    """`edge-asd score` of 400 clips of 10 s with as many jobs as there are cores, seconds, beside `--jobs 1`.

    Whole processes, from their start to their end. The goal is for two cores.
    """
    cores = usable_cores()
    with TemporaryDirectory(prefix="edge-asd-bench.") as name, one_thread():
        folder = Path(name)
        bundle = written(folder, effort.of(ENTRIES, 20))
        clips = _clips(folder / "clips", effort.of(CLIPS, 2))
        seconds = fastest(
            {jobs: partial(_score, folder / "clips", bundle, jobs) for jobs in ("1", str(cores))}, effort.repetitions
        )
    what, goal = f"scoring {clips} clips, --jobs {cores}", JOBS_GOAL if cores == 2 else None
    return [Row(what, seconds[str(cores)], seconds["1"], "s", "--jobs 1", goal)]


def frames_of(samples: Samples) -> NDArray[np.float32]:
    """The frames of a clip that the front end transforms, less its mean and windowed, (frames, n_fft) in float32."""
    front_end = FrontEnd()
    padded = np.pad(samples - np.mean(samples, dtype=np.float64), front_end.n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, front_end.n_fft)[:: front_end.hop]
    return (frames * front_end.window).astype(np.float32)


def _log_mel_and_transform() -> Contenders:
    import scipy.fft

    samples = waveform(HEARD)
    return {
        OURS: partial(FrontEnd().log_mel, samples),
        TRANSFORM: partial(scipy.fft.rfft, frames_of(samples), axis=1),
    }


def _ours_and_limit(path: Path) -> Contenders:
    import scipy.fft

    bundle, samples = bundles.read(path), waveform(HEARD)
    scorer, frames = ClipScorer(bundle.detector(threads=1)), frames_of(samples)
    manifest = bundle.manifest
    windows = manifest.windows.cut(
        TFLiteModel(bundle.model, manifest.input_scaling).prepare(manifest.front_end.log_mel(samples))
    )
    with silenced():
        interpreter = installed_runtime()[1](model_content=bundle.model, num_threads=1)
        [own] = interpreter.get_input_details()
        interpreter.resize_tensor_input(own["index"], (*windows.shape, 1))
        interpreter.allocate_tensors()
    interpreter.set_tensor(own["index"], np.ascontiguousarray(windows[..., None]))

    def limit() -> None:
        scipy.fft.rfft(frames, axis=1)
        interpreter.invoke()

    return {OURS: partial(scorer.score, samples, SECTION), LIMIT: limit}


def _clips(folder: Path, count: int) -> int:
    """So many sound files, each of one of a few sounds; returns how many."""
    folder.mkdir()
    sounds = [waveform(seed) for seed in range(min(count, SOUNDS))]
    for number in range(count):
        path = folder / f"section_{SECTION}_source_test_normal_{number:04d}.wav"
        soundfile.write(path, sounds[number % len(sounds)], FrontEnd().sample_rate, subtype="PCM_16")
    return count


def _score(clips: Path, bundle: Path, jobs: str) -> None:
    command = [sys.executable, "-m", "edge_asd", "score", str(clips), "--bundle", str(bundle), "--jobs", jobs]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=SCORE_SECONDS, check=True)
