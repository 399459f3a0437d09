"""A sound file as if a microphone heard it: streamed, never loaded whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import soundfile

from edge_asd.capture.mono import MIX, MonoStream
from edge_asd.capture.source import BLOCK_SECONDS, Block
from edge_asd.errors import CaptureError

Pace = Literal["realtime", "fast"]


class WavSource:
    """The blocks of a WAV or FLAC file, of any length, rate and number of channels."""

    def __init__(self, path: Path, *, sample_rate: int = 16000, channel: int = MIX, pace: Pace = "realtime") -> None:
        """Name the file; it is opened on entering.

        Args:
            path: of the file.
            sample_rate: of the blocks, Hz.
            channel: the one to listen to, from 0; -1 mixes all down.
            pace: "realtime" gives a block no sooner than a microphone would, "fast" at once.
        """
        self._path = path
        self._sample_rate = sample_rate
        self._channel = channel
        self._pace = pace

    def __enter__(self) -> Self:
        """Open the file. Raises: CaptureError."""
        try:
            if not self._path.is_file():
                raise CaptureError(f"{self._path}: there is no such file; give capture.wav the path of a sound file.")
            self._file = soundfile.SoundFile(self._path)
        except (soundfile.SoundFileError, OSError) as error:
            raise CaptureError(
                f"{self._path}: can't be read as a sound file ({error}); expected WAV or FLAC."
            ) from error
        if self._channel >= self._file.channels:
            self._file.close()
            raise CaptureError(
                f"{self._path}: has {self._file.channels} channels, so there is no channel {self._channel} "
                "(they are counted from 0); mend capture.channel."
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Block]:
        """The file from where it stands to its end. Raises: CaptureError where a sample isn't finite."""
        rate = self._file.samplerate
        mono = MonoStream(rate, self._sample_rate, self._channel)
        began = time.monotonic()
        heard = 0
        while len(frames := self._read(round(rate * BLOCK_SECONDS))):
            heard += len(frames)
            if not np.isfinite(frames).all():
                raise CaptureError(f"{self._path}: a sample near {heard / rate:.1f} s is not finite (NaN or infinity).")
            if self._pace == "realtime":
                time.sleep(max(0.0, began + heard / rate - time.monotonic()))
            yield Block(mono.convert(frames))
        yield Block(mono.convert(np.empty((0, self._file.channels), np.float32), last=True))

    def _read(self, frames: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        try:
            read: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = self._file.read(
                frames, dtype="float32", always_2d=True
            )
        except soundfile.SoundFileError as error:
            raise CaptureError(f"{self._path}: broke off while it was read ({error}).") from error
        return read
