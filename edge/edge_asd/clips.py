"""Clips to verdicts: which files, whose section, what score."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, NamedTuple

import msgspec

from edge_asd import bundle as bundles
from edge_asd import progress
from edge_asd.audio import read_clip, sound_files
from edge_asd.bundle import Bundle
from edge_asd.clip_name import section_named
from edge_asd.errors import BundleError, ClipError, ClipNameError, DataError
from edge_asd.manifest import Section
from edge_asd.scoring import ClipScorer
from edge_asd.thresholds import Choice, chosen
from edge_asd.workers import each

# Clips are shared among so many processes that each has at least this many. A process takes 0.3 to 0.45 s to start, in
# which 30 clips of 10 s are scored; measured on two cores, 40 clips take as long shared as not, 60 a little less.
CLIPS_A_PROCESS = 30


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

    def __init__(self, bundle: Bundle, choice: Choice) -> None:
        detector = bundle.detector()
        self._scorer = ClipScorer(detector)
        self._rate = detector.front_end.sample_rate
        self._sections = bundle.manifest.sections
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


def judge_all(
    bundle: Bundle,
    choice: Choice,
    clips: Sequence[Path],
    section: str,
    write: Callable[[ClipVerdict], None],
    *,
    jobs: int = 1,
) -> None:
    """Judge clip after clip and write each verdict in their order; a clip that can't be used doesn't stop the others.

    Args:
        bundle: as it was read from its file, which other processes read again.
        choice: of threshold.
        clips: the files.
        section: of all, or "" where each belongs to its own.
        write: takes the verdicts, each as soon as those before it are there.
        jobs: most processes, this one among them, that share the clips, if they are many. Nothing that
            is said depends on it.

    Raises:
        DataError: of the last clip that couldn't be used; of those before it a line was said.
        StorageError: a process was ended from outside.
    """
    refused: DataError | None = None
    # A bar is in the way of verdicts on the same terminal, and they show how far it is themselves.
    watched = len(clips) > 1 and not sys.stdout.isatty()
    with (
        progress.bar("Scoring", len(clips)) if watched else nullcontext() as bar,
        _outcomes(bundle, choice, clips, section, min(jobs, len(clips) // CLIPS_A_PROCESS)) as outcomes,
    ):
        for outcome in outcomes:
            if isinstance(outcome, ClipVerdict):
                write(outcome)
            else:
                if refused:
                    progress.say(f"edge-asd: {refused}")
                refused = outcome
            if bar:
                bar.advance()
    if refused:
        raise refused


class _Told(NamedTuple):
    """What came of a clip, and the log lines about it, which are to appear in the clips' order too."""

    outcome: ClipVerdict | DataError
    log: list[logging.LogRecord]


class _Charge(NamedTuple):
    """What a process that judges clips is told: the bundle's file and digest, and as in `judge_all`."""

    path: Path
    digest: str
    choice: Choice
    section: str
    log_level: int


@contextmanager
def _outcomes(
    bundle: Bundle, choice: Choice, clips: Sequence[Path], section: str, jobs: int
) -> Iterator[Iterator[ClipVerdict | DataError]]:
    judge = ClipJudge(bundle, choice)
    if jobs <= 1:
        yield (_outcome(judge, section, clip) for clip in clips)
        return
    level = logging.getLogger().level
    charge = _Charge(Path(bundle.source), bundle.digest, choice, section, level)
    with each(partial(_elsewhere, charge), clips, jobs - 1, here=partial(_told, judge, section, level)) as results:
        yield (_repeated(told) for told in results)


def _outcome(judge: ClipJudge, section: str, clip: Path) -> ClipVerdict | DataError:
    try:
        return judge.judge(clip, section)
    except DataError as error:
        return error


def _elsewhere(charge: _Charge, clip: Path) -> _Told:
    """One clip, in another process. Raises: BundleError."""
    return _told(_judge_of(charge.path, charge.digest, charge.choice), charge.section, charge.log_level, clip)


@lru_cache(maxsize=1)
def _judge_of(path: Path, digest: str, choice: Choice) -> ClipJudge:
    """A process's judge, of the file that the first one read. Raises: BundleError where it was replaced meanwhile."""
    bundle = bundles.read(path)
    if bundle.digest != digest:
        raise BundleError(f"{path}: was replaced while clips were scored with it; run the command again.")
    return ClipJudge(bundle, choice)


def _told(judge: ClipJudge, section: str, log_level: int, clip: Path) -> _Told:
    root, lines = logging.getLogger(), SimpleQueue[logging.LogRecord]()
    before = root.handlers, root.level
    root.handlers = [QueueHandler(lines)]
    root.setLevel(log_level)
    try:
        outcome = _outcome(judge, section, clip)
    finally:
        root.handlers, level = before
        root.setLevel(level)
    return _Told(outcome, [lines.get() for _ in range(lines.qsize())])


def _repeated(told: _Told) -> ClipVerdict | DataError:
    for record in told.log:
        logging.getLogger(record.name).handle(record)
    return told.outcome
