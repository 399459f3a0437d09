"""Ground truth given as CSV, for test clips whose names say neither label nor domain: the challenge's evaluation set.

It comes in one of three forms, none with a header; label 1 is an anomaly, domain 1 is the target:

    FOLDER/ground_truth_data/ground_truth_<machine>_section_<SS>_test.csv      section_03_0000.wav,0    (label)
    FOLDER/ground_truth_domain/ground_truth_<machine>_section_<SS>_test.csv    section_03_0000.wav,1    (domain)
    FOLDER/ground_truth_<machine>_section_<SS>_test.csv                        section_03_0000.wav,0[,1]
    FILE.csv                                                                   section_03_0000.wav,0[,1]

The first is that of the challenge's official evaluator (github.com/Kota-Dohi/dcase2022_evaluator), as it is cloned.
"""

from __future__ import annotations

import csv
import glob
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from edge_asd import files
from edge_asd.clip_name import Domain, Label, section_named
from edge_asd.errors import DataError
from edge_asd_trainer.data import Clip

LABELS_FOLDER, DOMAINS_FOLDER = "ground_truth_data", "ground_truth_domain"
LARGEST_FILE = 4 * 2**20  # bytes; the challenge's have 200 clips in 5 kB

_FILE_NAME = re.compile(r"ground_truth_(?P<machine>.+)_section_(?P<section>\d{2})_test\.csv")
_ENDING = re.compile(r"\.(?:wav|flac)$", re.IGNORECASE)
_TEST_OF_UNLABELLED = re.compile(r"^(section_\d{2})_test_(\d+)$")

# What a column may hold, and what that means.
_COLUMNS: Mapping[str, Mapping[str, str]] = {
    "label": {"0": "normal", "1": "anomaly"},
    "domain": {"0": "source", "1": "target", "source": "source", "target": "target"},
}
_LABEL, _DOMAIN, _BOTH = ("label",), ("domain",), ("label", "domain")  # what may stand behind a clip's name


@dataclass(frozen=True)
class Truth:
    """What is known of one clip; `place` is where that is said, a file and a line."""

    label: Label
    domain: Domain | None
    place: str


GroundTruth = Mapping[str, Truth]  # by `clip_key`


@dataclass(frozen=True)
class _Row:
    """What stands behind a clip's name, by column, and where: a file and a line."""

    said: Mapping[str, str]
    place: str


def clip_key(file: str) -> str:
    """What a clip is called whatever its format: no ending, and section_03_0000 for section_03_test_0000 too.

    The evaluation set's clips have been seen under both names; the evaluator's files know the former alone.
    """
    return _TEST_OF_UNLABELLED.sub(r"\1_\2", _ENDING.sub("", file))


def read(path: Path, machine: str) -> GroundTruth:
    """Read the ground truth of one machine type.

    Args:
        path: a file or a folder as above. Rows of one file all have a domain, or none has.
        machine: its files are looked for in a folder; a file that is named for another one is refused.

    Raises:
        StorageError: a file can't be read.
        DataError: nothing there, no file for this machine type, no domains for a section that has labels in the
            evaluator's folder, or a file that is too large, empty, not UTF-8 or not such rows; a clip twice with
            different values. File and line are named.
    """
    if path.is_file():
        _refuse_another_machine(path, machine)
        return _truths(_rows(path, _LABEL, _BOTH))
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder; give the ground truth's CSV file, or its folder.")
    if (path / LABELS_FOLDER).is_dir() or (path / DOMAINS_FOLDER).is_dir():
        sections = [
            _with_domains(_rows(file, _LABEL), path / DOMAINS_FOLDER / file.name)
            for file in _files(path / LABELS_FOLDER, machine)
        ]
    elif path.resolve().name == DOMAINS_FOLDER:
        raise DataError(f"{path}: holds the domains alone, and no labels; give the folder above it.")
    else:
        sections = [_rows(file, _LABEL, _BOTH) for file in _files(path, machine)]
    return _truths({clip: row for rows in sections for clip, row in rows.items()})


def named(clips: Sequence[Clip], truth: GroundTruth) -> list[Clip]:
    """The clips with label and domain filled in, in their order.

    A clip that the ground truth doesn't name stays as it is: it is scored, and enters no figure. Rows without a clip
    are left aside: part of a data set may be here, some sections or some clips. But where a section has clips and rows,
    some row must be of some clip.

    Raises:
        DataError: a clip's own name says another label or domain; no row of a section is of any of its clips, or no
            section has both, so that the ground truth is of other clips.
    """
    keys = [clip_key(clip.path.name) for clip in clips]
    _refuse_other_clips(clips, keys, truth)
    return [_named(clip, truth[key]) if key in truth else clip for clip, key in zip(clips, keys, strict=True)]


def _named(clip: Clip, truth: Truth) -> Clip:
    for own, told in ((clip.name.label, truth.label), (clip.name.domain, truth.domain)):
        if own and told and own != told:
            raise DataError(
                f"{clip.path}: is {own} by its name, and {told} by {truth.place}; correct the one that is wrong."
            )
    domain = truth.domain or clip.name.domain
    return replace(clip, name=replace(clip.name, label=truth.label, domain=domain))


def _refuse_other_clips(clips: Sequence[Clip], keys: Sequence[str], truth: GroundTruth) -> None:
    of_sections: dict[str | None, str] = {}
    for key in truth:
        of_sections.setdefault(section_named(key), key)
    fitting = {clip.name.section for clip, key in zip(clips, keys, strict=True) if key in truth}
    for clip in clips:
        row = of_sections.get(clip.name.section)
        if row and clip.name.section not in fitting:
            raise DataError(
                f"{truth[row].place}: names {row}, and no row names a clip of section {clip.name.section}, such as "
                f"{clip.path}; give the ground truth of these clips."
            )
    if clips and not fitting:
        sections = ", ".join(sorted({clip.name.section for clip in clips}))
        place = next(iter(truth.values())).place.rpartition(":")[0] if truth else "the ground truth"
        raise DataError(f"{place}: has no row for any test clip, which are of section {sections}; give theirs.")


def _files(folder: Path, machine: str) -> list[Path]:
    """The files of a machine type in a folder, a section each, sorted."""
    pattern = f"ground_truth_{glob.escape(machine)}_section_[0-9][0-9]_test.csv"
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not found:
        parts = [_FILE_NAME.fullmatch(path.name) for path in folder.glob("ground_truth_*_test.csv")]
        others = ", ".join(sorted({one["machine"] for one in parts if one})) or "none"
        raise DataError(
            f"{folder}: no ground truth of {machine}; expected files like "
            f"ground_truth_{machine}_section_03_test.csv there (machine types found: {others})."
        )
    return found


def _refuse_another_machine(path: Path, machine: str) -> None:
    match = _FILE_NAME.fullmatch(path.name)
    if match and match["machine"] != machine:
        raise DataError(f"{path}: the ground truth of {match['machine']} by its name, not of {machine}; give that one.")


def _with_domains(labels: Mapping[str, _Row], path: Path) -> dict[str, _Row]:
    """The labels' rows with the domain that another file gives to each; both must name the same clips."""
    if not path.is_file():
        place = next(iter(labels.values())).place.rpartition(":")[0]
        raise DataError(f"{path}: no such file; the clips of {place} need a domain each, as in the evaluator's folder.")
    domains = _rows(path, _DOMAIN)
    for clip in sorted(labels.keys() ^ domains.keys()):
        known, other = (domains[clip].place, "labels") if clip in domains else (labels[clip].place, path)
        raise DataError(f"{known}: names {clip}, which is missing in the {other}; both must name the same clips.")
    return {clip: _Row({**row.said, **domains[clip].said}, row.place) for clip, row in labels.items()}


def _truths(rows: Mapping[str, _Row]) -> dict[str, Truth]:
    return {
        clip: Truth(cast("Label", row.said["label"]), cast("Domain | None", row.said.get("domain")), row.place)
        for clip, row in rows.items()
    }


def _rows(path: Path, *forms: tuple[str, ...]) -> dict[str, _Row]:
    """A file's rows by `clip_key`; all of one form, which is the columns behind the name."""
    match = _FILE_NAME.fullmatch(path.name)
    rows: dict[str, _Row] = {}
    for line, (name, *cells) in _lines(path):
        place = f"{path}:{line}"
        form = next((form for form in forms if len(form) == len(cells)), None)
        if form is None:
            raise DataError(
                f"{place}: {len(cells) + 1} columns; expected "
                + " or ".join(",".join(("name", *form)) for form in forms)
                + (", in every row alike." if rows else ".")
            )
        forms = (form,)
        _refuse_name(name, match and match["section"], place)
        row = _Row({column: _meaning(column, cell, place) for column, cell in zip(form, cells, strict=True)}, place)
        earlier = rows.setdefault(clip_key(name), row)
        if earlier.said != row.said:
            raise DataError(f"{place}: says of {name} something else than {earlier.place}; correct one of them.")
    if not rows:
        raise DataError(f"{path}: is empty; expected a row a clip, such as section_03_0000.wav,0.")
    return rows


def _refuse_name(name: str, section: str | None, place: str) -> None:
    """A clip's name is the file's, without a folder, and says its section, which is that of the CSV file's own name."""
    if "/" in name or "\\" in name:
        raise DataError(
            f"{place}: {name[:80]!r} has a folder; expected the file's name alone, such as section_03_0000.wav."
        )
    own = section_named(name)
    if own is None:
        raise DataError(
            f"{place}: {name[:80]!r} says no section; expected a clip's name, such as section_03_0000.wav, no header."
        )
    if section not in (None, own):
        raise DataError(f"{place}: {name} is of section {own} in a file of section {section}; move the row there.")


def _meaning(column: str, cell: str, place: str) -> str:
    allowed = _COLUMNS[column]
    if cell not in allowed:
        expected = ", ".join(
            f"{value} ({meaning})" if value != meaning else value for value, meaning in allowed.items()
        )
        raise DataError(f"{place}: {column} {cell[:80]!r}; expected one of {expected}.")
    return allowed[cell]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that aren't blank, each with its line, counted from 1."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise files.unreadable(path, error) from error
    if len(content) > LARGEST_FILE:
        raise DataError(f"{path}: larger than {LARGEST_FILE // 2**20} MiB; expected a short row a clip.")
    try:
        text = content.decode("utf-8-sig")  # spreadsheets put a byte-order mark in front
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8; expected a CSV file, saved as UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}: not CSV ({error}); expected rows like section_03_0000.wav,0."
        ) from error
