"""The network on its way to the device: PyTorch -> ONNX -> int8 TFLite.

One input channel (folding three is exact), a dynamic batch (so that one file serves a stream's single window and a
clip's 32), standardisation outside (the device folds it into the quantisation of its input).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_asd import files
from edge_asd.errors import MissingRequirement, TrainingError
from edge_asd.front_end import LogMel
from edge_asd.model import WINDOWS_AT_ONCE, InputScaling
from edge_asd_trainer.network import channels_last

OPSET = 17
CONVERSION_SECONDS = 900


def to_onnx(network: nn.Module, window: tuple[int, int], path: Path) -> None:
    """Write a network of one channel in evaluation mode as ONNX, batch dimension free; a window is (mels, frames)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own deprecations
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 1, *window),),
            str(path),
            input_names=["windows"],
            output_names=["outputs"],
            dynamic_axes={"windows": {0: "batch"}, "outputs": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )


def to_tflite(onnx: Path, calibration: NDArray[np.float32]) -> bytes:
    """Convert by onnx2tf, weights int8 per channel, activations int8, input and output int8.

    Args:
        onnx: the network, (batch, 1, mels, frames) to (batch, outputs).
        calibration: (N, mels, frames) standardised windows, which measure the ranges of the activations.

    Returns:
        The bytes of the TFLite file.

    Raises:
        MissingRequirement: onnx2tf isn't installed.
        TrainingError: the converter failed, or gave no int8 model.
    """
    converter = shutil.which("onnx2tf", path=str(Path(sys.executable).parent)) or shutil.which("onnx2tf")
    if converter is None:
        raise MissingRequirement(
            "export needs onnx2tf, which isn't installed; install it: pip install 'edge-asd[train]'"
        )
    with tempfile.TemporaryDirectory(prefix="edge-asd-export-") as folder:
        data, network = Path(folder) / "calibration.npy", Path(folder) / onnx.name
        try:
            np.save(data, calibration[..., None])  # NHWC, as TensorFlow has it
            shutil.copyfile(onnx, network)  # onnx2tf writes a simpler one in its place
        except OSError as error:
            raise files.unwritable(data, error) from error
        out = Path(folder) / "out"
        command = [converter, "-i", str(network), "-o", str(out), "-n", "-oiqt", "-qt", "per-channel"]
        command += ["-cind", "windows", str(data), "[[[[0.0]]]]", "[[[[1.0]]]]"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=CONVERSION_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise TrainingError(
                f"export: onnx2tf took more than {CONVERSION_SECONDS} s; run the command again."
            ) from error
        models = list(out.glob("*_full_integer_quant.tflite"))
        if done.returncode or len(models) != 1:
            last = " ".join((done.stderr or done.stdout).split())[-400:]
            raise TrainingError(f"export: onnx2tf gave no int8 model (exit code {done.returncode}): {last}")
        return models[0].read_bytes()


class FloatModel:
    """The float network behind the device's interface, to compare with."""

    name = "torch float32"

    def __init__(self, network: nn.Module, scaling: InputScaling) -> None:
        """Take a network of one channel."""
        self._network = network.eval()
        channels_last(self._network)
        self._scaling = scaling

    def prepare(self, log_mel: LogMel) -> NDArray[np.float32]:
        """(frames, mels) as it is."""
        return log_mel

    @torch.inference_mode()
    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, mels, frames) log-mel in dB to (N, outputs)."""
        parts = [self._forward(windows[i : i + WINDOWS_AT_ONCE]) for i in range(0, len(windows), WINDOWS_AT_ONCE)]
        return np.concatenate(parts)

    def _forward(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        x = (torch.from_numpy(np.ascontiguousarray(windows)) - self._scaling.mean) / self._scaling.std
        outputs: NDArray[np.float32] = self._network(x[:, None]).numpy()
        return outputs
