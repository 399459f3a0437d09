"""What each of the paper's systems makes of its network's outputs, and the scores that come of it."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from edge_asd import manifest, systems
from edge_asd.bank import Bank
from edge_asd.comparison import Comparison, Heard
from edge_asd.errors import BundleError, UsageError
from edge_asd.events import Event, line, raised_line
from edge_asd.front_end import FrontEnd
from edge_asd.scoring import ClipScorer, Detector, Score, StreamScorer
from edge_asd.verdict import AlarmRule, Judge
from edge_asd.windows import Windows
from made_up import some_bundle

RATE = 16000


class Outputs:
    """A network that gives these outputs, whatever it is asked."""

    name = "made up"

    def __init__(self, outputs: np.ndarray) -> None:
        self._outputs = outputs.astype(np.float32)

    def prepare(self, log_mel: np.ndarray) -> np.ndarray:
        return log_mel

    def embed(self, windows: np.ndarray) -> np.ndarray:
        return self._outputs[: len(windows)]


class Loudness:
    """A value a window: its mean in dB; or, for two sections, that and its negative."""

    name = "loudness"

    def __init__(self, values: int) -> None:
        self._signs = np.array([1.0, -1.0][:values], np.float32)

    def prepare(self, log_mel: np.ndarray) -> np.ndarray:
        return log_mel

    def embed(self, windows: np.ndarray) -> np.ndarray:
        return windows.mean(axis=(1, 2), keepdims=True)[:, 0] * self._signs


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def test_the_autoencoder_scores_the_mean_squared_error_of_its_reconstruction() -> None:
    random = np.random.default_rng(0)
    windows, outputs = random.normal(size=(3, 128, 5)).astype(np.float32), random.normal(size=(3, 640))
    errors = systems.of("autoencoder", Outputs(outputs)).embed(windows)
    expected = [np.mean((window.ravel() - output) ** 2) for window, output in zip(windows, outputs, strict=True)]
    np.testing.assert_allclose(errors[:, 0], expected, rtol=1e-5)


def test_mobilenetv2_scores_how_little_a_window_is_of_its_section() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, 6))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = systems.of("mobilenetv2", Outputs(logits)).embed(np.zeros((20, 128, 64), np.float32))
    np.testing.assert_allclose(found, np.log(1 - p) - np.log(p), rtol=1e-4, atol=1e-5)


def test_a_network_that_is_sure_scores_at_the_challenges_bound_and_not_infinitely() -> None:
    found = systems.of("mobilenetv2", Outputs(np.array([[200.0, -200.0]]))).embed(np.zeros((1, 128, 64), np.float32))
    np.testing.assert_allclose(found, [[np.log(2.0**-52), -np.log(2.0**-52)]], rtol=1e-6)


def test_system_1_takes_its_embeddings_as_they_are() -> None:
    model = Outputs(np.ones((1, 320)))
    assert systems.of("system1", model) is model


def test_a_section_takes_its_own_output_or_the_only_one() -> None:
    two = Detector(FrontEnd(), Windows(), Loudness(2), {"03": None, "01": None})
    embedding = np.array([1.5, -2.5], np.float32)
    assert two.judge(Heard(embedding), "01") == (1.5, "")
    assert two.judge(Heard(embedding), "03") == (-2.5, "")
    one = Detector(FrontEnd(), Windows(), Loudness(1), {"03": None, "01": None})
    assert one.judge(Heard(embedding[:1]), "03") == (1.5, "")
    with pytest.raises(UsageError, match="no section '02' in this bundle; it has 01, 03"):
        one.judge(Heard(embedding), "02")


def test_a_flipped_section_has_the_opposite_sign_and_the_others_do_not() -> None:
    bank = Comparison({"embedding": Bank.of(np.zeros((1, 4), np.float32), ["a.wav"])})
    detector = Detector(FrontEnd(), Windows(), Loudness(1), {"00": bank, "01": bank}, flipped={"00"})
    embedding = np.full(4, 2.0, np.float32)
    assert detector.judge(Heard(embedding), "00") == (-4.0, "a.wav")
    assert detector.judge(Heard(embedding), "01") == (4.0, "a.wav")


@pytest.mark.parametrize("windows", [Windows(5, 1, to_the_end=True), Windows(64, 1, to_the_end=True)])
def test_a_streamed_clip_has_the_clips_score_without_a_bank_too(windows: Windows) -> None:
    detector = Detector(FrontEnd(), windows, Loudness(2), {"00": None, "01": None})
    waveform = noise(4)
    stream = StreamScorer(detector, "01", padded=True)
    for start in range(0, len(waveform), 3000):
        stream.push(waveform[start : start + 3000])
    whole = ClipScorer(detector).score(waveform, "01").value
    assert whole > 0  # section 01 has the negative of some -40 dB
    assert stream.finish().value == pytest.approx(whole, rel=1e-3)


def test_a_running_stream_looks_back_10_s_whatever_the_windows() -> None:
    for windows in (Windows(), Windows(5, 1, to_the_end=True)):
        stream = StreamScorer(Detector(FrontEnd(), windows, Loudness(1), {"00": None}), "00")
        first = next(iter(stream.push(noise(12))))
        assert first.seconds == pytest.approx(10, abs=0.3)


@pytest.mark.parametrize(("threshold", "clear"), [(2.0, 1.8), (-2.0, -2.0 / 0.9), (0.0, 0.0)])
def test_an_alert_ends_below_its_threshold_of_either_sign(threshold: float, clear: float) -> None:
    rule = AlarmRule(threshold, release=0.9, minimum_seconds=0.0)
    assert rule.all_clear == pytest.approx(clear)
    judge = Judge(rule)
    raised = judge.take(Score(threshold + 1, "", 1.0))
    assert raised
    assert raised.kind == "raised"
    assert judge.take(Score(clear + 1e-6, "", 2.0)) is None
    cleared = judge.take(Score(clear - 1e-6, "", 3.0))
    assert cleared
    assert cleared.kind == "cleared"


def test_an_alert_of_a_system_without_a_bank_names_no_nearest_clip() -> None:
    event = Event(
        id="one",
        kind="anomaly",
        machine="fan",
        section="00",
        bundle="0123456789abcdef",
        began_utc="",
        raised_utc="",
        began_s=1.0,
        raised_s=2.0,
        ended_s=3.0,
        peak=4.0,
        peak_s=2.5,
        threshold=3.0,
        nearest="",
    )
    for text in (raised_line(event), line(event)):
        assert text.endswith("over 3")
    bare = msgspec.structs.replace(event, peak_s=None, threshold=None)  # a row that another version wrote
    assert line(bare).endswith(", peak 4")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"system": "autoencoder"}, "system1 has back-ends, no other system has; found 1 of autoencoder"),
        ({"system": "autoencoder", "backends": []}, "only system1 has a bank"),
        (
            {"system": "autoencoder", "backends": [], "entries": 0},
            "of autoencoder with 1 sections must be 1",
        ),
        ({"system": "mobilenetv2", "backends": [], "entries": 0, "dimensions": 2}, "must be 1"),
        ({"entries": 0}, "section 00 has 0 bank entries; only system1 has a bank"),
        ({"system": "gmm"}, "system"),
        ({"format_version": 1}, "format version 1, this program reads version 5"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change: dict[str, object], said: str) -> None:
    stated = json.loads(manifest.encode(some_bundle().manifest))
    for name, value in change.items():
        (stated["sections"]["00"] if name == "entries" else stated)[name] = value
    with pytest.raises(BundleError, match=said):
        manifest.decode(json.dumps(stated).encode(), "fan.easd")
