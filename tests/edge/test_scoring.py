"""Streams against whole clips: the same core, so the same score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.bank import Bank
from edge_asd.comparison import Comparison
from edge_asd.errors import ClipError, UsageError
from edge_asd.front_end import FrontEnd
from edge_asd.scoring import ClipScorer, Detector, StreamScorer
from edge_asd.window_stream import WindowStream
from edge_asd.windows import Windows

RATE = 16000
TOLERANCE = 0.01  # relative, of a finished stream's score; a stream knows the mean only of what it has heard


class Projection:
    """A stand-in for the network: a fixed random linear map of the window, so that every band and frame counts."""

    name = "projection"

    def __init__(self) -> None:
        self._map = np.random.default_rng(0).normal(0, 0.01, (128 * 64, 16)).astype(np.float32)
        self.windows = 0

    def prepare(self, log_mel: np.ndarray) -> np.ndarray:
        return log_mel

    def embed(self, windows: np.ndarray) -> np.ndarray:
        self.windows += len(windows)
        return windows.reshape(len(windows), -1) @ self._map


@pytest.fixture(scope="module")
def detector() -> Detector:
    model = Projection()
    bank = Bank.of(np.random.default_rng(1).normal(0, 1, (4, 16)).astype(np.float32), ["a", "b", "c", "d"])
    return Detector(FrontEnd(), Windows(), model, {"00": Comparison({"embedding": bank})})


def clip(kind: str, seconds: float = 10.0, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    sound = 0.05 * random.normal(size=len(time)) + 0.2 * np.sin(2 * np.pi * 120 * time)
    if kind == "offset":
        sound += 0.3
    if kind == "drift":
        sound += 0.1 * np.sin(2 * np.pi * 0.15 * time)
    return sound.astype(np.float32)


def streamed(detector: Detector, waveform: np.ndarray, sizes: list[int]) -> float:
    stream = StreamScorer(detector, "00", padded=True)
    start, turn = 0, 0
    while start < len(waveform):
        size = sizes[turn % len(sizes)]
        stream.push(waveform[start : start + size])
        start, turn = start + size, turn + 1
    return stream.finish().value


@pytest.mark.parametrize("kind", ["plain", "offset", "drift"])
@pytest.mark.parametrize("seconds", [10.0, 7.0, 12.0, 2.1])
def test_a_streamed_clip_has_the_clips_score(detector: Detector, kind: str, seconds: float) -> None:
    waveform = clip(kind, seconds)
    whole = ClipScorer(detector).score(waveform, "00").value
    assert streamed(detector, waveform, [4096]) == pytest.approx(whole, rel=TOLERANCE)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, RATE), min_size=1, max_size=6),
    samples=st.integers(33000, 60000),
    seed=st.integers(0, 5),
)
def test_the_chunking_changes_nothing(sizes: list[int], samples: int, seed: int) -> None:
    model = Projection()
    bank = Bank.of(np.random.default_rng(1).normal(0, 1, (4, 16)).astype(np.float32), ["a", "b", "c", "d"])
    detector = Detector(FrontEnd(), Windows(), model, {"00": Comparison({"embedding": bank})})
    waveform = clip("offset", samples / RATE, seed)
    at_once = streamed(detector, waveform, [len(waveform)])
    assert streamed(detector, waveform, sizes) == pytest.approx(at_once, rel=1e-6)
    assert at_once == pytest.approx(ClipScorer(detector).score(waveform, "00").value, rel=TOLERANCE)


def test_a_sample_at_a_time(detector: Detector) -> None:
    waveform = clip("offset", 2.4)
    assert streamed(detector, waveform, [1]) == pytest.approx(streamed(detector, waveform, [len(waveform)]), rel=1e-9)


@pytest.mark.parametrize("windows", [Windows(), Windows(5, 1, to_the_end=True), Windows(64, 8, to_the_end=True)])
@given(samples=st.integers(32768, 120000))
@settings(max_examples=25, deadline=None)
def test_a_stream_has_exactly_the_clips_windows(windows: Windows, samples: int) -> None:
    front_end = FrontEnd()
    waveform = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    waveform -= waveform.mean()
    stream = WindowStream(front_end, windows, padded=True)
    cut = [window for _, window in stream.push(waveform)] + list(stream.finish())
    expected = windows.cut(front_end.log_mel(waveform))
    assert len(cut) == len(expected)
    # band 0 alone depends on the mean, which the stream is still learning
    np.testing.assert_allclose(np.array(cut)[1:, 1:], expected[1:, 1:], atol=1e-4)


def test_the_last_window_of_a_10_s_stream_knows_the_clips_mean(detector: Detector) -> None:
    waveform = clip("offset")
    stream = WindowStream(detector.front_end, detector.windows, padded=True)
    cut = [window for _, window in stream.push(waveform)] + list(stream.finish())
    expected = detector.windows.cut(detector.front_end.log_mel(waveform))
    np.testing.assert_allclose(cut[-1], expected[-1], atol=0.05)


def test_a_running_stream_scores_once_a_hop_after_10_s(detector: Detector) -> None:
    stream = StreamScorer(detector, "00")
    model = detector.model
    assert isinstance(model, Projection)
    before = model.windows
    scores = stream.push(clip("plain", 20))
    seconds = np.array([score.seconds for score in scores])
    assert seconds[0] == pytest.approx(((31 * 8 + 63 + 1) * 512 + 1024) / RATE)
    np.testing.assert_allclose(np.diff(seconds), 8 * 512 / RATE)
    assert model.windows - before == len(scores) + 31  # each window was embedded once


def test_a_gap_is_never_scored_across(detector: Detector) -> None:
    stream = StreamScorer(detector, "00")
    stream.push(clip("plain", 9.9))
    stream.skip(4000)
    assert stream.push(clip("plain", 9.9)) == []
    [first, *_] = stream.push(clip("plain", 1.0))
    assert first.seconds > 19.8 + 4000 / RATE


def test_too_short_and_unknown_section(detector: Detector) -> None:
    with pytest.raises(ClipError, match="too short"):
        ClipScorer(detector).score(clip("plain", 1.9), "00")
    stream = StreamScorer(detector, "00", padded=True)
    stream.push(clip("plain", 1.9))
    with pytest.raises(ClipError, match="too short"):
        stream.finish()
    with pytest.raises(UsageError, match="no section '07' in this bundle; it has 00"):
        ClipScorer(detector).score(clip("plain"), "07")
