"""What a test makes up: log-mels without clips, as a training finds them, and a bundle without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_asd.bank import Bank
from edge_asd.bundle import Bundle
from edge_asd.clip_name import parse_clip_name
from edge_asd.comparison import Backend
from edge_asd.front_end import FrontEnd
from edge_asd.manifest import FORMAT_VERSION, Golden, Manifest, Quantisation, Section, Thresholds
from edge_asd.model import InputScaling
from edge_asd.windows import Windows
from edge_asd_trainer.data import Clip
from edge_asd_trainer.features import LogMels


def log_mels_of(names: Sequence[str], frames: np.ndarray, folder: Path) -> LogMels:
    """As if clips of these names had been transformed; each gets as many of the frames, which are (frames, mels)."""
    path = folder / "train.npy"
    np.save(path, frames.astype(np.float32, copy=False))
    ends = np.arange(1, len(names) + 1) * (len(frames) // len(names))
    clips = [Clip(Path(name), parse_clip_name(name)) for name in names]
    return LogMels(path, np.load(path, mmap_mode="c"), ends, clips, "")


def some_bundle() -> Bundle:
    """A bundle that reads well; its model is no model, which a reader of the file doesn't open."""
    random = np.random.default_rng(0)
    bank = Bank.of(random.normal(size=(3, 320)).astype(np.float32), ["a.wav", "b.wav", "c.wav"])
    return Bundle(
        manifest=Manifest(
            format_version=FORMAT_VERSION,
            made=1_700_000_000,
            machine="fan",
            system="system1",
            backends=(Backend(),),
            sections={
                "00": Section(source_clips=3, target_clips=0, entries=3, thresholds=Thresholds(decision=1.0, alarm=2.0))
            },
            front_end=FrontEnd(),
            windows=Windows(),
            input_scaling=InputScaling(-30.0, 12.5),
            dimensions=320,
            quantisation=Quantisation(
                weights="int8 per channel", activations="int8", calibration_windows=512, cosine=0.99
            ),
            golden=Golden(section="00", score=0.5, runtime="litert 2.1.0", tolerance=0.1),
            minimum_runtime="0.1.0",
            data_fingerprint="0" * 64,
            config_fingerprint="1" * 64,
            entries={},
        ),
        model=b"TFL3" + bytes(1000),
        banks={"00": {"embedding": bank}},
        golden_wav=b"RIFF" + bytes(100),
        golden_embedding=random.normal(size=320).astype(np.float32),
        model_card="# fan\n",
        sbom=b"{}\n",
    )
