"""The cache of log-mels: what it is made from, and by what."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asd import __version__
from edge_asd.errors import ClipError, MissingRequirement
from edge_asd.front_end import FrontEnd, LogMel
from edge_asd.windows import Windows
from edge_asd_trainer.config import fingerprint
from edge_asd_trainer.data import Clip, training_clips
from edge_asd_trainer.features import LogMels, compute, log_mels
from edge_asd_trainer.numpy_front_end import log_mels_of


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    """Three clips of different lengths."""
    for number, seconds in enumerate((2.5, 4.0, 3.0)):
        path = tmp_path / "fan" / "train" / f"section_00_source_train_normal_{number:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(0, 0.1, round(seconds * 16000))
        soundfile.write(path, noise, 16000, subtype="PCM_16")
    return training_clips(tmp_path, "fan")


@contextmanager
def here(
    function: Callable[[list[Clip]], list[LogMel]],
    items: Iterable[list[Clip]],
    processes: int,
    *,
    initializer: Callable[[], object] | None = None,
) -> Iterator[Iterator[list[LogMel]]]:
    """Shares work among no processes."""
    yield map(function, items)


def test_the_file_is_the_clips_log_mels_one_behind_the_other(clips: list[Clip], tmp_path: Path) -> None:
    path = tmp_path / "frames.npy"
    counts = compute(clips, FrontEnd(), Windows(), path, partial(log_mels_of, share=here))
    expected = [FrontEnd().log_mel(soundfile.read(clip.path, dtype="float32")[0]) for clip in clips]
    assert counts == [len(log_mel) for log_mel in expected]
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), np.concatenate(expected))


def test_processes_give_what_one_gives(clips: list[Clip], tmp_path: Path) -> None:
    shared = log_mels(clips * 5, FrontEnd(), Windows(), tmp_path / "run" / "train.npy")
    compute(clips * 5, FrontEnd(), Windows(), tmp_path / "alone.npy", partial(log_mels_of, share=here))
    np.testing.assert_array_equal(shared.frames, np.load(tmp_path / "alone.npy"))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["train.json", "train.npy"]


def test_a_fault_half_way_leaves_the_earlier_file_as_it_was(clips: list[Clip], tmp_path: Path) -> None:
    def breaks(*_: object) -> Iterator[LogMel]:
        yield np.ones((3, 128), np.float32)
        raise ClipError("the second can't be read")

    path = tmp_path / "run" / "frames.npy"
    compute(clips, FrontEnd(), Windows(), path, partial(log_mels_of, share=here))
    before = path.read_bytes()
    with pytest.raises(ClipError):
        compute(clips, FrontEnd(), Windows(), path, breaks)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_clip_that_may_not_be_read_is_named(clips: list[Clip], tmp_path: Path) -> None:
    clips[1].path.unlink()
    with pytest.raises(ClipError, match=r"normal_0001.wav: can't be read \(No such file"):
        log_mels(clips, FrontEnd(), Windows(), tmp_path / "run" / "train.npy")


def cached_as(clips: list[Clip], folder: Path, by: str) -> LogMels:
    """A cache that is there already; what stands in it was never computed."""
    some = LogMels(folder / "train.npy", np.zeros((400, 128), np.float32), np.cumsum([100, 200, 100]), clips, "")
    folder.mkdir()
    np.save(some.path, some.frames)
    content = [(clip.path.name, hashlib.sha256(clip.path.read_bytes()).hexdigest()) for clip in clips]
    parts = [__version__, FrontEnd(), Windows(), content, *([by] if by != "numpy" else [])]
    (folder / "train.json").write_text(f'{{"fingerprint": "{fingerprint(*parts)}", "frames": [100, 200, 100]}}')
    return some


@pytest.mark.parametrize("by", ["numpy", "torchaudio"])
def test_a_cache_is_used_where_it_was_made_by_the_same(by: str, clips: list[Clip], tmp_path: Path) -> None:
    cached = cached_as(clips, tmp_path / "run", by)
    found = log_mels(clips, FrontEnd(), Windows(), cached.path, by)
    assert not found.frames.any()
    np.testing.assert_array_equal(found.ends, cached.ends)


def test_a_cache_made_by_torchaudio_is_not_numpys(clips: list[Clip], tmp_path: Path) -> None:
    cached = cached_as(clips, tmp_path / "run", "torchaudio")
    assert log_mels(clips, FrontEnd(), Windows(), cached.path).frames.any()


def test_torchaudio_that_can_not_be_imported_is_an_error_that_says_what_to_install(
    clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(MissingRequirement, match=r"pip install torchaudio.*--set features\.front_end=numpy"):
        log_mels(clips, FrontEnd(), Windows(), tmp_path / "run" / "train.npy", "torchaudio")
    assert list((tmp_path / "run").iterdir()) == []
