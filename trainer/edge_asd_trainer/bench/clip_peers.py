"""What others make of a clip: samples to an anomaly score, by the tools that one reaches for first.

Each function is called in a process of its own and gives contenders there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asd import bundle as bundles
from edge_asd.front_end import FrontEnd, LogMel, Samples
from edge_asd.model import WINDOWS_AT_ONCE, InputScaling
from edge_asd.native_output import silenced
from edge_asd.windows import Windows
from edge_asd_trainer.bench.log_mels import waveform
from edge_asd_trainer.bench.made_up_bundle import HEARD, some_windows
from edge_asd_trainer.bench.peers import librosa_log_mel
from edge_asd_trainer.bench.turns import Contenders

ONNX_RUNTIME, AUTOENCODER, MOBILENETV2 = "librosa, ONNX Runtime, scikit-learn", "Keras autoencoder", "Keras MobileNetV2"
SECTIONS = 6  # of a machine type of the challenge, which its second baseline tells apart
AUTOENCODER_FRAMES, AUTOENCODER_WIDTHS = 5, (128, 128, 128, 128, 8, 128, 128, 128, 128)


def onnx_runtime(network: Path, bundle: Path) -> Contenders:
    """Librosa's log-mel, the same network quantised by ONNX Runtime's own tool, scikit-learn's nearest neighbour."""
    from sklearn.neighbors import NearestNeighbors

    opened = bundles.read(bundle)
    scaling = opened.manifest.input_scaling
    log_mel_of = librosa_log_mel(FrontEnd())
    with TemporaryDirectory(prefix="edge-asd-bench.") as folder:
        run = session(quantised(network, scaling, Path(folder)))
    [bank] = opened.embedding_banks.values()
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank.decoded())

    def score(samples: Samples) -> float:
        log_mel = log_mel_of(samples).T
        embedding = run(images(log_mel, scaling)).mean(axis=0)
        return float(nearest.kneighbors(embedding[None])[0][0, 0])

    return {ONNX_RUNTIME: partial(score, waveform(HEARD))}


def images(log_mel: LogMel, scaling: InputScaling) -> NDArray[np.float32]:
    """A log-mel (frames, mels) as ONNX Runtime takes it: (N, 1, mels, P), standardised."""
    standardised = (log_mel - np.float32(scaling.mean)) / np.float32(scaling.std)
    return np.ascontiguousarray(Windows().cut(standardised)[:, None])


def session(network: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What runs an ONNX network with one thread, (N, 1, mels, P) to (N, dimensions)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    loaded = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])

    def run(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        [outputs] = loaded.run(None, {"windows": windows})
        embeddings: NDArray[np.float32] = outputs
        return embeddings

    return run


def quantised(network: Path, scaling: InputScaling, folder: Path) -> Path:
    """A network quantised as ONNX Runtime's documentation does it: prepared, calibrated, QDQ, weights per channel.

    Activations are uint8, with which it is half as fast again on x86 as with int8.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Calibration(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            windows = (some_windows()[:, None] - scaling.mean) / scaling.std
            self._batches = iter(np.array_split(windows.astype(np.float32), len(windows) // WINDOWS_AT_ONCE))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"windows": batch}

    prepared, result = folder / "prepared.onnx", folder / "quantised.onnx"
    quant_pre_process(str(network), str(prepared))
    quantize_static(
        str(prepared),
        str(result),
        Calibration(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )
    return result


def keras_baselines() -> Contenders:
    """The challenge's two baselines as its own code scores a clip: librosa, every window of it through `predict`.

    By Keras 2, which that code was written for and which here takes less time than Keras 3.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with silenced():  # TensorFlow greets all the same
        import tensorflow
        import tf_keras

    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    log_mel_of, samples = librosa_log_mel(FrontEnd()), waveform(HEARD)
    autoencoder, mobilenetv2 = _autoencoder(tf_keras), _mobilenetv2(tf_keras)

    def reconstruction_error() -> float:
        vectors = frames_side_by_side(log_mel_of(samples), AUTOENCODER_FRAMES)
        return float(np.square(vectors - autoencoder.predict(vectors, verbose=0)).mean())

    def misclassification() -> float:
        vectors = frames_side_by_side(log_mel_of(samples), Windows().frames)
        pictures = vectors.reshape(len(vectors), Windows().frames, FrontEnd().mels, 1)
        p = np.maximum(mobilenetv2.predict(pictures, verbose=0)[:, 0], sys.float_info.epsilon)
        return float(np.mean(np.log(np.maximum(1.0 - p, sys.float_info.epsilon)) - np.log(p)))

    return {AUTOENCODER: reconstruction_error, MOBILENETV2: misclassification}


def frames_side_by_side(log_mel: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Librosa's (mels, T) to (T - frames + 1, frames x mels): so many frames in a row, from every frame on."""
    views = np.lib.stride_tricks.sliding_window_view(log_mel, frames, axis=1)
    return np.ascontiguousarray(views.transpose(1, 2, 0)).reshape(views.shape[1], -1)


def _autoencoder(keras: Any) -> Any:
    layers, values = keras.layers, AUTOENCODER_FRAMES * FrontEnd().mels
    x = y = keras.Input((values,))
    for width in AUTOENCODER_WIDTHS:
        y = layers.Activation("relu")(layers.BatchNormalization()(layers.Dense(width)(y)))
    return keras.Model(x, layers.Dense(values)(y))


def _mobilenetv2(keras: Any) -> Any:
    shape = (Windows().frames, FrontEnd().mels)
    network = keras.applications.MobileNetV2(input_shape=(*shape, 3), alpha=0.5, weights=None, classes=SECTIONS)
    x = keras.Input((*shape, 1))
    return keras.Model(x, network(keras.layers.Concatenate()([x, x, x])))
