"""The golden clip: does this machine compute what the workstation computed?"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile

from edge_asd.audio import LONGEST_CLIP_SECONDS
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
    """The golden clip's samples, once its header was believed.

    Raises:
        BundleError: golden.wav isn't WAV, mono, at the front end's rate, of ten minutes at most. Of other formats a few
            kilobytes unpack to gigabytes.
    """
    rate = bundle.manifest.front_end.sample_rate
    if not bundle.golden_wav.startswith((b"RIFF", b"RIFX")) or bundle.golden_wav[8:12] != b"WAVE":
        raise BundleError(f"{bundle.source}: golden.wav can't be read (it is no WAV); export the bundle again.")
    try:
        with soundfile.SoundFile(io.BytesIO(bundle.golden_wav)) as clip:
            if (clip.samplerate, clip.channels) != (rate, 1) or clip.frames > LONGEST_CLIP_SECONDS * rate:
                raise BundleError(
                    f"{bundle.source}: golden.wav is not mono at {rate} Hz, of {LONGEST_CLIP_SECONDS:.0f} s at most."
                )
            samples: Samples = clip.read(clip.frames, dtype="float32")
    except soundfile.SoundFileError as error:
        raise BundleError(f"{bundle.source}: golden.wav can't be read ({error}); export the bundle again.") from error
    return samples
