"""What can be measured of a clip by itself: level, offset, clipping, stretches without sound, and its identity."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from edge_asd.front_end import Samples

FULL_SCALE = 0.999  # an integer format's largest value is a step below 1


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """A clip in numbers.

    Attributes:
        seconds: length.
        sample_rate: Hz, of the file.
        channels: of the file.
        level: RMS of the channels' mean without its offset, dB of full scale; None where nothing sounds at all.
        offset: mean of the samples, of the channel where it is farthest from 0; 1 is full scale.
        clipped: share of the samples at full scale, of the channel that has most.
        stuck_seconds: the longest stretch of one and the same value, in a channel that does sound.
        stuck_at: the second at which it begins.
        dead_channels: channels, counted from 1, that hold one value only.
        content: SHA-256 of the channels' mean, the same for the same sound in another file or format.
    """

    seconds: float
    sample_rate: int
    channels: int
    level: float | None
    offset: float
    clipped: float
    stuck_seconds: float
    stuck_at: float
    dead_channels: list[int]
    content: str


def measure(samples: Samples, sample_rate: int) -> Measures:
    """Measure a clip.

    Args:
        samples: (samples, channels) in [-1, 1], at least one.
        sample_rate: Hz.
    """
    count, channels = samples.shape
    mono = np.ascontiguousarray(samples.mean(axis=1, dtype=np.float32))
    runs = [_longest_run(samples[:, channel]) for channel in range(channels)]
    dead = [channel for channel, (_, length) in enumerate(runs) if length == count]
    start, length = max(
        (run for channel, run in enumerate(runs) if channel not in dead), key=lambda run: run[1], default=(0, 0)
    )
    means = samples.mean(axis=0, dtype=np.float64)
    power = float(np.square(mono - mono.mean(dtype=np.float64)).mean(dtype=np.float64))
    return Measures(
        seconds=count / sample_rate,
        sample_rate=sample_rate,
        channels=channels,
        level=None if len(dead) == channels or power == 0 else 10.0 * float(np.log10(power)),
        offset=float(means[np.argmax(np.abs(means))]),
        clipped=float((np.abs(samples) >= FULL_SCALE).mean(axis=0).max()),
        stuck_seconds=length / sample_rate,
        stuck_at=start / sample_rate,
        dead_channels=[channel + 1 for channel in dead],
        content=hashlib.sha256(f"{sample_rate} ".encode() + mono.tobytes()).hexdigest(),
    )


def _longest_run(channel: Samples) -> tuple[int, int]:
    """Where the longest run of one value begins, and how many samples it has."""
    ends = np.append(np.flatnonzero(channel[1:] != channel[:-1]), len(channel) - 1)
    lengths = np.diff(ends, prepend=-1)
    longest = int(np.argmax(lengths))
    return int(ends[longest] - lengths[longest] + 1), int(lengths[longest])
