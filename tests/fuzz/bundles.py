"""Bundles: their bytes as they come, and their entries, sealed anew so that no checksum stops what is in them."""

from __future__ import annotations

import hashlib
import io
import struct
import wave
from contextlib import suppress

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_asd import bundle as bundles
from edge_asd import golden, manifest, npy
from edge_asd.bank import Bank
from edge_asd.bundle import Bundle
from edge_asd.comparison import Backend, Comparison, Spread
from edge_asd.deviation import Spectrum, deviating
from edge_asd.front_end import FrontEnd, LogMel
from edge_asd.manifest import FORMAT_VERSION, Golden, Manifest, Quantisation, Section, Thresholds
from edge_asd.model import InputScaling
from edge_asd.scoring import Detector
from edge_asd.windows import Windows
from fuzz import contract, mutations
from fuzz.doors import Door, fields

_ENTRIES = b'"@"'  # in a loose bundle's manifest, in place of what names and seals its entries
DIMENSIONS, MELS = 4, 8


def read(content: bytes) -> None:
    """A bundle's bytes as they come."""
    with contract.refusals():
        bundles.decode(content, "a.easd")


def read_sealed(content: bytes) -> None:
    """A loose bundle is sealed, read, and used as far as that takes no network."""
    with contract.refusals():
        _use(bundles.decode(_sealed(content), "a.easd"))


def _sealed(content: bytes) -> bytes:
    """Zip the parts, with the manifest that says of them what they are."""
    entries = {name.decode("latin-1"): body for name, body in mutations.parts(content)}
    described = {
        name: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        for name, body in entries.items()
        if name != "manifest.json"
    }
    if "manifest.json" in entries:
        entries["manifest.json"] = entries["manifest.json"].replace(_ENTRIES, msgspec.json.encode(described), 1)
    with suppress(struct.error):  # a name that is too long for a zip
        return bundles.pack(entries)
    return b""


class Zeros:
    """A network that hears nothing."""

    name = "zeros"

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions

    def prepare(self, log_mel: LogMel) -> LogMel:
        return log_mel

    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.zeros((len(windows), self._dimensions), np.float32)


def detector_of(bundle: Bundle) -> Detector:
    """As the bundle gives one, but for the network."""
    stated = bundle.manifest
    comparisons = {
        name: Comparison(bundle.banks[name], stated.backends, section.spreads) if stated.backends else None
        for name, section in stated.sections.items()
    }
    flipped = {name for name, section in stated.sections.items() if section.flipped}
    return Detector(stated.front_end, stated.windows, Zeros(stated.dimensions), comparisons, flipped)


def _use(bundle: Bundle) -> None:
    """What is done with all of it but the network: the golden clip is heard, and judged for every section."""
    stated, detector = bundle.manifest, detector_of(bundle)
    log_mel = stated.front_end.log_mel(golden.waveform(bundle))
    heard = detector.hear(log_mel)
    with np.errstate(all="ignore"):
        for name, section in stated.sections.items():
            detector.judge(heard, name)
            detector.judge(heard._replace(embedding=bundle.golden_embedding), name)
            if section.spectrum:
                deviating(log_mel, section.spectrum, stated.front_end)


def small(*, rich: bool) -> Bundle:
    """A small one that reads well: three clips, four dimensions; with all that a manifest may say, or with little."""
    random = np.random.default_rng(0)
    backends = (Backend(), Backend(feature="statistics", distance="mahalanobis")) if rich else (Backend(),)
    names = ["a.wav", "b.wav", "c.wav"]
    sizes = {"embedding": DIMENSIONS, "statistics": 2 * MELS}
    banks = {
        feature: Bank.of(random.normal(size=(3, size)).astype(np.float32), names)
        for feature, size in sizes.items()
        if any(backend.feature == feature for backend in backends)
    }
    section = Section(
        source_clips=3,
        target_clips=0,
        entries=3,
        thresholds=Thresholds(decision=1.0, alarm=2.0),
        spreads=(Spread(1.0, 0.5), Spread(2.0, 0.5)) if rich else (),
        spectrum=Spectrum((-30.0,) * MELS, (2.0,) * MELS) if rich else None,
    )
    stated = Manifest(
        format_version=FORMAT_VERSION,
        made=1_700_000_000,
        machine="fan",
        system="system1",
        backends=backends,
        sections={"00": section},
        front_end=FrontEnd(n_fft=128, hop=64, mels=MELS),
        windows=Windows(frames=4, hop=2),
        input_scaling=InputScaling(-30.0, 12.5),
        dimensions=DIMENSIONS,
        quantisation=Quantisation(weights="int8", activations="int8", calibration_windows=512, cosine=0.99),
        golden=Golden(section="00", score=0.5, runtime="litert 2.1.0", tolerance=0.1),
        minimum_runtime="0.1.0",
        data_fingerprint="0" * 64,
        config_fingerprint="1" * 64,
        entries={},
    )
    return Bundle(
        manifest=stated,
        model=b"TFL3",
        banks={"00": banks},
        golden_wav=_sound(),
        golden_embedding=random.normal(size=DIMENSIONS).astype(np.float32),
        model_card="#",
        sbom=b"{}",
    )


def _sound() -> bytes:
    """A tone of 20 ms, as a WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(np.rint(8000 * np.sin(np.arange(320) / 5)).astype("<i2").tobytes())
    return file.getvalue()


def _loose(bundle: Bundle) -> bytes:
    fixed = {
        "model.tflite": bundle.model,
        "golden.wav": bundle.golden_wav,
        "golden.npy": npy.encode(bundle.golden_embedding),
        "model_card.md": bundle.model_card.encode(),
        "sbom.json": bundle.sbom,
    }
    stated = msgspec.json.decode(manifest.encode(bundle.manifest))
    stated["entries"] = "@"
    entries = {"manifest.json": msgspec.json.encode(stated), **bundles.entries_of(bundle.banks, fixed)}
    return mutations.joined([(name.encode(), body) for name, body in entries.items()])


def _seeds() -> list[bytes]:
    """Whole ones, and those that a raw fuzzer can do most with: small ones that are refused."""
    whole = bundles.encode(small(rich=False))
    return [whole, bundles.pack({"manifest.json": b"{}"}), whole[:-30], bundles.pack({"a": b"b"})]


def _loose_seeds() -> list[bytes]:
    plain, rich = (small(rich=rich) for rich in (False, True))
    bare = msgspec.structs.replace(plain.manifest.sections["00"], entries=0)
    other = msgspec.structs.replace(
        plain.manifest, system="autoencoder", backends=(), dimensions=1, sections={"00": bare}
    )
    unbanked = Bundle(other, b"TFL3", {"00": {}}, plain.golden_wav, np.zeros(1, np.float32), "", b"")
    return [_loose(one) for one in (plain, rich, unbanked)]


_KEYS = fields(Manifest, Section, Golden, Quantisation, Backend, Thresholds)

DOORS = (
    Door(
        "bundle",
        "bundle, its bytes",
        read,
        _seeds,
        words=(b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"manifest.json"),
        longest=6000,
        weight=0.5,
    ),
    Door(
        "bundle-sealed",
        "bundle, what it says",
        read_sealed,
        _loose_seeds,
        words=(*_KEYS, b"\n#", b"'descr': '<f2'", b"'fortran_order': False", b"'shape': (3, 4)", b"\x93NUMPY\x01\x00"),
        mutations=(mutations.of_parts,),
        longest=6000,
        weight=0.5,
    ),
)
