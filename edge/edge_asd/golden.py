"""The golden clip: does this machine compute what the workstation computed?"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile

from edge_asd.bundle import Bundle
from edge_asd.errors import BundleError, ClipError
from edge_asd.front_end import Samples
from edge_asd.model import Runtime


@dataclass(frozen=True)
class GoldenResult:
    """What the golden clip scored here, beside what it scored at export.

    Attributes:
        score, expected: here, and at export.
        largest_step: largest difference between the two embeddings, in the embedding's own units.
        exact: score and embedding agree bit for bit.
        passed: they agree bit for bit where the interpreter is the same, else within the bundle's tolerance.
        runtime: the interpreter here.
    """

    score: float
    expected: float
    largest_step: float
    exact: bool
    passed: bool
    runtime: str


def check(bundle: Bundle, *, runtime: Runtime | None = None) -> GoldenResult:
    """Score the bundle's golden clip on this machine. Raises: BundleError, MissingRequirement."""
    expected = bundle.manifest.golden
    detector = bundle.detector(runtime=runtime)
    try:
        heard = detector.hear(detector.front_end.log_mel(waveform(bundle)))
    except ClipError as error:
        raise BundleError(f"{bundle.source}: golden.wav can't be scored ({error}); export the bundle again.") from error
    score = detector.judge(heard, expected.section).value
    step = float(np.abs(heard.embedding - bundle.golden_embedding).max())
    used = detector.model.name
    exact = step == 0.0 and score == expected.score
    decision = bundle.manifest.sections[expected.section].thresholds.decision
    close = abs(score - expected.score) <= expected.tolerance * max(abs(expected.score), abs(decision))
    return GoldenResult(
        score=score,
        expected=expected.score,
        largest_step=step,
        exact=exact,
        passed=exact if used == expected.runtime else close,
        runtime=used,
    )


def waveform(bundle: Bundle) -> Samples:
    """The golden clip's samples. Raises: BundleError where golden.wav isn't a mono clip at the front end's rate."""
    try:
        samples, rate = soundfile.read(io.BytesIO(bundle.golden_wav), dtype="float32")
    except soundfile.SoundFileError as error:
        raise BundleError(f"{bundle.source}: golden.wav can't be read ({error}); export the bundle again.") from error
    if rate != bundle.manifest.front_end.sample_rate or samples.ndim != 1:
        raise BundleError(f"{bundle.source}: golden.wav is not mono at {bundle.manifest.front_end.sample_rate} Hz.")
    mono: Samples = samples
    return mono
