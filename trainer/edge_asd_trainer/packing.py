"""Everything that the device needs, packed into one bundle."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata, requires, version

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_asd import sbom
from edge_asd.audio import read_clip
from edge_asd.bundle import Bundle
from edge_asd.front_end import Samples
from edge_asd.manifest import FORMAT_VERSION, Golden, Manifest, Quantisation, Section
from edge_asd.model import InputScaling
from edge_asd.scoring import Detector
from edge_asd.systems import System
from edge_asd_trainer.bank_choice import BankChoice
from edge_asd_trainer.config import Config, fingerprint
from edge_asd_trainer.features import LogMels

MINIMUM_RUNTIME = "0.1.0"
SCORES: dict[System, str] = {
    "system1": "the Euclidean distance of its embedding to the nearest normal one.",
    "autoencoder": "the mean squared error, in dB squared, of what an autoencoder makes of its frames.",
    "mobilenetv2": "the mean of log(1 - p) - log(p), p being the probability by which a network knows its section.",
}
GOLDEN_SECONDS = 10
GOLDEN_TOLERANCE = 0.25
MADE_WITH = ("torch", "onnx", "onnx2tf", "tensorflow", "numpy", "scipy", "ai-edge-litert")


def pack(
    config: Config,
    machine: str,
    train: LogMels,
    scaling: InputScaling,
    tflite: bytes,
    sections: Mapping[str, Section],
    detector: Detector,
    cosine: float,
    banks: BankChoice | None,
    made: int,
) -> Bundle:
    """The bundle of a trained, quantised model; the same inputs, `made` among them, give the same bundle."""
    wav, samples = _golden_clip(train, config)
    section = train.names[0].section
    heard = detector.hear(detector.front_end.log_mel(samples))
    quantisation = Quantisation(
        weights="int8 per channel",
        activations="int8",
        calibration_windows=config.quantisation.calibration_windows,
        cosine=round(cosine, 6),
    )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        made=made,
        machine=machine,
        system=config.system,
        backends=config.detection.backends if config.system == "system1" else (),
        sections=dict(sections),
        front_end=detector.front_end,
        windows=detector.windows,
        input_scaling=scaling,
        dimensions=len(heard.embedding),
        quantisation=quantisation,
        golden=Golden(
            section=section,
            score=detector.judge(heard, section).value,
            runtime=detector.model.name,
            tolerance=GOLDEN_TOLERANCE,
        ),
        minimum_runtime=MINIMUM_RUNTIME,
        data_fingerprint=train.fingerprint,
        config_fingerprint=fingerprint(config),
        entries={},
    )
    return Bundle(
        manifest=manifest,
        model=tflite,
        banks={name: one.banks if one else {} for name, one in detector.comparisons.items()},
        golden_wav=wav,
        golden_embedding=heard.embedding,
        model_card=_model_card(machine, sections, train, quantisation, config, banks),
        sbom=_sbom(),
    )


def _golden_clip(train: LogMels, config: Config) -> tuple[bytes, Samples]:
    """The first training clip at half its amplitude: the bank holds it at the full one, so its score isn't 0."""
    rate = config.front_end.sample_rate
    halved = 0.5 * read_clip(train.clips[0].path, rate)[: GOLDEN_SECONDS * rate]
    pcm = np.rint(np.clip(halved, -1.0, 1.0) * 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, pcm, rate, format="WAV", subtype="PCM_16")
    file.seek(0)
    samples: Samples = soundfile.read(file, dtype="float32")[0]
    return file.getvalue(), samples


def _model_card(
    machine: str,
    sections: Mapping[str, Section],
    train: LogMels,
    quantisation: Quantisation,
    config: Config,
    banks: BankChoice | None,
) -> str:
    rows = [
        f"| {name} | {section.source_clips} | {section.target_clips} | {section.entries or '-'} "
        f"| {section.thresholds.decision:.4f} | {section.thresholds.alarm:.4f} |"
        for name, section in sorted(sections.items())
    ]
    return "\n".join(
        [
            f"# {machine}",
            "",
            "Tells whether a machine of this type still sounds as it did when the training clips were recorded. The",
            f"score of a clip is {SCORES[config.system]}",
            "",
            "## Trained on",
            "",
            f"Normal clips alone, fingerprint {train.fingerprint[:16]}; configuration {fingerprint(config)[:16]}, "
            f"seed {config.seed}.",
            "",
            "| section | source clips | target clips | in the bank | decision threshold | alarm threshold |",
            "|---|---|---|---|---|---|",
            *rows,
            *_flipped(sections),
            *(["", f"The bank keeps {banks.said()}."] if banks else []),
            "",
            "## How it is kept",
            "",
            f"Weights {quantisation.weights}, activations {quantisation.activations}; mean cosine of the int8 and the "
            f"float network's embeddings on {quantisation.calibration_windows} training windows: "
            f"{quantisation.cosine:.4f}.",
            "",
            "## What it can't do",
            "",
            "It knows no faults and names none. Another unit, place, microphone or operating state than the recorded",
            "ones may well be strange to it. Its thresholds assume that the training clips were normal.",
            "",
        ]
    )


def _flipped(sections: Mapping[str, Section]) -> list[str]:
    names = ", ".join(name for name, section in sorted(sections.items()) if section.flipped)
    return (
        ["", f"The sign of the scores of section {names} is flipped, which test labels alone can suggest."]
        if names
        else []
    )


def _sbom() -> bytes:
    """The packages that made the bundle, and those that its program needs on a device, by their versions here.

    A device's own versions are in the bill of materials of its environment. A package that isn't installed under its
    name (another build of TensorFlow) is left out: a training of hours doesn't end for it.
    """
    packages = {"made-with": MADE_WITH, "on-device": sbom.needed(_requires("edge-asd"), _requires)}
    components = []
    for name in {name for names in packages.values() for name in names}:
        with suppress(PackageNotFoundError):
            roles = [role for role, names in packages.items() if name in names]
            components.append(sbom.component(metadata(name), roles=roles))
    return sbom.document("edge-asd", version("edge-asd"), components)


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def mean_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean cosine between the rows of two (N, dimensions) arrays."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.mean(np.einsum("ij,ij->i", one, other) / np.maximum(norms, np.finfo(np.float32).tiny)))
