"""A whole bundle of the paper's network, made up in a minute: untrained weights, and banks as of a trained network.

How long something takes doesn't depend on what the weights are, so nobody has to train before measuring. The export is
the real one, and so is every file that comes of it. Embeddings, though, have to lie as a trained network's do, for a
bank keeps as few axes as these allow: they are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_asd import bundle as bundles
from edge_asd import systems
from edge_asd.bank import Bank
from edge_asd.bundle import Bundle
from edge_asd.clip_name import parse_clip_name
from edge_asd.comparison import Comparison, held_out
from edge_asd.front_end import FrontEnd
from edge_asd.manifest import Section
from edge_asd.model import InputScaling, TFLiteModel
from edge_asd.scoring import Detector, embed
from edge_asd.windows import Windows
from edge_asd_trainer.bench.log_mels import waveform
from edge_asd_trainer.data import Clip
from edge_asd_trainer.features import LogMels

if TYPE_CHECKING:  # PyTorch takes seconds to import, and those who only draw embeddings don't need it
    from edge_asd_trainer.network import Encoder

MACHINE = "fan"
DIMENSIONS = 320
HEARD = 0  # the sound that is scored; it is no entry of a bank, but lies among them
_MACHINE_SEED = 999  # of the axes along which its embeddings vary
_CALIBRATION_SOUNDS = range(100, 108)


class Network(NamedTuple):
    """The paper's network as ONNX and, quantised, as TFLite; its input's scaling; mean cosine between the two."""

    onnx: bytes
    tflite: bytes
    scaling: InputScaling
    cosine: float


def encoder() -> Encoder:
    """The network of one channel, (N, 1, 128, 64) to (N, 320); always the same weights."""
    import torch

    from edge_asd_trainer.network import Encoder, fold_channels

    torch.manual_seed(0)
    return fold_channels(Encoder()).eval()


@cache
def network() -> Network:
    """Exported as `edge-asd train` does it, once in a run of measurements: it takes half a minute.

    Raises:
        MissingRequirement, TrainingError: the export failed.
    """
    return exported(encoder())


def exported(network: Encoder) -> Network:
    """A network of one channel, as `edge-asd train` exports it. Raises: as `network`."""
    from edge_asd_trainer.export import FloatModel, to_onnx, to_tflite
    from edge_asd_trainer.packing import mean_cosine

    windows = some_windows()
    scaling = InputScaling(float(windows.mean()), float(windows.std()))
    with TemporaryDirectory(prefix="edge-asd-bench.") as folder:
        path = Path(folder) / "network.onnx"
        to_onnx(network, (FrontEnd().mels, Windows().frames), path)
        tflite = to_tflite(path, (windows - scaling.mean) / scaling.std)
        onnx = path.read_bytes()
    outputs = [model.embed(windows) for model in (TFLiteModel(tflite, scaling), FloatModel(network, scaling))]
    return Network(onnx, tflite, scaling, mean_cosine(*outputs))


def some_windows() -> NDArray[np.float32]:
    """Of made-up sounds, 32 of each, in dB, (N, 128, 64)."""
    log_mels = [FrontEnd().log_mel(waveform(seed)) for seed in _CALIBRATION_SOUNDS]
    return np.concatenate([Windows().cut(log_mel) for log_mel in log_mels])


def embeddings(count: int, seed: int = 0, *, evenly: bool = False) -> NDArray[np.float32]:
    """So many, (count, 320), of one machine, whatever the seed; the first ones of a seed don't depend on how many.

    Args:
        count: how many.
        seed: of what is drawn.
        evenly: they vary as much in every direction. Else as a trained network's do, in which a few directions carry
            nearly all: the variance along axis k is exp(-k / 6), and the axes are turned at random.
    """
    variances = np.exp(-np.arange(DIMENSIONS) / 6.0)
    drawn = np.random.default_rng(seed).standard_normal((count, DIMENSIONS))
    if evenly:
        drawn *= np.sqrt(variances.mean())
    else:
        turned = np.linalg.qr(np.random.default_rng(_MACHINE_SEED).standard_normal((DIMENSIONS, DIMENSIONS)))[0]
        drawn = (drawn * np.sqrt(variances)) @ turned.T
    rows: NDArray[np.float32] = drawn.astype(np.float32)
    return rows


def bundle(entries: int, sections: int = 1) -> Bundle:
    """A bundle of so many sections with so many clips each, all of them entries, and a golden clip of 10 s.

    Of sound `HEARD` the embedding is one more draw from what each section's entries were drawn from.

    Raises:
        MissingRequirement, TrainingError: the export failed.
    """
    from edge_asd_trainer.config import Config
    from edge_asd_trainer.detection import thresholds
    from edge_asd_trainer.packing import pack

    config, made = Config(), network()
    model = systems.of(config.system, TFLiteModel(made.tflite, made.scaling))
    heard = embed(config.windows, model, config.front_end.log_mel(waveform(HEARD)))
    stated, comparisons = {}, {}
    for index in range(sections):
        drawn = embeddings(entries + 1, index)
        rows = drawn[1:] - drawn[0] + heard
        clips = [_clip_name(index, number) for number in range(entries)]
        [backend] = config.detection.backends
        bank = Bank.of(rows, clips)
        unseen = held_out(backend, bank, rows, range(entries))
        name = f"{index:02d}"
        comparisons[name] = Comparison({"embedding": bank}, config.detection.backends)
        stated[name] = Section(
            source_clips=entries, target_clips=0, entries=entries, thresholds=thresholds(unseen, config.detection)
        )
    detector = Detector(config.front_end, config.windows, model, comparisons)
    with TemporaryDirectory(prefix="edge-asd-bench.") as folder:
        path = Path(folder) / _clip_name(0, 0)
        soundfile.write(path, waveform(HEARD), config.front_end.sample_rate, subtype="PCM_16")
        train = _log_mels([path])
        what = (config, MACHINE, train, made.scaling, made.tflite, stated, detector, made.cosine)
        return pack(*what, banks=None, made=0)


def written(folder: Path, entries: int, sections: int = 1) -> Path:
    """Such a bundle as a file in a folder. Raises: as `bundle`, and StorageError."""
    path = folder / f"{MACHINE}.easd"
    bundles.write(path, bundle(entries, sections))
    return path


def _clip_name(section: int, number: int) -> str:
    return f"section_{section:02d}_source_train_normal_{number:04d}.wav"


def _log_mels(paths: Sequence[Path]) -> LogMels:
    """As the pipeline hands clips over to be packed, which looks at the first clip's sound and at no frame."""
    clips = [Clip(path, parse_clip_name(path.name)) for path in paths]
    return LogMels(Path(), np.empty((0, FrontEnd().mels), np.float32), np.zeros(len(clips), np.int64), clips, "0" * 64)
