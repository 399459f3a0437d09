"""What a device has learned of its site: some clips of the machine as it runs there, and the threshold that they gave.

    <state>/site/site.json             what was learned last; it is replaced at once, and names the arrays
    <state>/site/site.previous.json    what was in force before, for `edge-asd commission --undo`
    <state>/site/<digest>.log_mels.npy float16 (clips, frames, mels), dB
    <state>/site/<digest>.heard.npy    float32 (clips, values): what the bundle of that day made of them

Log-mels are kept, not embeddings alone: an update brings another network, to which these embeddings would mean nothing.
It hears the same clips again. The threshold doesn't survive that, for nobody has measured what the new one scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge_asd import files, npy, strict
from edge_asd.bundle import Bundle
from edge_asd.comparison import Comparison, Feature, Heard
from edge_asd.deviation import Spectrum
from edge_asd.errors import StorageError, UsageError
from edge_asd.front_end import FrontEnd, LogMel
from edge_asd.scoring import Detector

FOLDER = "site"
FILE, PREVIOUS = "site.json", "site.previous.json"
LARGEST_RECORD = 1 << 20
LARGEST_ARRAY = 64 << 20
MOST_CLIPS = 256

Fingerprint = tuple[int, int] | None
Text = Annotated[str, Meta(max_length=255)]  # that is said to people
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Promise(msgspec.Struct, frozen=True):
    """What a threshold means: alerts that it would have raised while it was measured, and those a week to expect."""

    threshold: float
    alerts: int
    per_week: float


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The record of one commissioning.

    Attributes:
        format_version: 1.
        made_utc: when it was done.
        machine, section: of what.
        bundle: digest of the bundle for which the threshold was measured.
        front_end: of the log-mels.
        clips: their names.
        log_mels, heard: SHA-256 of the arrays; the first 16 digits name their files.
        threshold: the one that was found.
        false_alarms: at most so many a week are to be expected.
        minutes: for which was listened, half of them to learn.
        before, after: what was in force before it meant on site, and what is in force now.
        level_dbfs: of the microphone, median; the sensor's reference.
        spectrum: of the machine as it runs there.
        doubts: what speaks against relying on the threshold.
    """

    format_version: Literal[1]
    made_utc: Text
    machine: Text
    section: Text
    bundle: Text
    front_end: FrontEnd
    clips: Annotated[tuple[Text, ...], Meta(max_length=MOST_CLIPS)]
    log_mels: Digest
    heard: Digest
    threshold: float
    false_alarms: Annotated[float, Meta(gt=0)]
    minutes: float
    before: Promise
    after: Promise
    level_dbfs: float | None
    spectrum: Spectrum
    doubts: tuple[str, ...] = ()

    def promises(self, bundle: Bundle) -> bool:
        """Whether its threshold was measured with this very bundle."""
        return self.bundle == bundle.digest


@dataclass(frozen=True, eq=False)
class Learned:
    """What is kept of some clips: their names, log-mels (frames, mels), and what a detector heard in them."""

    clips: tuple[str, ...]
    log_mels: tuple[LogMel, ...]
    heard: tuple[Heard, ...]


def joined(detector: Detector, section: str, learned: Learned) -> Detector:
    """A detector that knows these clips of a section as normal ones, too; the same one where it compares nothing.

    Raises:
        StorageError: what was heard of them can't be learned.
    """
    comparison = detector.comparisons[section]
    if comparison is None or not learned.clips:
        return detector
    spread = {one.feature for one in comparison.backends if one.distance == "mahalanobis"}
    try:
        banks = {
            feature: bank.joined(_rows(learned.heard, feature), learned.clips, spread=feature in spread)
            for feature, bank in comparison.banks.items()
        }
    except ValueError as error:  # of what isn't finite, or far from what any network gives
        raise StorageError(
            f"what was learned on site is of no use ({error}); run `edge-asd commission` again."
        ) from error
    more = Comparison(banks, comparison.backends, comparison.spreads)
    return replace(detector, comparisons={**detector.comparisons, section: more})


def _rows(heard: Sequence[Heard], feature: Feature) -> NDArray[np.float32]:
    return np.stack([getattr(one, feature) for one in heard])


def write(state: Path, site: Site, learned: Learned) -> Site:
    """Put what was learned in force, whole or not at all; what was before is kept for `undo`. Raises: StorageError."""
    folder = state / FOLDER
    log_mels = npy.encode(np.array(learned.log_mels, np.float16))
    heard = npy.encode(np.array([_flat(one) for one in learned.heard], np.float32))
    site = msgspec.structs.replace(site, clips=learned.clips, log_mels=_sha256(log_mels), heard=_sha256(heard))
    for digest, kind, content in ((site.log_mels, "log_mels", log_mels), (site.heard, "heard", heard)):
        files.write_bytes(folder / _name(digest, kind), content)
    if (before := _content(folder / FILE)) is not None and _record(before):
        files.write_bytes(folder / PREVIOUS, before)
    else:  # nothing, or nothing that one could go back to
        (folder / PREVIOUS).unlink(missing_ok=True)
    files.write_bytes(folder / FILE, msgspec.json.format(msgspec.json.encode(site), indent=1) + b"\n")
    _tidy(folder)
    return site


def undo(state: Path) -> Site | None:
    """Put in force what was before the last commissioning: an earlier one, or none, and then all comes from the bundle.

    Raises:
        UsageError: there is nothing to undo.
        StorageError: the folder can't be written.
    """
    folder = state / FOLDER
    if _content(folder / FILE) is None:
        raise UsageError(f"{state}: nothing was learned with this state folder, so there is nothing to undo.")
    try:
        before = _content(folder / PREVIOUS)
        if before is None or not _record(before):
            (folder / FILE).unlink()
            (folder / PREVIOUS).unlink(missing_ok=True)
        else:
            files.write_bytes(folder / FILE, before)
            (folder / PREVIOUS).unlink()
        files.sync(folder)  # before the arrays go: a record that came back would miss them
        _tidy(folder)
    except OSError as error:
        raise files.unwritable(folder, error) from error
    return read(state)


def read(state: Path) -> Site | None:
    """What was learned with this state folder; None where nothing was. Raises: StorageError."""
    path = state / FOLDER / FILE
    content = _content(path)
    if content is None:
        return None
    try:
        return strict.decoded(content, Site)
    except ValueError as error:
        raise StorageError(
            f"{path}: isn't what `edge-asd commission` writes ({error}); run it again, or `edge-asd commission --undo`."
        ) from error


def fingerprint(state: Path, known: Fingerprint = None) -> Fingerprint:
    """Changes when what is in force does; None where nothing is.

    What can't be seen now, or was lost with its folder, is in force as it was `known`: only `undo` takes a record away
    and leaves the folder.
    """
    try:
        found = (state / FOLDER / FILE).stat()
    except FileNotFoundError:
        return None if (state / FOLDER).is_dir() else known
    except OSError:
        return known
    return found.st_ino, found.st_mtime_ns


def learned(state: Path, site: Site, bundle: Bundle, detector: Detector) -> Learned:
    """The clips of a site, heard by this bundle's detector: anew where it isn't the one of that day.

    Raises:
        StorageError: an array is missing or damaged, or of another front end.
    """
    if site.front_end != detector.front_end:
        raise StorageError(f"{state / FOLDER}: was learned with another front end; run `edge-asd commission` again.")
    folder = state / FOLDER
    kept = _array(folder, site.log_mels, "log_mels", "<f2", 3)
    if kept.shape[2] != site.front_end.mels:
        raise StorageError(f"{folder}: holds {kept.shape[2]} bands; run `edge-asd commission` again.")
    log_mels = tuple(one.astype(np.float32) for one in kept)
    if site.promises(bundle):
        flat = _array(folder, site.heard, "heard", "<f4", 2)
        if flat.shape[1] != (width := _width(bundle, detector)):
            raise StorageError(
                f"{folder}: was heard as {flat.shape[1]} values, not {width}; run `edge-asd commission` again."
            )
        heard = tuple(_heard(row, bundle.manifest.dimensions) for row in flat)
    else:
        heard = tuple(detector.hear(one) for one in log_mels)
    if not len(site.clips) == len(log_mels) == len(heard):
        raise StorageError(
            f"{folder}: has {len(log_mels)} clips of {len(site.clips)}; run `edge-asd commission` again."
        )
    return Learned(site.clips, log_mels, heard)


def _width(bundle: Bundle, detector: Detector) -> int:
    """Of what is heard of a clip, as `_flat` has it."""
    return bundle.manifest.dimensions + (2 * detector.front_end.mels if detector.looks_at_statistics else 0)


def _flat(heard: Heard) -> NDArray[np.float32]:
    return heard.embedding if heard.statistics is None else np.concatenate([heard.embedding, heard.statistics])


def _heard(row: NDArray[np.float32], dimensions: int) -> Heard:
    return Heard(row[:dimensions], row[dimensions:] if len(row) > dimensions else None)


def _array(folder: Path, digest: str, kind: str, dtype: str, dimensions: int) -> NDArray[Any]:
    path = folder / _name(digest, kind)
    content = _content(path, LARGEST_ARRAY)
    if content is None or _sha256(content) != digest:
        raise StorageError(f"{path}: is missing or damaged; run `edge-asd commission` again.")
    try:
        array = npy.decode(content, [dtype])
    except ValueError as error:
        raise StorageError(f"{path}: is no array ({error}); run `edge-asd commission` again.") from error
    if array.ndim != dimensions:
        raise StorageError(f"{path}: holds {array.dtype} {array.shape}; run `edge-asd commission` again.")
    return array


def _content(path: Path, largest: int = LARGEST_RECORD) -> bytes | None:
    """Of a file, or None where there is none. Raises: StorageError."""
    content = files.beginning(path, largest + 1)
    if content is not None and len(content) > largest:
        raise StorageError(f"{path}: larger than {largest >> 20} MiB, which nothing learned is; move it away.")
    return content


def tidy(state: Path) -> None:
    """Remove what a commissioning that broke off left; nothing where a record can't be read, as a later version's.

    Raises:
        StorageError, OSError: the folder can't be read or written.
    """
    folder = state / FOLDER
    records = [content for name in (FILE, PREVIOUS) if (content := _content(folder / name)) is not None]
    if folder.is_dir() and all(map(_record, records)):
        _tidy(folder)


def _tidy(folder: Path) -> None:
    """Remove the arrays that no record names any more."""
    needed = {FILE, PREVIOUS}
    for name in (FILE, PREVIOUS):
        if (content := _content(folder / name)) and (record := _record(content)):
            needed |= {_name(record.log_mels, "log_mels"), _name(record.heard, "heard")}
    for path in folder.iterdir():
        if path.name not in needed:
            path.unlink(missing_ok=True)


def _record(content: bytes) -> Site | None:
    try:
        return strict.decoded(content, Site)
    except ValueError:
        return None


def _name(digest: str, kind: str) -> str:
    return f"{digest[:16]}.{kind}.npy"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
