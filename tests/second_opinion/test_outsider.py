"""What a clip comes to is what somebody makes of it who shares no line with us, by docs/bundle.md alone.

A distance moves by no more than the embedding does (the triangle inequality), which is how far apart scores may lie
where two interpreters round otherwise. Their relative difference says nothing: a training clip's score is nearly 0.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common import MOMENT, missing
from edge_asd import bundle as bundles
from edge_asd.audio import read_clip
from edge_asd.scoring import ClipScorer, Detector, StreamScorer, embed
from edge_asd_trainer.config import load
from edge_asd_trainer.pipeline import train
from edge_asd_trainer.run_folder import RunFolder
from second_opinion.outsider import INTERPRETERS, Outsider

RATE = 16000
CLOSE = 1e-6  # relative, of scores of the same embedding: both are rounded to float32 here and there (found: 6e-8)
BORDER = 1e-3  # of a step of the model's input: nearer to the middle between two, librosa's rounding may decide
EVERY_BACKEND = """
[[detection.backends]]
neighbours = 3
[[detection.backends]]
density = 4
[[detection.backends]]
distance = "mahalanobis"
[[detection.backends]]
feature = "statistics"
[[detection.backends]]
feature = "statistics"
distance = "mahalanobis"
"""


@pytest.fixture(scope="module")
def every_backend(run_folder: Path, plant: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network's bundle with all that a manifest can ask for at once, one section flipped."""
    folder = tmp_path_factory.mktemp("every backend")
    (folder / "scores.toml").write_text(EVERY_BACKEND)
    run = RunFolder(shutil.copytree(run_folder, folder / "fan"))
    train(plant, "fan", run, load("demo", folder / "scores.toml", [*MOMENT, 'detection.flip=["fan/01"]']), "demo")
    return run.bundle("fan")


def clips_of(plant: Path) -> list[Path]:
    return sorted((plant / "fan").rglob("*.wav"))[::3]


def section_of(path: Path) -> str:
    return path.name.removeprefix("section_")[:2]


def compare(outsider: Outsider, detector: Detector, samples: np.ndarray, section: str) -> bool:
    """Hold every step of a clip's way to the outsider's; whether none of its images differed."""
    theirs = outsider.opinion(samples, section)
    log_mel = detector.front_end.log_mel(samples)
    np.testing.assert_allclose(log_mel, theirs.log_mel.T, atol=1e-3)
    images = detector.windows.cut(detector.model.prepare(log_mel))
    meant = np.stack([outsider.steps(window) for window in outsider.windows(theirs.log_mel)])
    differ = images != theirs.images
    assert np.abs(images[differ].astype(int) - theirs.images[differ]).max(initial=0) <= 1
    assert np.abs(meant[differ] % 1 - 0.5).max(initial=0) < BORDER
    embedding, score = embed(detector.windows, detector.model, log_mel), ClipScorer(detector).score(samples, section)
    if differ.any():
        assert np.abs(embedding - theirs.embedding).max() < outsider.output_step
        return False
    np.testing.assert_array_equal(embedding, theirs.embedding)
    assert score.value == pytest.approx(theirs.score, rel=CLOSE)
    assert score.nearest == theirs.nearest
    return True


def compare_all(bundle: Path, clips: Sequence[tuple[np.ndarray, str]]) -> None:
    outsider, detector = Outsider(bundle), bundles.read(bundle).detector()
    same = [compare(outsider, detector, samples, section) for samples, section in clips]
    assert sum(same) > 0.7 * len(same)  # elsewhere than here a value in millions may fall on the other side


@pytest.mark.parametrize("kind", ["tiny_bundle", "every_backend"])
def test_a_clip_of_the_plant(kind: str, plant: Path, request: pytest.FixtureRequest) -> None:
    clips = [(read_clip(path), section_of(path)) for path in clips_of(plant)]
    assert len(clips) >= 8
    assert {section for _, section in clips} == {"00", "01"}
    compare_all(request.getfixturevalue(kind), clips)


@pytest.mark.parametrize("kind", ["tiny_bundle", "every_backend"])
def test_a_real_clip(kind: str, real_clips: list[Path], request: pytest.FixtureRequest) -> None:
    compare_all(request.getfixturevalue(kind), [(read_clip(path), "00") for path in real_clips[::4]])


@pytest.mark.parametrize("samples", [63 * 512, 64 * 512, 71 * 512, 72 * 512 + 511, 12 * RATE])
def test_a_clip_of_another_length(tiny_bundle: Path, samples: int) -> None:
    """One window, also where the formula would give none; and where one more begins."""
    noise = np.random.default_rng(samples).normal(0.1, 0.05, samples).astype(np.float32)
    assert compare(Outsider(tiny_bundle), bundles.read(tiny_bundle).detector(), noise, "01")


def test_the_command_says_the_same(tiny_bundle: Path, plant: Path, edge_asd: list[str]) -> None:
    paths, outsider = clips_of(plant)[:4], Outsider(tiny_bundle)
    done = subprocess.run(
        [*edge_asd, "score", *paths, "--bundle", tiny_bundle, "--json"], capture_output=True, text=True, check=True
    )
    said = {Path(one["file"]): one for one in map(json.loads, done.stdout.splitlines())}
    assert said.keys() == set(paths)
    for path, one in said.items():
        samples, rate = soundfile.read(path)
        assert rate == RATE
        theirs = outsider.opinion(samples, section_of(path))
        assert (one["score"], one["nearest"]) == (pytest.approx(theirs.score, rel=CLOSE), theirs.nearest)


@pytest.mark.parametrize("interpreter", [name for name in INTERPRETERS if name != "LiteRT"])
def test_other_kernels_stay_within_a_step(interpreter: str, tiny_bundle: Path, plant: Path) -> None:
    """They round otherwise in between: some steps of the output in a window, less than one in a clip."""
    if interpreter == "tflite-runtime" and find_spec("tflite_runtime") is None:
        missing("tflite-runtime")
    outsider, detector = Outsider(tiny_bundle, interpreter), bundles.read(tiny_bundle).detector()
    for path in clips_of(plant)[::3]:
        samples, section = read_clip(path), section_of(path)
        theirs = outsider.opinion(samples, section)
        log_mel = detector.front_end.log_mel(samples)
        codes = (detector.model.embed(theirs.images) - outsider.embed(theirs.images)) / outsider.output_step
        assert np.abs(codes).max() < 3.5
        moved = embed(detector.windows, detector.model, log_mel).astype(np.float64) - theirs.embedding
        assert np.abs(moved).max() < outsider.output_step
        score = ClipScorer(detector).score(samples, section).value
        assert abs(score - theirs.score) <= 1.01 * np.linalg.norm(moved)


def test_the_golden_clip_is_what_it_was_at_export(tiny_bundle: Path) -> None:
    outsider = Outsider(tiny_bundle)
    samples, embedding, score, section = outsider.golden
    theirs = outsider.opinion(samples, section)
    np.testing.assert_allclose(theirs.embedding, embedding, atol=outsider.output_step)
    assert theirs.score == pytest.approx(score, abs=CLOSE * score + 1.01 * np.linalg.norm(theirs.embedding - embedding))


@pytest.mark.parametrize("kind", ["tiny_bundle", "every_backend"])
def test_a_stream_is_what_the_outsider_makes_of_it(kind: str, plant: Path, request: pytest.FixtureRequest) -> None:
    """All scores of half a minute that begins far from 0 and drifts; the mean is taken off the samples there."""
    bundle, sound = request.getfixturevalue(kind), drifting(plant)
    scores = StreamScorer(bundles.read(bundle).detector(), "00").push(sound)
    theirs = Outsider(bundle).opinions_of_a_stream(sound, "00")
    assert len(scores) == len(theirs) > 30
    assert [score.seconds for score in scores] == [seconds for seconds, _ in theirs]
    same = [
        score.value == pytest.approx(opinion.score, rel=CLOSE) and score.nearest == opinion.nearest
        for score, (_, opinion) in zip(scores, theirs, strict=True)
    ]
    assert sum(same) > 0.7 * len(same)  # as above


def test_a_stream_is_nearly_the_clip_of_its_last_ten_seconds(tiny_bundle: Path, plant: Path) -> None:
    """But for the clip's first frame, which is half zeros there, and for what the stream had heard before."""
    sound, outsider = drifting(plant), Outsider(tiny_bundle)
    opinions = dict(outsider.opinions_of_a_stream(sound, "00"))
    for score in StreamScorer(bundles.read(tiny_bundle).detector(), "00").push(sound)[::7]:
        # Half a hop earlier, the clip's frames, which are centred, lie where the stream's do.
        end = round(score.seconds * RATE) - 256
        clip = outsider.opinion(sound[end - 10 * RATE : end], "00")
        moved = opinions[score.seconds].embedding.astype(np.float64) - clip.embedding
        assert np.abs(moved).max() < outsider.output_step
        assert abs(score.value - clip.score) <= 1.01 * np.linalg.norm(moved) + CLOSE


def drifting(plant: Path) -> np.ndarray:
    sound = np.concatenate([read_clip(path) for path in clips_of(plant)[:2]])
    return (sound + np.linspace(0.1, 0.2, len(sound))).astype(np.float32)
