"""A bundle that tells the microphone's quiet from its strange, made in a minute: the paper's network, untrained.

What its batch normalisation takes for usual is what made-up sounds give: else every sound had the same embedding.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch

from edge_asd import bundle as bundles
from edge_asd.bank import Bank
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.manifest import Thresholds
from edge_asd.model import TFLiteModel
from edge_asd.scoring import Score, StreamScorer, embed
from edge_asd.windows import Windows
from edge_asd_trainer.bench import made_up_bundle
from faults.microphone import TICK, Sound, sounds

RATE, SECTION, CLIPS = 16000, "00", 100
SECONDS = 14.0


def written(path: Path) -> Path:
    """Such a bundle: its bank is of quiet clips, its threshold half-way to strange ones."""
    made = network()
    model, quiet = TFLiteModel(made.tflite, made.scaling), sounds(RATE)["quiet"]
    clips = [heard(quiet, 10.0) for _ in range(CLIPS)]
    rows = np.stack([embed(Windows(), model, FrontEnd().log_mel(clip)) for clip in clips])
    blank = made_up_bundle.bundle(CLIPS)
    names = blank.banks[SECTION]["embedding"].clips
    found = replace(blank, model=made.tflite, banks={SECTION: {"embedding": Bank.of(rows, names)}})
    scores = [max(score.value for score in scored(found, word)) for word in ("quiet", "strange")]
    assert scores[1] > 1.5 * scores[0], scores
    section = msgspec.structs.replace(
        found.manifest.sections[SECTION], thresholds=Thresholds(decision=scores[0], alarm=sum(scores) / 2)
    )
    bundles.write(path, replace(found, manifest=msgspec.structs.replace(found.manifest, sections={SECTION: section})))
    return path


def network() -> made_up_bundle.Network:
    """The made-up one, but for its batch normalisation."""
    encoder = made_up_bundle.encoder()
    windows = torch.from_numpy(made_up_bundle.some_windows())[:, None]
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the mean of all
    with torch.no_grad():
        encoder.train()((windows - windows.mean()) / windows.std())
    return made_up_bundle.exported(encoder.eval())


def heard(sound: Sound, seconds: float) -> Samples:
    """So many seconds of what the microphone gives."""
    ticks = [sound(number * TICK) for number in range(round(seconds / TICK))]
    samples: Samples = np.concatenate(ticks).astype(np.float32)
    return samples


def scored(bundle: bundles.Bundle, word: str) -> list[Score]:
    """A stream's scores of one of the microphone's sounds."""
    return list(StreamScorer(bundle.detector(), SECTION).push(heard(sounds(RATE)[word], SECONDS)))
