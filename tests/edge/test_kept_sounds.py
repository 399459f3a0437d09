"""The sound around an alert: what was before it and what comes after, bounded, with its picture; a bad disk is said."""

from __future__ import annotations

import resource
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asd.events import Stamp
from edge_asd.front_end import FrontEnd
from edge_asd.kept_sounds import MOST_AT_ONCE, SoundKeeper, prune
from edge_asd.picture import png
from edge_asd.settings import ClipSettings

RATE = 16000
RAISED = Stamp(datetime(2026, 3, 1, 12, 0, 0, 250000, UTC), 5.0, "boot", True)


def ramp(seconds: float) -> np.ndarray:
    return (np.arange(round(seconds * RATE)) % 30000 / 32767).astype(np.float32)


def feed(keeper: SoundKeeper, samples: np.ndarray) -> None:
    for start in range(0, len(samples), 512):
        keeper.take(samples[start : start + 512])


@pytest.mark.parametrize("kind", ["flac", "wav"])
def test_before_and_after_are_kept_sample_by_sample(tmp_path: Path, kind: str) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, 6 * RATE, np.int16)
    sound = pcm.astype(np.float32) / 32768
    settings = ClipSettings(before_seconds=2.0, after_seconds=1.0, format=kind)  # type: ignore[arg-type]
    with SoundKeeper(tmp_path / "sounds", settings, FrontEnd()) as keeper:
        feed(keeper, sound[: 4 * RATE])
        name = keeper.keep(RAISED, "0123456789abcdef")
        feed(keeper, sound[4 * RATE :])
    assert name == "20260301T120000250Z-01234567"
    samples, rate = soundfile.read(tmp_path / "sounds" / f"{name}.{kind}", dtype="int16")
    assert rate == RATE
    assert 3 * RATE <= len(samples) < 3 * RATE + 2 * 512
    windows = np.lib.stride_tricks.sliding_window_view(pcm, 8)
    [start] = np.flatnonzero((windows == samples[:8]).all(axis=1))
    assert 2 * RATE - 512 <= start <= 2 * RATE
    np.testing.assert_array_equal(samples, pcm[start : start + len(samples)])
    assert (tmp_path / "sounds" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_collected_is_kept_when_the_daemon_ends(tmp_path: Path) -> None:
    with SoundKeeper(tmp_path, ClipSettings(before_seconds=1.0, after_seconds=60.0), FrontEnd()) as keeper:
        feed(keeper, ramp(3))
        name = keeper.keep(RAISED, "a" * 32)
        feed(keeper, ramp(0.5))
    assert soundfile.info(tmp_path / f"{name}.flac").duration == pytest.approx(1.5, abs=0.05)


def test_only_the_newest_sounds_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"2026030{number}T000000000Z-a.flac").write_bytes(bytes(1000))
    prune(tmp_path, 2500)
    assert sorted(path.name[:8] for path in tmp_path.iterdir()) == ["20260303", "20260304"]


def test_the_newest_is_spared_though_the_clock_went_back(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"2026030{number}T000000000Z-a.flac").write_bytes(bytes(1000))
    (tmp_path / "20250101T000000000Z-b.flac").write_bytes(bytes(1000))
    prune(tmp_path, 2500, spare="20250101T000000000Z-b")
    assert sorted(path.name[:8] for path in tmp_path.iterdir()) == ["20250101", "20260304"]


def test_what_the_library_says_of_a_disk_ends_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    settings = ClipSettings(before_seconds=1.0, after_seconds=0.0)

    def full(*arguments: object, **options: object) -> None:
        raise soundfile.LibsndfileError(3)

    with SoundKeeper(tmp_path, settings, FrontEnd(), say=said.append) as keeper:
        feed(keeper, ramp(1))
        with monkeypatch.context() as patch:
            patch.setattr(soundfile, "write", full)
            keeper.keep(RAISED, "a" * 32)
            while not said:
                pass
        name = keeper.keep(RAISED, "b" * 32)
    assert (tmp_path / f"{name}.flac").exists()


def test_no_sound_goes_on_over_a_gap(tmp_path: Path) -> None:
    with SoundKeeper(tmp_path, ClipSettings(before_seconds=5.0, after_seconds=0.0), FrontEnd()) as keeper:
        feed(keeper, ramp(3))
        keeper.forget()
        feed(keeper, ramp(1))
        name = keeper.keep(RAISED, "a" * 32)
    assert soundfile.info(tmp_path / f"{name}.flac").duration == 1.0


def test_of_many_alerts_at_once_not_all_are_kept(tmp_path: Path) -> None:
    with SoundKeeper(tmp_path, ClipSettings(before_seconds=1.0, after_seconds=60.0), FrontEnd()) as keeper:
        feed(keeper, ramp(1))
        names = [keeper.keep(RAISED, f"{number:032x}"[::-1]) for number in range(MOST_AT_ONCE + 3)]
    assert [bool(name) for name in names] == [True] * MOST_AT_ONCE + [False] * 3
    assert len(list(tmp_path.glob("*.flac"))) == MOST_AT_ONCE


def test_none_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    with SoundKeeper(tmp_path / "sounds", ClipSettings(keep_mb=0), FrontEnd()) as keeper:
        feed(keeper, ramp(1))
        assert keeper.keep(RAISED, "a" * 32) == ""
    assert not (tmp_path / "sounds").exists()


def test_a_disk_that_takes_none_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "sounds").write_text("a file stands in the way")
    said: list[str] = []
    settings = ClipSettings(before_seconds=1.0, after_seconds=0.0)
    with SoundKeeper(tmp_path / "sounds", settings, FrontEnd(), say=said.append) as keeper:
        for _ in range(3):
            feed(keeper, ramp(1))
            keeper.keep(RAISED, "a" * 32)
    assert len(said) == 1
    assert "the sounds of alerts can't be kept" in said[0]


def test_memory_is_bounded_while_nothing_happens(tmp_path: Path) -> None:
    with SoundKeeper(tmp_path, ClipSettings(before_seconds=2.0), FrontEnd()) as keeper:
        for _ in range(20):
            feed(keeper, ramp(1))
            assert sum(len(part) for part in keeper._past) <= 2 * RATE + 512


def test_a_picture_is_a_png_with_the_low_bands_below() -> None:
    log_mel = np.full((40, 128), -60.0, np.float32)
    log_mel[:, :10] = 0.0  # loud at low frequencies
    content = png(log_mel)
    width, height, depth, kind = struct.unpack(">IIBB", content[16:26])
    assert (width, height, depth, kind) == (40, 256, 8, 3)
    start = content.index(b"IDAT")
    [length] = struct.unpack(">I", content[start - 4 : start])
    lines = np.frombuffer(zlib.decompress(content[start + 4 : start + 4 + length]), np.uint8).reshape(256, 41)
    assert lines[-1, 1] == 255
    assert lines[0, 1] == 0
    assert not lines[:, 0].any()


def test_a_sound_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    """The limit on files' sizes is what a full disk is. libsndfile finds it as it closes the file, and keeps silent."""
    said: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    settings = ClipSettings(before_seconds=1.0, after_seconds=0.0)
    with SoundKeeper(tmp_path, settings, FrontEnd(), say=said.append) as keeper:
        feed(keeper, np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            keeper.keep(RAISED, "a" * 32)
            while not said:
                pass
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "could not be written (File too large)" in said[0]
    assert list(tmp_path.iterdir()) == []
