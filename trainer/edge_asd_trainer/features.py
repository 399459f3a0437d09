"""Clips to log-mels, once (paper, section 2.1): a file of frames that training cuts its windows from.

The front end is the device's own (NumPy, in as many processes as there are cores), so training and device can't drift
apart. The file is memory-mapped: a data set larger than the memory trains too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_asd import files, progress
from edge_asd.audio import read_clip
from edge_asd.cli import start_logging
from edge_asd.clip_name import ClipName
from edge_asd.errors import DataError
from edge_asd.front_end import FrontEnd, LogMel
from edge_asd.windows import Windows
from edge_asd.workers import each
from edge_asd_trainer.config import fingerprint
from edge_asd_trainer.data import Clip
from edge_asd_trainer.run_folder import remove

CLIPS_A_TASK = 4
FRAMES_AT_ONCE = 16384


class _Index(msgspec.Struct, frozen=True):
    """What a file of frames was made from."""

    fingerprint: str
    frames: list[int]


@dataclass(frozen=True, eq=False)
class LogMels:
    """The log-mels of a data set's clips, one behind the other.

    Attributes:
        path: of the file that holds the frames.
        frames: (all frames, mels) in dB, memory-mapped from it.
        ends: (clips,), where each clip's frames end.
        clips: the clips.
        fingerprint: of the clips' content and the front end.
    """

    path: Path
    frames: NDArray[np.float32]
    ends: NDArray[np.int64]
    clips: Sequence[Clip]
    fingerprint: str

    def __getitem__(self, clip: int) -> LogMel:
        """The log-mel of one clip, (frames, mels)."""
        return self.frames[self._start(clip) : self.ends[clip]]

    def mean_and_deviation(self) -> tuple[float, float]:
        """Over all frames and bands, summed in float64 and block by block, for the file may exceed the memory."""
        count, total, squares = self.frames.size, 0.0, 0.0
        for start in range(0, len(self.frames), FRAMES_AT_ONCE):
            total += float(self.frames[start : start + FRAMES_AT_ONCE].sum(dtype=np.float64))
        mean = total / count
        for start in range(0, len(self.frames), FRAMES_AT_ONCE):
            block = self.frames[start : start + FRAMES_AT_ONCE].astype(np.float64)
            squares += float(np.square(block - mean).sum())
        return mean, float(np.sqrt(squares / count))

    @property
    def names(self) -> list[ClipName]:
        """What the clips' names say."""
        return [clip.name for clip in self.clips]

    def window_starts(self, windows: Windows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First frame of every window of every clip, and the index of its clip."""
        starts, owners = [], []
        for clip, end in enumerate(self.ends):
            start = self._start(clip)
            count = windows.count(int(end - start))
            starts.append(start + windows.hop * np.arange(count))
            owners.append(np.full(count, clip))
        return np.concatenate(starts).astype(np.int64), np.concatenate(owners).astype(np.int64)

    def _start(self, clip: int) -> int:
        return int(self.ends[clip - 1]) if clip else 0


def log_mels(clips: Sequence[Clip], front_end: FrontEnd, windows: Windows, cache: Path) -> LogMels:
    """The log-mels of the clips: from the cache where it was made from these very clips, else computed.

    Args:
        clips: what to transform.
        front_end: how.
        windows: for a clip must hold at least one.
        cache: path of the frames (.npy); beside it stands .json, which says what they were made from.

    Raises:
        ClipError: a clip can't be read, or is shorter than one window; names it.
        StorageError: the cache can't be written.
    """
    made_from = fingerprint(front_end, windows, [(clip.path.name, _sha256(clip.path)) for clip in clips])
    index_file = cache.with_suffix(".json")
    index = _read_index(index_file)
    if index is None or index.fingerprint != made_from or not cache.is_file():
        remove(index_file.parent, index_file.name)  # or it would vouch for new frames if its own writing failed
        index = _Index(made_from, _compute(clips, front_end, windows, cache))
        files.write_bytes(index_file, msgspec.json.encode(index))
    frames = np.load(cache, mmap_mode="r", allow_pickle=False)
    return LogMels(cache, frames, np.cumsum(index.frames, dtype=np.int64), clips, made_from)


def _compute(clips: Sequence[Clip], front_end: FrontEnd, windows: Windows, cache: Path) -> list[int]:
    counts: list[int] = []
    shards = [clips[start : start + CLIPS_A_TASK] for start in range(0, len(clips), CLIPS_A_TASK)]
    processes = min(os.cpu_count() or 1, len(shards))
    transform = partial(_transform, front_end, windows)
    with files.atomic(cache) as beside, progress.bar("log-mels", len(clips)) as bar:
        raw = beside.with_suffix(".raw")
        try:
            with raw.open("wb") as file, each(transform, shards, processes, initializer=start_logging) as transformed:
                for part in transformed:
                    for log_mel in part:
                        file.write(log_mel.tobytes())
                        counts.append(len(log_mel))
                    bar.advance(len(part))
            _as_npy(raw, beside, (sum(counts), front_end.mels))
        finally:
            raw.unlink(missing_ok=True)
    return counts


def _as_npy(raw: Path, npy: Path, shape: tuple[int, int]) -> None:
    """Put NumPy's header before a file of float32."""
    with npy.open("wb") as target, raw.open("rb") as source:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(target, header)  # type: ignore[no-untyped-call]
        while block := source.read(1 << 22):
            target.write(block)


def _transform(front_end: FrontEnd, windows: Windows, clips: Sequence[Clip]) -> list[LogMel]:
    return [_log_mel(clip, front_end, windows) for clip in clips]


def _log_mel(clip: Clip, front_end: FrontEnd, windows: Windows) -> LogMel:
    waveform = read_clip(clip.path, front_end.sample_rate)
    log_mel = front_end.log_mel(waveform)
    if not windows.count(len(log_mel)):
        seconds = len(waveform) / front_end.sample_rate
        least = windows.frames * front_end.hop / front_end.sample_rate
        raise DataError(f"{clip.path}: {seconds:.2f} s long, one window takes {least:.2f} s; record longer clips.")
    return log_mel


def _read_index(path: Path) -> _Index | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Index)
    except (OSError, msgspec.DecodeError):
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
