"""Clips to log-mels, once (paper, section 2.1): a file of frames that training cuts its windows from.

The front end is the device's own, or torchaudio's, which a test holds to it within 1e-3 dB. The file is memory-mapped:
a data set larger than the memory trains too.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_asd import __version__, files, progress
from edge_asd.clip_name import ClipName
from edge_asd.errors import ClipError
from edge_asd.front_end import FrontEnd, LogMel
from edge_asd.windows import Windows
from edge_asd_trainer import numpy_front_end
from edge_asd_trainer.config import fingerprint
from edge_asd_trainer.data import Clip
from edge_asd_trainer.run_folder import remove

CLIPS_AT_ONCE = 32  # that a thread takes up to hash
FRAMES_AT_ONCE = 16384

# The log-mel of each clip, in order.
Transform = Callable[[Sequence[Clip], FrontEnd, Windows], Generator[LogMel]]


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
        self.let_go()
        return mean, float(np.sqrt(squares / count))

    def let_go(self) -> None:
        """What was read needs no longer be resident; it is read again, mostly from the system's cache, when wanted."""
        if isinstance(self.frames.base, mmap.mmap):
            self.frames.base.madvise(mmap.MADV_DONTNEED)

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


def log_mels(
    clips: Sequence[Clip],
    front_end: FrontEnd,
    windows: Windows,
    cache: Path,
    by: Literal["numpy", "torchaudio"] = "numpy",
) -> LogMels:
    """The log-mels of the clips: from the cache where it was made from these very clips, else computed.

    Args:
        clips: what to transform.
        front_end: how.
        windows: for a clip must hold at least one.
        cache: path of the frames (.npy); beside it stands .json, which says what they were made from.
        by: what computes them, see `config.Features`. It is part of what the cache was made from, for torchaudio's
            may differ by a rounding, and the same run must always give the same bundle.

    Raises:
        ClipError: a clip can't be read.
        DataError: a clip is shorter than one window; names it.
        MissingRequirement: torchaudio is to compute and can't be imported.
        StorageError: the cache can't be written.
    """
    made_from = fingerprint_of(clips, front_end, windows, by)
    index_file = cache.with_suffix(".json")
    index = _read_index(index_file)
    if index is None or index.fingerprint != made_from or not cache.is_file():
        remove(index_file.parent, index_file.name)  # or it would vouch for new frames if its own writing failed
        index = _Index(made_from, compute(clips, front_end, windows, cache, _transform(by)))
        files.write_bytes(index_file, msgspec.json.encode(index))
    # Nobody writes to it: "copy on write" is for PyTorch, which warns of an array that can't be written to.
    frames = np.load(cache, mmap_mode="c", allow_pickle=False)
    return LogMels(cache, frames, np.cumsum(index.frames, dtype=np.int64), clips, made_from)


def fingerprint_of(clips: Sequence[Clip], front_end: FrontEnd, windows: Windows, by: str = "numpy") -> str:
    """Of the clips' names and content, the front end, and the program's version. Raises: ClipError."""
    some = [clips[start : start + CLIPS_AT_ONCE] for start in range(0, len(clips), CLIPS_AT_ONCE)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # SHA-256 runs without the interpreter's lock
        content = list(chain.from_iterable(threads.map(_content, some)))
    return fingerprint(__version__, front_end, windows, content, *([] if by == "numpy" else [by]))


def compute(
    clips: Sequence[Clip], front_end: FrontEnd, windows: Windows, path: Path, transform: Transform
) -> list[int]:
    """Write the frames of all clips to a .npy file, whole or not at all; returns how many each clip has.

    Raises:
        As `log_mels`.
    """
    counts: list[int] = []
    with files.atomic(path) as beside, progress.bar("log-mels", len(clips)) as bar, beside.open("wb") as file:
        file.write(_npy_header(0, front_end.mels))
        with closing(transform(clips, front_end, windows)) as transformed:
            for log_mel in transformed:
                file.write(log_mel.data)
                counts.append(len(log_mel))
                bar.advance()
        file.seek(0)
        file.write(_npy_header(sum(counts), front_end.mels))
    return counts


def _npy_header(frames: int, mels: int) -> bytes:
    """NumPy's header of a file of (frames, mels) float32; always as long, for NumPy leaves room for a larger number."""
    header = io.BytesIO()
    of = {"descr": "<f4", "fortran_order": False, "shape": (frames, mels)}
    np.lib.format.write_array_header_1_0(header, of)  # type: ignore[no-untyped-call]
    return header.getvalue()


def _transform(by: str) -> Transform:
    if by == "torchaudio":
        from edge_asd_trainer import torchaudio_front_end

        return torchaudio_front_end.log_mels_of
    return numpy_front_end.log_mels_of


def _read_index(path: Path) -> _Index | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Index)
    except (OSError, msgspec.DecodeError):
        return None


def _content(clips: Sequence[Clip]) -> list[tuple[str, str]]:
    return [(clip.path.name, _sha256(clip.path)) for clip in clips]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ClipError(f"{path}: can't be read ({error.strerror}); mend the permissions.") from error
