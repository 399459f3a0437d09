"""What a bundle says of itself: `manifest.json`, format version 5."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_asd.comparison import Backend, Feature, Spread
from edge_asd.deviation import Spectrum
from edge_asd.errors import BundleError
from edge_asd.front_end import FrontEnd
from edge_asd.model import InputScaling
from edge_asd.strict import check_keys
from edge_asd.systems import System
from edge_asd.windows import Windows

FORMAT_VERSION: Literal[5] = 5
NAME = re.compile(r"[0-9A-Za-z_-]{1,32}")  # of a machine type and of a section: it may name a file

Count = Annotated[int, Meta(ge=1)]
AnomalyScore = Annotated[float, Meta(ge=-1e30, le=1e30)]
Version = Annotated[str, Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){0,3}\Z")]
Moment = Annotated[int, Meta(ge=0, le=253_402_300_799)]  # seconds since 1970 UTC, until the end of the year 9999
Words = Annotated[str, Meta(pattern=r"^[0-9A-Za-z_.+ -]{0,64}\Z")]  # that are shown to people
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the manifest: immutable, and strict about what it doesn't know."""


class Thresholds(Record, frozen=True):
    """Scores above which a clip is not normal any more.

    Attributes:
        decision: the challenge's, a low percentile of what normal clips score; for single clips.
        alarm: a high percentile; for a daemon, which asks four times a second.
    """

    decision: AnomalyScore
    alarm: AnomalyScore


class Section(Record, frozen=True):
    """One section.

    Attributes:
        source_clips, target_clips: that it was trained on, by their domain.
        entries: of its bank, which may hold fewer; 0 where the system has none.
        thresholds: of its scores.
        flipped: its scores have the opposite sign. Nothing but test labels says that they should, so a device
            shouldn't listen with it.
        spreads: of every back-end's scores; none where there is only one.
        spectrum: of its training clips, by which an alert says at which frequencies the machine sounds otherwise.
    """

    source_clips: Annotated[int, Meta(ge=0)]
    target_clips: Annotated[int, Meta(ge=0)]
    entries: Annotated[int, Meta(ge=0, le=1_000_000)]
    thresholds: Thresholds
    flipped: bool = False
    spreads: tuple[Spread, ...] = ()
    spectrum: Spectrum | None = None


class Quantisation(Record, frozen=True):
    """How the model's numbers are kept.

    Attributes:
        weights: "int8 per channel".
        activations: "int8".
        calibration_windows: how many training windows measured the activations' ranges.
        cosine: mean cosine between the int8 and the float network's embeddings of the calibration windows.
    """

    weights: Words
    activations: Words
    calibration_windows: Count
    cosine: float


class Golden(Record, frozen=True):
    """The clip that proves a device computes what the workstation computed.

    Attributes:
        section: whose bank it is scored against.
        score: what it scored at export.
        runtime: name and version of the interpreter that scored it then; with that one, on whatever processor, the
            score agrees bit for bit.
        tolerance: largest relative difference of the score with another interpreter.
    """

    section: str
    score: AnomalyScore
    runtime: Words
    tolerance: Annotated[float, Meta(ge=0, le=1)]


class Entry(Record, frozen=True):
    """Size in bytes and SHA-256 of one file in the bundle."""

    bytes: Annotated[int, Meta(ge=0)]
    sha256: Sha256


class Manifest(Record, frozen=True):
    """The whole manifest.

    Attributes:
        format_version: 5.
        made: when it was made, or is said to have been: of two bundles, the one that isn't older.
        machine: machine type, such as "fan".
        system: which of the paper's systems, so how the model's output becomes a score.
        backends: of System 1, what the score is: the nearest neighbour's distance, or what else is named here.
        sections: by name.
        front_end, windows, input_scaling: how a waveform becomes the model's input.
        dimensions: of an embedding, the mean over a clip's windows: 320, of the autoencoder 1, of the challenge's
            MobileNetV2 one a section.
        quantisation: how the model's numbers are kept.
        golden: the clip that every device scores before it trusts the bundle.
        minimum_runtime: oldest edge-asd that may run this bundle.
        data_fingerprint, config_fingerprint: SHA-256 of the training clips and of the run's configuration.
        entries: every other file in the bundle, by name.
    """

    format_version: Literal[5]
    made: Moment
    machine: str
    system: System
    backends: Annotated[tuple[Backend, ...], Meta(max_length=16)]
    sections: Annotated[dict[str, Section], Meta(min_length=1, max_length=1000)]
    front_end: FrontEnd
    windows: Windows
    input_scaling: InputScaling
    dimensions: Annotated[int, Meta(ge=1, le=4096)]  # of which a back-end may make a square
    quantisation: Quantisation
    golden: Golden
    minimum_runtime: Version
    data_fingerprint: Sha256
    config_fingerprint: Sha256
    entries: dict[str, Entry]

    def __post_init__(self) -> None:
        for name in (self.machine, *self.sections):
            if not NAME.fullmatch(name):
                raise ValueError(f"the name of a machine or section is 1 to 32 of 0-9 A-Z a-z _ -, found {name!r}")
        if self.golden.section not in self.sections:
            raise ValueError(f"the golden clip belongs to section {self.golden.section!r}, which isn't there")
        if (self.system == "system1") != bool(self.backends):
            raise ValueError(f"system1 has back-ends, no other system has; found {len(self.backends)} of {self.system}")
        if self.backends and all(backend.feature != "embedding" for backend in self.backends):
            raise ValueError("one back-end at least must look at the embedding")
        spreads = len(self.backends) if len(self.backends) > 1 else 0
        for name, section in self.sections.items():
            if (section.entries > 0) != (self.system == "system1"):
                raise ValueError(f"section {name} has {section.entries} bank entries; only system1 has a bank")
            if section.spectrum and {len(row) for row in msgspec.structs.astuple(section.spectrum)} != {
                self.front_end.mels
            }:
                raise ValueError(f"section {name} has a spectrum of other than {self.front_end.mels} bands")
            if len(section.spreads) != spreads:
                raise ValueError(f"section {name} has {len(section.spreads)} spreads, expected {spreads}")
        scores = {"system1": self.dimensions, "autoencoder": 1, "mobilenetv2": len(self.sections)}[self.system]
        if self.dimensions != scores:
            raise ValueError(f"dimensions of {self.system} with {len(self.sections)} sections must be {scores}")

    @property
    def made_at(self) -> str:
        """When it was made, for people: `2026-11-22 11:40:01 UTC`."""
        return f"{datetime.fromtimestamp(self.made, UTC):%Y-%m-%d %H:%M:%S} UTC"

    @property
    def features(self) -> tuple[Feature, ...]:
        """Of which every section has a bank."""
        return tuple(sorted({backend.feature for backend in self.backends}))


class _Version(msgspec.Struct):
    format_version: int


def encode(manifest: Manifest) -> bytes:
    """A manifest as JSON; the same manifest gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1) + b"\n"


def decode(content: bytes, source: str) -> Manifest:
    """Read a manifest; `source` names the bundle in errors.

    Raises:
        BundleError: not JSON, made for a later format, or a field that is missing, unknown or out of range.
    """
    try:
        version = msgspec.json.decode(content, type=_Version).format_version
        if version != FORMAT_VERSION:
            raise BundleError(
                f"{source}: format version {version}, this program reads version {FORMAT_VERSION}; "
                "update edge-asd here, or export the bundle with this version."
            )
        manifest = msgspec.json.decode(content, type=Manifest)
        check_keys(msgspec.json.decode(content), manifest, complete=True)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BundleError(f"{source}: manifest.json is not valid ({error}); export the bundle again.") from error
    return manifest
