"""A sound file as if a microphone heard it, or a folder of them: streamed, never loaded whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
import soundfile

from edge_asd import progress
from edge_asd.audio import opened
from edge_asd.capture.mono import MIX, MonoStream
from edge_asd.capture.source import BLOCK_SECONDS, Block
from edge_asd.errors import CaptureError
from edge_asd.front_end import HIGHEST_RATE

SUFFIXES = (".wav", ".flac")
LOWEST_RATE, MOST_CHANNELS = 4000, 64  # as of a microphone: a quarter of a second of them is read at once

_FULL_SCALE = np.float32(32767 / 32768)

Pace = Literal["realtime", "fast"]


class WavSource:
    """The blocks of a WAV or FLAC file, of any length, rate and number of channels; or of all in a folder, by name."""

    def __init__(self, path: Path, *, sample_rate: int = 16000, channel: int = MIX, pace: Pace = "realtime") -> None:
        """Name the file or folder; it is opened on entering.

        Args:
            path: of the file, or of the folder; folders in it are not looked into.
            sample_rate: of the blocks, Hz.
            channel: the one to listen to, from 0; -1 mixes all down.
            pace: "realtime" gives a block no sooner than a microphone would, "fast" at once.
        """
        self._path = path
        self._sample_rate = sample_rate
        self._channel = channel
        self._pace = pace
        self._file: soundfile.SoundFile | None = None
        self._clips: list[Path] | None = None

    def __enter__(self) -> Self:
        """Open the file, or list the folder. Raises: CaptureError."""
        if self._path.is_dir():
            self._clips = self._listed()
        else:
            self._file = self._open(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __iter__(self) -> Iterator[Block]:
        """The file from where it stands to its end, or one file after the other; `recording` is then its name.

        Raises:
            CaptureError: where the file can't be read or a sample isn't finite; of a folder, where that is so of every
                file in it, while a single one is only said and passed over.
        """
        if self._clips is None:
            if self._file is not None:
                yield from self._blocks(self._path, self._file)
            return
        complaint: CaptureError | None = None
        whole = 0
        for clip in self._clips:
            try:
                with self._open(clip) as file:  # not gone back in: some formats (GSM 6.10) can't be
                    mean = self._mean(clip, file)
                self._file = self._open(clip)
                yield from self._blocks(clip, self._file, clip.name, mean)
                whole += 1
            except CaptureError as error:
                complaint = error
                progress.say(f"edge-asd: {error} Goes on with the next file.")
            finally:
                self._close()
        if complaint and not whole:
            raise CaptureError(f"{self._path}: none of its {len(self._clips)} files can be used; the last: {complaint}")

    def _listed(self) -> list[Path]:
        try:
            clips = [path for path in self._path.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
        except OSError as error:
            raise CaptureError(f"{self._path}: can't be listed ({error}); mend capture.wav or its rights.") from error
        if not clips:
            raise CaptureError(
                f"{self._path}: found no sound file in this folder, expected *.wav or *.flac (folders in it are not "
                "looked into); mend capture.wav."
            )
        return sorted(clips, key=lambda path: path.name)

    def _open(self, path: Path) -> soundfile.SoundFile:
        try:
            if not path.is_file():
                raise CaptureError(f"{path}: there is no such file; give capture.wav the path of a sound file.")
            file = opened(path)
        except (soundfile.SoundFileError, OSError) as error:
            raise CaptureError(f"{path}: can't be read as a sound file ({error}); expected WAV or FLAC.") from error
        if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE or file.channels > MOST_CHANNELS:
            rate, channels = file.samplerate, file.channels
            file.close()
            raise CaptureError(
                f"{path}: says {rate} Hz and {channels} channels, expected {LOWEST_RATE} to {HIGHEST_RATE} Hz and at "
                f"most {MOST_CHANNELS}; record it otherwise."
            )
        if self._channel >= file.channels:
            file.close()
            raise CaptureError(
                f"{path}: has {file.channels} channels, so there is no channel {self._channel} "
                "(they are counted from 0); mend capture.channel."
            )
        return file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _mean(self, path: Path, file: soundfile.SoundFile) -> float:
        """Of all samples of a clip, as they will be given: the paper subtracts it before anything is computed."""
        mono, total, count = MonoStream(file.samplerate, self._sample_rate, self._channel), 0.0, 0
        while len(frames := _read(path, file, file.samplerate)):
            samples = mono.convert(frames)
            total, count = total + float(samples.sum(dtype=np.float64)), count + len(samples)
        samples = mono.convert(np.empty((0, file.channels), np.float32), last=True)
        return (total + float(samples.sum(dtype=np.float64))) / max(1, count + len(samples))

    def _blocks(
        self, path: Path, file: soundfile.SoundFile, recording: str = "", mean: float | None = None
    ) -> Iterator[Block]:
        rate = file.samplerate
        mono = MonoStream(rate, self._sample_rate, self._channel)
        began = time.monotonic()
        heard = 0
        while len(frames := _read(path, file, round(rate * BLOCK_SECONDS))):
            heard += len(frames)
            if not np.isfinite(frames).all():
                raise CaptureError(f"{path}: a sample near {heard / rate:.1f} s is not finite (NaN or infinity).")
            if self._pace == "realtime":
                time.sleep(max(0.0, began + heard / rate - time.monotonic()))
            clipped = int(np.count_nonzero(np.abs(frames) >= _FULL_SCALE))
            yield Block(mono.convert(frames), clipped=clipped, recording=recording, mean=mean)
            recording, mean = "", None
        yield Block(mono.convert(np.empty((0, file.channels), np.float32), last=True), recording=recording, mean=mean)


def _read(path: Path, file: soundfile.SoundFile, frames: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    try:
        read: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise CaptureError(f"{path}: broke off while it was read ({error}).") from error
    return read
