"""The bundle `<name>.easd`: all that a device needs to listen, in one file that it can verify.

A zip of stored entries, the same bytes from the same inputs:

    manifest.json                        what it is; SHA-256 and size of every other entry
    model.tflite                         the int8 network
    bank/<section>.<feature>.codes.npy   of System 1: what normal clips' embeddings (or statistics) are, see `bank`
    bank/<section>.<feature>.axes.npy    along which axes
    bank/<section>.<feature>.json        on what scale, and of which clips
    golden.wav, golden.npy               a clip, and its embedding at export
    model_card.md                        for people
    sbom.json                            CycloneDX: what it was made with

A reader refuses everything else before it opens a thing: another entry, a compressed one, a size beyond the limits,
bytes that no entry accounts for. Nothing is ever unpickled, and no name from inside becomes a path.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge_asd import __version__, files, manifest, npy, strict, systems
from edge_asd.bank import Bank, Embedding
from edge_asd.comparison import Comparison, Feature
from edge_asd.errors import BundleError
from edge_asd.manifest import Entry, Manifest
from edge_asd.model import Runtime, TFLiteModel
from edge_asd.scoring import Detector

LARGEST_BUNDLE = 64 << 20
LARGEST_MANIFEST = 1 << 20
MOST_ENTRIES = 6100  # a thousand sections
LONGEST_NAME = 255  # of a clip, characters; no file system has longer ones

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's zero; a bundle knows no time
_LOCAL_HEADER, _CENTRAL_HEADER, _END_RECORD = 30, 46, 22  # bytes, without the name
_ZIP64_LOCATOR = 20  # bytes, before the end record of a zip whose counts are elsewhere
_LARGEST_DIRECTORY = MOST_ENTRIES * (_CENTRAL_HEADER + 64)  # no entry of ours has a longer name
_FIXED = ("model.tflite", "golden.wav", "golden.npy", "model_card.md", "sbom.json")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle, in memory.

    Attributes:
        digest: its identity, the first 16 digits of its file's SHA-256; empty before it is encoded.
        size: of its file in bytes; 0 before it is encoded.
        source: where it was read from, for errors.
    """

    manifest: Manifest
    model: bytes
    banks: Mapping[str, Mapping[Feature, Bank]]
    golden_wav: bytes
    golden_embedding: Embedding
    model_card: str
    sbom: bytes
    digest: str = ""
    size: int = 0
    source: str = "bundle"

    @property
    def embedding_banks(self) -> dict[str, Bank]:
        """By section the bank that an alert's nearest clip comes from; empty for a system without one."""
        return {section: banks["embedding"] for section, banks in self.banks.items() if banks}

    def detector(self, *, threads: int = 1, runtime: Runtime | None = None) -> Detector:
        """All that turns a waveform into a score, with the interpreter that is installed.

        Raises:
            MissingRequirement: no interpreter, or not the one asked for.
            BundleError: the model doesn't fit the manifest.
        """
        m = self.manifest
        model = TFLiteModel(self.model, m.input_scaling, threads=threads, preferred=runtime)
        expected = (m.front_end.mels, m.windows.frames)
        outputs = m.front_end.mels * m.windows.frames if m.system == "autoencoder" else m.dimensions
        if model.window_shape != expected or model.dimensions != outputs:
            raise BundleError(
                f"{self.source}: model.tflite maps {model.window_shape} to {model.dimensions} values, "
                f"the manifest says {expected} to {outputs}; export the bundle again."
            )
        return Detector(
            front_end=m.front_end,
            windows=m.windows,
            model=systems.of(m.system, model),
            comparisons={
                name: Comparison(self.banks[name], m.backends, section.spreads) if m.backends else None
                for name, section in m.sections.items()
            },
            flipped={name for name, section in m.sections.items() if section.flipped},
        )


def entries_of(banks: Mapping[str, Mapping[Feature, Bank]], fixed: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every entry but the manifest, by name: the `fixed` ones and the banks."""
    entries = dict(fixed)
    for section, by_feature in banks.items():
        for feature, bank in by_feature.items():
            codes, axes, names = _bank_entries(section, feature)
            entries |= {codes: npy.encode(bank.codes), axes: npy.encode(bank.axes)}
            entries[names] = msgspec.json.encode(_Names(bank.scale, bank.clips)) + b"\n"
    return entries


def encode(bundle: Bundle) -> bytes:
    """A bundle as the bytes of its file. The manifest's `entries` are made here, whatever they were."""
    contents = entries_of(
        bundle.banks,
        {
            "model.tflite": bundle.model,
            "golden.wav": bundle.golden_wav,
            "golden.npy": npy.encode(bundle.golden_embedding),
            "model_card.md": bundle.model_card.encode(),
            "sbom.json": bundle.sbom,
        },
    )
    described = {name: Entry(bytes=len(content), sha256=_sha256(content)) for name, content in contents.items()}
    stated = msgspec.structs.replace(bundle.manifest, entries=described)
    return pack({"manifest.json": manifest.encode(stated), **contents})


def pack(contents: Mapping[str, bytes]) -> bytes:
    """A zip of stored entries, manifest first, then by name; the same contents give the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents, key=lambda name: (name != "manifest.json", name)):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, contents[name])
    return file.getvalue()


def write(path: Path, bundle: Bundle) -> None:
    """Write a bundle, whole or not at all. Raises: StorageError."""
    files.write_bytes(path, encode(bundle))


def read(path: Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: no such file, too large, or anything in it that can't be verified.
    """
    return decode(content_of(path), str(path))


def content_of(path: Path) -> bytes:
    """The bytes of a bundle, for `decode`, which refuses those of a larger file. Raises: BundleError."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_BUNDLE + 1)
    except OSError as error:
        raise BundleError(f"{path}: can't be read ({error.strerror}); give the path of an .easd file.") from error


def decode(content: bytes, source: str) -> Bundle:
    """Verify the bytes of a bundle; `source` names it in errors. Raises: BundleError."""
    if len(content) > LARGEST_BUNDLE:
        raise BundleError(
            f"{source}: larger than {LARGEST_BUNDLE >> 20} MiB, which no bundle is; is it the right file?"
        )
    contents = _unpack(content, source)
    stated = manifest.decode(contents.pop("manifest.json"), source)
    _compare(stated, contents, source)
    if _version(stated.minimum_runtime) > _version(__version__):
        raise BundleError(
            f"{source}: needs edge-asd {stated.minimum_runtime} or later, this is {__version__}; update edge-asd here."
        )
    banks = {
        section: {feature: _bank(section, feature, stated, contents, source) for feature in stated.features}
        for section in stated.sections
    }
    golden = _array(contents["golden.npy"], ["<f4"], "golden.npy", source)
    if golden.shape != (stated.dimensions,) or not np.isfinite(golden).all():
        raise BundleError(
            f"{source}: golden.npy has shape {golden.shape}, expected ({stated.dimensions},) finite values."
        )
    return Bundle(
        manifest=stated,
        model=contents["model.tflite"],
        banks=banks,
        golden_wav=contents["golden.wav"],
        golden_embedding=golden,
        model_card=contents["model_card.md"].decode(errors="replace"),
        sbom=contents["sbom.json"],
        digest=digest(content),
        size=len(content),
        source=source,
    )


def digest(content: bytes) -> str:
    """The identity of a bundle: the first 16 digits of its file's SHA-256."""
    return _sha256(content)[:16]


def _unpack(content: bytes, source: str) -> dict[str, bytes]:
    """The entries of a zip that holds nothing but stored entries, one behind the other."""
    _check_end(content, source)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if len(infos) > MOST_ENTRIES:
                raise BundleError(f"{source}: {len(infos)} entries, a bundle has at most {MOST_ENTRIES}.")
            _check_layout(infos, archive.start_dir, len(content), source)
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OverflowError, ValueError) as error:
        raise BundleError(f"{source}: damaged or not a bundle ({error}); copy or export it again.") from error


def _check_end(content: bytes, source: str) -> None:
    """Refuse a directory of more entries than a bundle has, before zipfile makes an object of each.

    Only where the end record is the last thing there, and the only one, does zipfile go by what is read here.
    """
    record = content[-_END_RECORD:]
    if len(record) < _END_RECORD or not record.startswith(b"PK\5\6") or record[-2:] != b"\0\0":
        raise BundleError(
            f"{source}: damaged or not a bundle, or holds bytes that belong to no entry; copy or export it again."
        )
    if content[-_END_RECORD - _ZIP64_LOCATOR :].startswith(b"PK\6\7"):
        raise BundleError(f"{source}: says its counts in a way that no bundle does; export the bundle again.")
    entries, size = struct.unpack("<HI", record[10:16])
    if entries > MOST_ENTRIES or size > _LARGEST_DIRECTORY:
        raise BundleError(
            f"{source}: {entries} entries in a directory of {size} bytes, a bundle has at most {MOST_ENTRIES} in "
            f"{_LARGEST_DIRECTORY}."
        )


def _check_layout(infos: list[zipfile.ZipInfo], directory: int, size: int, source: str) -> None:
    """Entries, then a directory of them that begins at `directory`, then the end record: nothing before or between."""
    names = [info.filename for info in infos]
    if "manifest.json" not in names:
        raise BundleError(f"{source}: has no manifest.json, so it is not a bundle.")
    if len(set(names)) != len(names):
        raise BundleError(f"{source}: holds the same entry twice; export the bundle again.")
    offset = 0
    for info in infos:
        if not _may_be_named(info.filename):
            raise BundleError(f"{source}: holds an entry {info.filename!r}, which no bundle has.")
        limit = LARGEST_MANIFEST if info.filename == "manifest.json" else LARGEST_BUNDLE
        if info.file_size > limit:
            raise BundleError(f"{source}: {info.filename} claims {info.file_size} bytes, the limit is {limit}.")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 0x1:
            raise BundleError(f"{source}: {info.filename} is compressed or encrypted; bundles store their entries.")
        if info.header_offset != offset:
            raise BundleError(f"{source}: holds bytes that belong to no entry; export the bundle again.")
        offset += _LOCAL_HEADER + len(info.filename) + info.file_size
    end = directory + sum(_CENTRAL_HEADER + len(name) for name in names) + _END_RECORD
    if directory != offset or size != end:
        raise BundleError(f"{source}: holds bytes that belong to no entry; export the bundle again.")


def _may_be_named(name: str) -> bool:
    if name == "manifest.json" or name in _FIXED:
        return True
    folder, _, file = name.partition("/")
    section = file.split(".")[0]
    known = [each for feature in get_args(Feature) for each in _bank_entries(section, feature)]
    return folder == "bank" and bool(manifest.NAME.fullmatch(section)) and name in known


def _bank_entries(section: str, feature: Feature) -> tuple[str, str, str]:
    """The names of a bank's codes, its axes, and of what names its clips."""
    stem = f"bank/{section}.{feature}"
    return f"{stem}.codes.npy", f"{stem}.axes.npy", f"{stem}.json"


def _compare(stated: Manifest, contents: Mapping[str, bytes], source: str) -> None:
    """Hold what is there against what the manifest says, and what the manifest says against what must be."""
    banks = [_bank_entries(section, feature) for section in stated.sections for feature in stated.features]
    needed = {*_FIXED, *(name for names in banks for name in names)}
    for name in sorted(needed - stated.entries.keys()):
        raise BundleError(f"{source}: its manifest doesn't list {name}, which every bundle has.")
    for name in sorted(stated.entries.keys() - needed):
        raise BundleError(f"{source}: its manifest lists {name}, which no section of it needs.")
    for name in sorted(needed - contents.keys()):
        raise BundleError(f"{source}: {name} is missing; copy or export the bundle again.")
    for name in sorted(contents.keys() - needed):
        raise BundleError(f"{source}: {name} is there, but its manifest doesn't list it.")
    for name, entry in stated.entries.items():
        if len(contents[name]) != entry.bytes or _sha256(contents[name]) != entry.sha256:
            raise BundleError(f"{source}: {name} is not what the manifest says (SHA-256); copy the bundle again.")


class _Names(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bank's scale, and the clips that its entries came from."""

    scale: float
    clips: tuple[Annotated[str, Meta(max_length=LONGEST_NAME)], ...]


def _bank(section: str, feature: Feature, stated: Manifest, contents: Mapping[str, bytes], source: str) -> Bank:
    codes_name, axes_name, names_name = _bank_entries(section, feature)
    codes = _array(contents[codes_name], ["|i1", "<i2"], codes_name, source)
    axes = _array(contents[axes_name], ["<f2"], axes_name, source)
    dimensions = stated.dimensions if feature == "embedding" else 2 * stated.front_end.mels
    expected = (stated.sections[section].entries, len(axes))
    if codes.shape != expected:
        raise BundleError(f"{source}: {codes_name} has shape {codes.shape}, expected {expected}.")
    if axes.shape[1:] != (dimensions,) or not np.isfinite(axes).all():
        raise BundleError(f"{source}: {axes_name} has shape {axes.shape}, expected rows of {dimensions} finite values.")
    try:
        names = strict.decoded(contents[names_name], _Names)
        for name in names.clips:
            if not name.isprintable():  # it is shown with every alert, in logs and on terminals
                raise ValueError(f"found the name {name!r}, expected one that can be printed")
        return Bank(codes, axes, names.scale, names.clips)
    except ValueError as error:
        raise BundleError(f"{source}: {names_name} does not describe the bank ({error}).") from error


def _array(content: bytes, kinds: Sequence[str], name: str, source: str) -> NDArray[Any]:
    """An entry that is an array. Raises: BundleError where it can't be read as one."""
    try:
        return npy.decode(content, kinds)
    except ValueError as error:
        raise BundleError(f"{source}: {name} is not an array that can be read ({error}).") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
