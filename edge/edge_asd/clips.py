"""Clips to verdicts: which files, whose section, what score."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import msgspec

from edge_asd import progress
from edge_asd.audio import read_clip, sound_files
from edge_asd.clip_name import section_named
from edge_asd.errors import ClipError, ClipNameError, DataError
from edge_asd.manifest import Section
from edge_asd.scoring import ClipScorer, Detector
from edge_asd.thresholds import Choice, chosen


class ClipVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one clip; `nearest` is the normal clip nearest to it."""

    file: str
    section: str
    score: float
    threshold: float
    verdict: Literal["normal", "anomalous"]
    nearest: str


def found(paths: Iterable[Path]) -> list[Path]:
    """The files themselves, and every WAV and FLAC file below the folders, by name.

    Raises:
        DataError: a folder without one.
    """
    clips = []
    for path in paths:
        is_folder = os.path.isdir(path)  # false too where one may not look; reading it as a clip then says why
        below = sound_files(path, below=True) if is_folder else [path]
        if not below:
            raise DataError(f"{path}: no WAV or FLAC file in this folder or below it; give a folder of clips.")
        clips += below
    return clips


def section_of(clip: Path, sections: Mapping[str, Section]) -> str:
    """The section that a clip belongs to: its name says so, or the bundle has only one.

    Raises:
        ClipNameError: the name says nothing, or a section that the bundle doesn't have.
    """
    known = ", ".join(sorted(sections))
    named = section_named(clip.name)
    if named is not None and named in sections:
        return named
    if named:
        raise ClipNameError(
            f"{clip}: its name says section {named}, the bundle has {known}; say which one with --section."
        )
    if len(sections) > 1:
        raise ClipNameError(
            f"{clip}: its name doesn't say its section (section_00_...); say it with --section ({known})."
        )
    return next(iter(sections))


class ClipJudge:
    """Scores clips against the thresholds of a bundle."""

    def __init__(self, detector: Detector, sections: Mapping[str, Section], choice: Choice) -> None:
        self._scorer = ClipScorer(detector)
        self._rate = detector.front_end.sample_rate
        self._sections = sections
        self._choice = choice

    def judge(self, clip: Path, section: str = "") -> ClipVerdict:
        """One clip, against a section or the one that it belongs to.

        Raises:
            ClipError: it can't be read, or is too short.
            ClipNameError: its section isn't known.
        """
        section = section or section_of(clip, self._sections)
        waveform = read_clip(clip, self._rate)
        try:
            score = self._scorer.score(waveform, section)
        except ClipError as error:  # it knows the samples, not the file
            raise ClipError(f"{clip}: {error}") from error
        threshold = chosen(self._sections[section].thresholds, self._choice)
        return ClipVerdict(
            file=str(clip),
            section=section,
            score=score.value,
            threshold=threshold,
            verdict="anomalous" if score.value > threshold else "normal",
            nearest=score.nearest,
        )


def judge_all(judge: ClipJudge, clips: Sequence[Path], section: str, write: Callable[[ClipVerdict], None]) -> None:
    """Judge clip after clip and write each verdict at once; a clip that can't be used doesn't stop the others.

    Raises:
        DataError: of the last clip that couldn't be used; of those before it a line was said.
    """
    refused: DataError | None = None
    # A bar is in the way of verdicts on the same terminal, and they show how far it is themselves.
    watched = len(clips) > 1 and not sys.stdout.isatty()
    with progress.bar("Scoring", len(clips)) if watched else nullcontext() as bar:
        for clip in clips:
            try:
                write(judge.judge(clip, section))
            except DataError as error:
                if refused:
                    progress.say(f"edge-asd: {refused}")
                refused = error
            if bar:
                bar.advance()
    if refused:
        raise refused
