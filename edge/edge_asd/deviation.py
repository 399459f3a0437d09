"""Where in the spectrum a strange sound differs from normal, so that a person knows where to look.

The score comes from a network, which doesn't say what it heard. Beside it stands what a spectrum analyser would show:
the level of every mel band over the last 10 s, held against what that level is in normal clips.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_asd.events import Band
from edge_asd.front_end import FrontEnd, LogMel

MOST_BANDS = 3
LEAST_DEVIATION_DB = 1.0  # of a level from clip to clip; less is only that there were few clips
NOTABLE = 2.0  # deviations


class Spectrum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The level of every mel band in normal clips, (mels,) dB: its mean over them and its standard deviation."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, clips: Iterable[LogMel]) -> Spectrum:
        """Of clips' log-mels (frames, mels), in tenths of a dB; at least one."""
        levels = np.array([level(clip) for clip in clips])
        return cls(*(tuple(round(float(one), 1) for one in row) for row in (levels.mean(axis=0), levels.std(axis=0))))


def level(log_mel: LogMel) -> NDArray[np.float64]:
    """Mean level of every band of a log-mel (frames, mels), (mels,) dB."""
    mean: NDArray[np.float64] = log_mel.mean(axis=0, dtype=np.float64)
    return mean


def deviating(log_mel: LogMel, normal: Spectrum, front_end: FrontEnd) -> tuple[Band, ...]:
    """The ranges of frequency in which a sound deviates most, at most three, the most deviant first.

    A range is a band and its neighbours that deviate in the same direction by half as much at least, in units of the
    normal clips' spread; the first is always named, others where they deviate notably.
    """
    difference = level(log_mel) - np.array(normal.mean)
    score = difference / np.maximum(normal.deviation, LEAST_DEVIATION_DB)
    edges, found = front_end.band_edges, list[Band]()
    while len(found) < MOST_BANDS:
        top = int(np.argmax(np.abs(score)))
        if abs(score[top]) < NOTABLE and (found or not score[top]):
            break
        similar = score * np.sign(score[top]) >= abs(score[top]) / 2
        first = top - int(np.argmin(np.append(similar[top::-1], False))) + 1
        last = top + int(np.argmin(np.append(similar[top:], False))) - 1
        here = slice(first, last + 1)
        numbers = edges[first], edges[last + 2], difference[here].mean()
        found.append(Band(*(round(float(number), 1) for number in numbers)))
        score[here] = 0.0
    return tuple(found)
