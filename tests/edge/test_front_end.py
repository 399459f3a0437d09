"""The front end against librosa, which the challenge's baselines use."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.audio import read_clip
from edge_asd.front_end import FrontEnd

RATE = 16000
LARGEST_DIFFERENCE_DB = 1e-3


def by_librosa(waveform: np.ndarray) -> np.ndarray:
    """METHOD of the baselines: 128 Slaney mels, zero padding, power, 10 log10; (frames, mels)."""
    power = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64) - waveform.mean(dtype=np.float64),
        sr=RATE,
        n_fft=1024,
        hop_length=512,
        n_mels=128,
        power=2.0,
        center=True,
        pad_mode="constant",
        fmin=0,
        fmax=8000,
        htk=False,
        norm="slaney",
    )
    return 10 * np.log10(np.maximum(power, 2.22e-16)).T


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def impulse() -> np.ndarray:
    clip = np.zeros(10 * RATE, np.float32)
    clip[12345] = 1.0
    return clip


CLIPS: dict[str, Callable[[], np.ndarray]] = {
    "noise": lambda: noise(10),
    "silence": lambda: np.zeros(10 * RATE, np.float32),
    "clipping": lambda: np.clip(20 * noise(10), -1, 1),
    "impulse": impulse,
    "constant offset": lambda: noise(10) + np.float32(0.4),
    "7 s": lambda: noise(7),
    "12 s": lambda: noise(12),
}


@pytest.mark.parametrize("name", CLIPS)
def test_agrees_with_librosa(name: str) -> None:
    clip = CLIPS[name]()
    ours, theirs = FrontEnd().log_mel(clip), by_librosa(clip)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < LARGEST_DIFFERENCE_DB


def test_agrees_with_librosa_on_real_clips(real_clips: list[Path]) -> None:
    for path in real_clips:
        clip = read_clip(path)
        assert np.abs(FrontEnd().log_mel(clip) - by_librosa(clip)).max() < LARGEST_DIFFERENCE_DB, path.name


def test_a_10_s_clip_has_313_frames_of_128_bands() -> None:
    assert FrontEnd().log_mel(noise(10)).shape == (313, 128)


@pytest.mark.parametrize("frames", [1, 7, 1000])
def test_a_long_clip_is_the_same_whether_computed_at_once_or_in_parts(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = noise(12)
    expected = FrontEnd().log_mel(clip)
    monkeypatch.setattr("edge_asd.front_end.FRAMES_AT_ONCE", frames)
    np.testing.assert_array_equal(FrontEnd().log_mel(clip), expected)


def test_a_long_clip_takes_no_more_memory_than_a_short_one() -> None:
    clip, front_end = noise(120), FrontEnd()
    front_end.log_mel(clip[:RATE])  # windows and filters are made, and kept
    tracemalloc.start()
    try:
        result = front_end.log_mel(clip)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - result.nbytes < 1 << 20


@pytest.mark.parametrize("front_end", [FrontEnd(), FrontEnd(mels=5, fmin=3000, fmax=3100), FrontEnd(mels=300, power=1)])
def test_mel_power_is_the_product_with_the_whole_of_the_filters(front_end: FrontEnd) -> None:
    rng = np.random.default_rng(0)
    spectrum = rng.normal(size=(9, 513)) + 1j * rng.normal(size=(9, 513))
    expected = np.abs(spectrum) ** front_end.power @ front_end.mel_filters
    np.testing.assert_allclose(front_end.mel_power(spectrum), expected, rtol=1e-12, atol=1e-300)


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(1, 20000), seed=st.integers(0, 100))
def test_any_length_agrees_with_librosa(samples: int, seed: int) -> None:
    clip = np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)
    ours = FrontEnd().log_mel(clip)
    assert len(ours) == FrontEnd().frames(samples)
    if samples >= 1024:  # librosa warns of clips shorter than a frame
        assert np.abs(ours - by_librosa(clip)).max() < LARGEST_DIFFERENCE_DB


def test_44_1_khz_stereo_is_resampled_and_mixed_down_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seconds = np.arange(441000) / 44100
    left = 0.3 * np.sin(2 * np.pi * 1000 * seconds)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([left, 0.5 * left], axis=1), 44100, subtype="FLOAT")
    with caplog.at_level("INFO"):
        clip = read_clip(path)
    assert "2 channels mixed down" in caplog.text
    assert "resampled from 44100 Hz to 16000 Hz" in caplog.text
    expected = 0.75 * 0.3 * np.sin(2 * np.pi * 1000 * np.arange(160000) / RATE)
    assert len(clip) == 160000
    inner = slice(1000, -1000)
    np.testing.assert_allclose(clip[inner], expected[inner], atol=1e-3)
    assert FrontEnd().log_mel(clip).shape == (313, 128)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", [".wav", ".flac"])
def test_16_bits_are_read_to_the_bit_as_libsndfile_scales_them(kind: str, channels: int, tmp_path: Path) -> None:
    path, every_value = tmp_path / f"clip{kind}", np.arange(-(2**15), 2**15, dtype=np.int16)
    soundfile.write(path, np.stack([every_value, every_value[::-1]][:channels], axis=1), RATE, subtype="PCM_16")
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    clip = read_clip(path)
    assert clip.dtype == np.float32
    np.testing.assert_array_equal(clip, expected.mean(axis=1))


def test_refuses_parameters_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="hop must lie"):
        FrontEnd(hop=2048)
    with pytest.raises(ValueError, match="fmin < fmax"):
        FrontEnd(fmax=9000)
    with pytest.raises(ValueError, match="positive"):
        FrontEnd(floor=0)
