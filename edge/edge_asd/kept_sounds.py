"""The sound around an alert, for a person to hear, and a picture of it: a bounded folder, filled beside the daemon."""

from __future__ import annotations

import io
import queue
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from edge_asd import files, progress
from edge_asd.clock import iso
from edge_asd.events import Stamp
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.picture import png

if TYPE_CHECKING:
    from edge_asd.settings import ClipSettings

FOLDER = "sounds"
MOST_AT_ONCE = 4  # alerts whose sound is still being collected or written; of more none is kept
FULL_SCALE = 32768

Pcm = NDArray[np.int16]


@dataclass
class _Open:
    """A sound that is being collected."""

    name: str
    missing: int  # samples
    parts: list[Pcm] = field(default_factory=list)


class SoundKeeper:
    """Remembers the last seconds, and writes them and the next ones to the disk when it is told to.

    Writing is a thread's work, so that a slow card delays no score; what can't be written is said once.
    """

    def __init__(
        self, folder: Path, settings: ClipSettings, front_end: FrontEnd, *, say: Callable[[str], None] = progress.say
    ) -> None:
        """Keep sounds in `folder`, which is made when the first one is written."""
        self._folder = folder
        self._settings = settings
        self._front_end = front_end
        self._say = say
        self._past: deque[Pcm] = deque()
        self._held = 0
        self._open: list[_Open] = []
        self._waiting: queue.Queue[_Open | None] = queue.Queue(MOST_AT_ONCE + 1)
        self._thread = threading.Thread(target=self._write_all, name="sounds", daemon=True)
        self._failed = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what was collected so far, as far as a few seconds allow."""
        for sound in self._open:
            self._hand_over(sound)
        self._waiting.put(None)
        self._thread.join(timeout=5.0)

    def take(self, samples: Samples) -> None:
        """The next (n,) samples in [-1, 1], at the front end's rate."""
        if not len(samples) or not self._settings.keep_mb:
            return
        pcm = np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        self._past.append(pcm)
        self._held += len(pcm)
        while self._held - len(self._past[0]) >= self._settings.before_seconds * self._front_end.sample_rate:
            self._held -= len(self._past.popleft())
        for sound in list(self._open):
            sound.parts.append(pcm)
            sound.missing -= len(pcm)
            if sound.missing <= 0:
                self._open.remove(sound)
                self._hand_over(sound)

    def forget(self) -> None:
        """What comes next doesn't follow on what was."""
        self._past.clear()
        self._held = 0

    def keep(self, raised: Stamp, identity: str) -> str:
        """Keep what was heard before this moment and will be after it; give its name, or "" where none is kept."""
        if not self._settings.keep_mb or len(self._open) + self._waiting.qsize() >= MOST_AT_ONCE:
            return ""
        name = f"{re.sub('[^0-9TZ]', '', iso(raised.utc))}-{identity[:8]}"
        missing = round(self._settings.after_seconds * self._front_end.sample_rate)
        sound = _Open(name, missing, list(self._past))
        if missing:
            self._open.append(sound)
        else:
            self._hand_over(sound)
        return name

    def _hand_over(self, sound: _Open) -> None:
        try:
            self._waiting.put_nowait(sound)
        except queue.Full:
            self._say(f"edge-asd: the sound {sound.name} isn't kept: others still wait for the disk")

    def _write_all(self) -> None:
        while (sound := self._waiting.get()) is not None:
            try:
                self._write(sound)
                self._failed = False
            except Exception as error:  # libsndfile has errors of its own, and a thread that ended would keep none
                if not self._failed:
                    self._say(f"edge-asd: the sounds of alerts can't be kept: {error}")
                self._failed = True

    def _write(self, sound: _Open) -> None:
        import soundfile  # only a device that ever raised an alert loads it

        pcm = np.concatenate(sound.parts) if sound.parts else np.zeros(1, np.int16)
        path = self._folder / f"{sound.name}.{self._settings.format}"
        sound_file = io.BytesIO()  # libsndfile doesn't say that a disk is full where it finds out while it closes
        soundfile.write(sound_file, pcm, self._front_end.sample_rate, format=self._settings.format, subtype="PCM_16")
        files.write_bytes(path, sound_file.getvalue())
        log_mel = self._front_end.log_mel(pcm.astype(np.float32) / FULL_SCALE)
        files.write_bytes(path.with_suffix(".png"), png(log_mel))
        prune(self._folder, self._settings.keep_mb << 20, spare=sound.name)


def prune(folder: Path, most: int, spare: str = "") -> None:
    """Remove the oldest files, whose names begin with their time, until at most so many bytes remain.

    The clock may have gone back, so that the newest looks the oldest: that one, by its name, is spared.
    """
    found = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: (path.stem == spare, path))
    sizes = [path.stat().st_size for path in found]
    total = sum(sizes)
    for path, size in zip(found, sizes, strict=True):
        if total <= most or (spare and path.stem == spare):
            return
        path.unlink(missing_ok=True)
        total -= size
