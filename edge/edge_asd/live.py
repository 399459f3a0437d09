"""What the daemon knows at this moment, for those who look over its shoulder: the page, Prometheus, a broker.

One thread tells, any others look; all of it is bounded and none of it is on the disk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import numpy as np

from edge_asd.front_end import LogMel
from edge_asd.scoring import Score
from edge_asd.status import Status

T = TypeVar("T")

RECENT_SCORES = 3600  # of a quarter of an hour, one each 256 ms
MINUTES = 24 * 60
FRAMES = 640  # 20 s of log-mel
FLOOR_DB, STEP_DB = -80.0, 0.5  # of a frame's values as they are kept: a byte each


@dataclass(frozen=True)
class Point:
    """A score, and when it was, in seconds since 1970 by the wall clock."""

    utc: float
    value: float


@dataclass(frozen=True)
class Minute:
    """What a minute's scores were: when it began, in seconds since 1970, the least, their mean and the largest."""

    utc: float
    least: float
    mean: float
    most: float


class Live:
    """The newest scores, minutes, log-mel and status. `since` and what comes back with the answer count from the
    beginning of the run, so that who asks again gets only what is new.
    """

    def __init__(self, status: Status) -> None:
        """Begin with nothing but a first status."""
        self._lock = threading.Lock()
        self._status = status
        self._points: deque[Point] = deque(maxlen=RECENT_SCORES)
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)
        self._frames: deque[bytes] = deque(maxlen=FRAMES)
        self._told_points = self._told_frames = 0
        self._minute: Minute | None = None  # that isn't over, whose mean is the sum so far, of so many scores
        self._minute_scores = 0

    def take(self, score: Score, now: datetime) -> None:
        """A score, as it became ready."""
        utc = now.timestamp()
        with self._lock:
            self._points.append(Point(utc, score.value))
            self._told_points += 1
            began = utc - utc % 60  # the wall clock may jump: a minute is over when another one begins
            now_running = self._minute
            if now_running and now_running.utc == began:
                least, most = min(now_running.least, score.value), max(now_running.most, score.value)
                self._minute = Minute(began, least, now_running.mean + score.value, most)
                self._minute_scores += 1
            else:
                self._end_minute()
                self._minute, self._minute_scores = Minute(began, score.value, score.value, score.value), 1

    def show(self, frames: LogMel) -> None:
        """The newest frames of the log-mel, (n, mels) in dB."""
        codes = np.clip((frames - FLOOR_DB) / STEP_DB, 0, 255).astype(np.uint8)
        with self._lock:
            self._frames.extend(row.tobytes() for row in codes)
            self._told_frames += len(codes)

    def tell(self, status: Status) -> None:
        """How things stand."""
        with self._lock:
            self._status = status

    @property
    def status(self) -> Status:
        """As it was told last."""
        with self._lock:
            return self._status

    def points(self, since: int = 0) -> tuple[int, Sequence[Point]]:
        """The scores after the first `since`, as far as they are kept, and how many there were so far."""
        with self._lock:
            return self._told_points, _newest(self._points, self._told_points - since)

    def minutes(self) -> Sequence[Minute]:
        """Those that are over, at most of a day."""
        with self._lock:
            return list(self._minutes)

    def frames(self, since: int = 0) -> tuple[int, bytes]:
        """The frames after the first `since`: a byte a band, FLOOR_DB + STEP_DB * byte dB, low bands first."""
        with self._lock:
            new: Sequence[bytes] = _newest(self._frames, self._told_frames - since)
            return self._told_frames, b"".join(new)

    def _end_minute(self) -> None:
        if over := self._minute:
            self._minutes.append(replace(over, mean=over.mean / self._minute_scores))
            self._minute = None


def _newest(kept: deque[T], count: int) -> list[T]:
    return list(kept)[max(0, len(kept) - max(0, count)) :]
