"""A data set's folders, in the layout of DCASE Task 2: <data>/<machine>/{train,test}/<clip>.wav.

<data> may also hold the challenge's two halves, dev_data and eval_data, whose clips are then taken together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_asd.audio import sound_files
from edge_asd.clip_name import ClipName, parse_clip_name
from edge_asd.errors import DataError

HALVES = ("dev_data", "eval_data")
FEWEST_TRAINING_CLIPS = 2


@dataclass(frozen=True)
class Clip:
    """A sound file and what its name says."""

    path: Path
    name: ClipName


def machines(data: Path) -> list[str]:
    """The machine types in a data set, sorted."""
    return sorted({folder.name for root in roots(data) for folder in root.iterdir() if (folder / "train").is_dir()})


def training_clips(data: Path, machine: str) -> list[Clip]:
    """The normal clips to train on, sorted by name.

    Raises:
        DataError: no such folder, no clips, a clip that is labelled anomalous, or a section with one clip only.
        ClipNameError: a name that doesn't parse.
    """
    clips = _clips(data, machine, "train")
    if not clips:
        found = ", ".join(machines(data)) if data.is_dir() else ""
        raise DataError(
            f"{data / machine / 'train'}: no clips there; expected WAV or FLAC files in that folder"
            + (f" (machine types found in {data}: {found})." if found else ".")
        )
    for clip in clips:
        if clip.name.label == "anomaly":
            raise DataError(f"{clip.path}: an anomalous clip among the training clips; move it to the test folder.")
    for section, count in Counter(clip.name.section for clip in clips).items():
        if count < FEWEST_TRAINING_CLIPS:
            raise DataError(
                f"{data / machine / 'train'}: section {section} has one clip only; a threshold needs the distance "
                f"between normal clips, so record at least {FEWEST_TRAINING_CLIPS}, better 50."
            )
    return clips


def evaluation_clips(data: Path, machine: str, sections: Collection[str]) -> list[Clip]:
    """The clips to evaluate on, sorted by name; empty where the data set has none.

    Raises:
        ClipNameError: a name that doesn't parse.
        DataError: a clip of a section that isn't among `sections`, those that were trained on.
    """
    clips = _clips(data, machine, "test")
    for clip in clips:
        if clip.name.section not in sections:
            raise DataError(
                f"{clip.path}: belongs to section {clip.name.section}, of which there are no training clips; "
                f"there are some of {', '.join(sorted(sections))}. Record some, or move this clip away."
            )
    return clips


def _clips(data: Path, machine: str, split: Literal["train", "test"]) -> list[Clip]:
    if not data.is_dir():
        raise DataError(f"{data}: there is no such folder; give the folder that holds {machine}/train.")
    paths = [path for root in roots(data) for path in sound_files(root / machine / split)]
    return [Clip(path, parse_clip_name(path.name)) for path in sorted(paths, key=lambda path: (path.name, path))]


def roots(data: Path) -> list[Path]:
    """Where the machine types' folders are: the data set's folder, or the challenge's two halves in it."""
    halves = [data / half for half in HALVES if (data / half).is_dir()]
    return halves or [data]
