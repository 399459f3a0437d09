"""What is wrong with a machine's clips together: too few of them, twice the same, unlike the others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from edge_asd.manifest import NAME
from edge_asd_trainer.data.dataset import FEWEST_TRAINING_CLIPS
from edge_asd_trainer.data.findings import Finding, HeardClip, finding
from edge_asd_trainer.data.measures import Measures

GOOD_NUMBER = 50  # training clips of a section: of fewer, the threshold, a tail of their distances, is a guess
LENGTH_TOLERANCE = 0.1
FEWEST_FOR_A_LEVEL = 8  # clips, before anything can be said of their usual level
LARGEST_LEVEL_Z = 5.0
SMALLEST_LEVEL_SPREAD = 1.0  # dB; a unit in steady state stays within tenths, and a dB more is no fault
NORMAL_MAD = 1.4826  # standard deviation of a normal distribution, in median absolute deviations


def of_machine(machine: str, train: Path, clips: Sequence[HeardClip]) -> Iterator[Finding]:
    """What is wrong with a machine's clips as a whole.

    Args:
        machine: machine type.
        train: the folder of its training clips, to name where there are none.
        clips: all of them, training clips first.
    """
    if not NAME.fullmatch(machine):
        yield finding(
            "machine-name",
            train.parent,
            "the name goes into the bundle, where it is 1 to 32 of 0-9 A-Z a-z _ -; rename the folder.",
        )
    yield from _of_numbers(train, clips)
    yield from _of_formats(clips)
    yield from _of_levels(clips)
    yield from _of_copies(clips)


def _of_numbers(train: Path, clips: Sequence[HeardClip]) -> Iterator[Finding]:
    training = [clip for clip in clips if clip.split == "train"]
    test = [clip for clip in clips if clip.split == "test"]
    if not training:
        yield finding("no-training-clips", train, "no clips there; expected WAV or FLAC files of normal sound.")
    if training and all(clip.measures and clip.measures.level is None for clip in training):
        yield finding("all-silent", train, "all clips are digital silence; was the microphone muted? Record again.")
    sections = _by_section(training)
    for section, own in sections.items():
        if len(own) < FEWEST_TRAINING_CLIPS:
            yield finding(
                "single",
                own[0].path,
                f"the only training clip of section {section}; a threshold needs the distance between normal clips, so "
                f"record at least {FEWEST_TRAINING_CLIPS}, better {GOOD_NUMBER}.",
            )
        elif len(own) < GOOD_NUMBER:
            yield finding(
                "few",
                own[0].path.parent,
                f"section {section} has {len(own)} training clips, expected {GOOD_NUMBER} or more for a threshold that "
                "can be trusted; record more.",
            )
    if len(sections) == 1:
        yield finding(
            "one-section",
            train,
            f"section {next(iter(sections))} alone, so fine-tuning will be left out: there is nothing to tell it apart "
            "from. Clips of a second unit or machine as another section make the detector better.",
        )
    for section, own in _by_section(test).items():
        if training and section not in sections:
            yield finding(
                "untrained-section",
                own[0].path,
                f"{_one_of(own)} of section {section}, of which there are no training clips; there are some of "
                f"{', '.join(sections) or 'none'}. Record some, or move the test clips away.",
            )
    if training and not test:
        yield finding(
            "no-test-clips",
            train.parent / "test",
            "no clips there, so nothing will say how well the detector does; some normal ones and, if it can be had, "
            "some of a fault would.",
        )


def _of_formats(clips: Sequence[HeardClip]) -> Iterator[Finding]:
    heard = [(clip, clip.measures) for clip in clips if clip.measures]
    if not heard:
        return
    properties: list[tuple[str, str, Callable[[Measures], int]]] = [
        ("sample-rate", "Hz", lambda measures: measures.sample_rate),
        ("channels", "channels", lambda measures: measures.channels),
    ]
    for kind, unit, value in properties:
        usual, number = Counter(value(measures) for _, measures in heard).most_common(1)[0]
        for clip, measures in heard:
            if value(measures) != usual:
                yield finding(
                    kind,
                    clip.path,
                    f"{value(measures)} {unit}, expected {usual} {unit} as {number} of {len(heard)} clips have; the "
                    "network may learn the recorder instead of the machine, so record all in the same way.",
                )
    median = float(np.median([measures.seconds for _, measures in heard]))
    unlike = [pair for pair in heard if abs(pair[1].seconds - median) > LENGTH_TOLERANCE * median]
    if len(unlike) > len(heard) // 2:  # cut by hand: none is the usual length
        return
    for clip, measures in unlike:
        yield finding(
            "length",
            clip.path,
            f"{measures.seconds:.1f} s long, expected about {median:.1f} s as most clips are; was it cut off, or are "
            "there several in it?",
        )


def _of_levels(clips: Sequence[HeardClip]) -> Iterator[Finding]:
    """Training clips alone: that a broken machine is louder is no fault of the recording."""
    groups = defaultdict(list)
    for clip in clips:
        if clip.split == "train" and clip.name and clip.measures and clip.measures.level is not None:
            groups[clip.name.section, clip.name.domain].append((clip, clip.measures.level))
    for (section, _), group in groups.items():
        if len(group) < FEWEST_FOR_A_LEVEL:
            continue
        levels = np.array([level for _, level in group])
        median = float(np.median(levels))
        spread = max(NORMAL_MAD * float(np.median(np.abs(levels - median))), SMALLEST_LEVEL_SPREAD)
        for clip, level in group:
            if abs(level - median) > LARGEST_LEVEL_Z * spread:
                yield finding(
                    "level",
                    clip.path,
                    f"a level of {level:.1f} dB, expected {median:.1f} ± {spread:.1f} dB as of the others of section "
                    f"{section}; was the gain, the microphone's place or the machine's state another one?",
                )


def _of_copies(clips: Sequence[HeardClip]) -> Iterator[Finding]:
    first: dict[str, HeardClip] = {}
    for clip in clips:
        if not clip.measures or clip.measures.level is None:
            continue
        original = first.setdefault(clip.measures.content, clip)
        if original is clip:
            continue
        if original.split != clip.split:
            harm = "the detector has learnt what it is tested on, and its figures will be too good"
        elif clip.split == "train":
            harm = "their distance is 0, and the threshold will be too low"
        else:
            harm = "it counts twice in the figures"
        yield finding("twice", clip.path, f"the same sound as {original.path}: {harm}; remove one of them.")


def _by_section(clips: Sequence[HeardClip]) -> dict[str, list[HeardClip]]:
    sections = defaultdict(list)
    for clip in clips:
        if clip.name:
            sections[clip.name.section].append(clip)
    return dict(sorted(sections.items()))


def _one_of(clips: Sequence[HeardClip]) -> str:
    return "a test clip" if len(clips) == 1 else f"one of {len(clips)} test clips"
