"""What is wrong with one clip: a function of what was measured of it.

An error is what training or evaluation would refuse. With a warning they go on, and the detector or its figures will be
the worse for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from edge_asd.clip_name import ClipName
from edge_asd.front_end import FrontEnd
from edge_asd.windows import Windows
from edge_asd_trainer.data.measures import Measures

LARGEST_OFFSET = 0.05  # of full scale; the front end removes it, but it takes room and says that something is wrong
LARGEST_CLIPPED = 1e-3  # share of the samples; 160 a second at 16 kHz, no longer a stray knock
LONGEST_STUCK = 0.1  # seconds; real noise repeats a 16-bit value a handful of times in a row

Severity = Literal["error", "warning"]
Split = Literal["train", "test"]

# Every kind of finding, and how grave it is.
KINDS: dict[str, Severity] = {
    "machine-name": "error",  # can't go into a bundle
    "clip-name": "error",  # doesn't say section, domain, label
    "unreadable": "error",  # not a sound file, empty, NaN, too long
    "short": "error",  # less than one window
    "anomaly": "error",  # among the training clips
    "no-training-clips": "error",
    "single": "error",  # a section of one training clip
    "untrained-section": "error",  # test clips of a section without training clips
    "all-silent": "error",  # no training clip sounds
    "silent": "warning",  # one value throughout
    "dead-channel": "warning",
    "stuck": "warning",  # a stretch of one value
    "clipped": "warning",
    "offset": "warning",
    "low-rate": "warning",  # the upper mel bands are empty
    "sample-rate": "warning",  # another one than most
    "channels": "warning",  # another number than most
    "length": "warning",  # another one than most
    "level": "warning",  # far from the others of section and domain
    "twice": "warning",  # the same sound under two names
    "few": "warning",  # training clips in a section
    "one-section": "warning",  # fine-tuning will be left out
    "no-test-clips": "warning",
    "not-taken": "warning",  # a file in train or test that no command takes for a clip
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    Attributes:
        severity: of its kind.
        kind: one of KINDS, for programs.
        place: the clip, or the folder where it is about several.
        message: what was found, what was expected, how to mend it.
    """

    severity: Severity
    kind: str
    place: str
    message: str


@dataclass(frozen=True)
class HeardClip:
    """A clip, and all that is known of it.

    Attributes:
        path: of the file.
        split: the folder in which it lies.
        name: what its name says; None where it says nothing.
        measures: None where it can't be read.
        refusals: by kind, why name or sound was refused.
    """

    path: Path
    split: Split
    name: ClipName | None
    measures: Measures | None
    refusals: dict[str, str] = field(default_factory=dict)


def finding(kind: str, place: Path, message: str) -> Finding:
    """A finding of this kind."""
    return Finding(severity=KINDS[kind], kind=kind, place=str(place), message=message)


def of_clip(clip: HeardClip, front_end: FrontEnd, windows: Windows) -> Iterator[Finding]:
    """What is wrong with a clip by itself."""
    for kind, message in clip.refusals.items():
        yield finding(kind, clip.path, message)
    if clip.split == "train" and clip.name and clip.name.label == "anomaly":
        yield finding(
            "anomaly",
            clip.path,
            "an anomalous clip among the training clips, which must all be normal; move it to the test folder.",
        )
    if clip.measures:
        for kind, message in _of_sound(clip.measures, front_end, windows):
            yield finding(kind, clip.path, message)


def _of_sound(m: Measures, front_end: FrontEnd, windows: Windows) -> Iterator[tuple[str, str]]:
    samples = int(m.seconds * front_end.sample_rate + 0.5)  # as many as resampling leaves
    if not windows.count(front_end.frames(samples)):
        least = windows.frames * front_end.hop / front_end.sample_rate
        yield (
            "short",
            f"{m.seconds:.2f} s long, one window takes {least:.2f} s; record longer clips, ten seconds or more.",
        )
    if m.level is None:
        yield (
            "silent",
            "every sample has the same value, expected a machine's sound; was the microphone muted or not plugged in? "
            "Record again or remove the clip.",
        )
        return
    if m.dead_channels:
        which = ", ".join(map(str, m.dead_channels))
        yield (
            "dead-channel",
            f"channel {which} of {m.channels} holds one value only and is averaged with the others, which halves or "
            "lessens them; expected sound in each. Record the channels that have a microphone, or mix down before.",
        )
    if m.stuck_seconds >= LONGEST_STUCK:
        yield (
            "stuck",
            f"from {m.stuck_at:.2f} s on the same value for {m.stuck_seconds:.2f} s, expected a sound that changes all "
            "the time; were samples lost while recording? Record again or remove the clip.",
        )
    if m.clipped > LARGEST_CLIPPED:
        yield (
            "clipped",
            f"{100 * m.clipped:.3g} % of the samples are at full scale, expected at most "
            f"{100 * LARGEST_CLIPPED:.3g} %; turn the gain down and record again.",
        )
    if abs(m.offset) > LARGEST_OFFSET:
        yield (
            "offset",
            f"its samples are off zero by {100 * m.offset:.3g} % of full scale, expected at most "
            f"{100 * LARGEST_OFFSET:.3g} %; look at the microphone's supply, or switch its high-pass filter on.",
        )
    if m.sample_rate < 2 * front_end.fmax:
        yield (
            "low-rate",
            f"recorded at {m.sample_rate} Hz, so the mel bands above {m.sample_rate / 2:.0f} Hz are empty; expected "
            f"{2 * front_end.fmax:.0f} Hz or more. Record again: resampling doesn't bring them back.",
        )
