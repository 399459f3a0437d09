"""What a clip comes to is what somebody makes of it who shares no line with us, by docs/bundle.md alone."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from edge_asd import bundle as bundles
from edge_asd.audio import read_clip
from edge_asd.scoring import ClipScorer, StreamScorer, embed
from second_opinion.outsider import Outsider

RATE = 16000


def clips_of(plant: Path) -> list[Path]:
    return sorted((plant / "fan").rglob("*.wav"))[::3]


@pytest.fixture(scope="module")
def outsider(tiny_bundle: Path) -> Outsider:
    return Outsider(tiny_bundle)


def compare(outsider: Outsider, bundle: Path, path: Path, section: str) -> float:
    """The relative difference of the scores; log-mel and embedding are held to each other on the way."""
    detector = bundles.read(bundle).detector()
    samples = read_clip(path)
    theirs = outsider.opinion(samples, section)
    np.testing.assert_allclose(detector.front_end.log_mel(samples), theirs.log_mel.T, atol=1e-3)
    ours = ClipScorer(detector).score(samples, section)
    heard = embed(detector.windows, detector.model, detector.front_end.log_mel(samples))
    step = np.abs(heard - theirs.embedding).max() / np.ptp(heard)
    assert step < 0.01, f"{path.name}: an embedding's value differs by {step:.2%} of their range"
    return abs(ours.value - theirs.score) / ours.value


def test_a_clip_of_the_plant(outsider: Outsider, tiny_bundle: Path, plant: Path) -> None:
    differences = [compare(outsider, tiny_bundle, path, path.name[8:10]) for path in clips_of(plant)]
    assert len(differences) >= 8
    assert max(differences) < 0.05
    assert np.median(differences) < 0.01


def test_a_real_clip(outsider: Outsider, tiny_bundle: Path, real_clips: list[Path]) -> None:
    assert max(compare(outsider, tiny_bundle, path, "00") for path in real_clips[:7]) < 0.05


def test_the_golden_clip_is_what_it_was_at_export(outsider: Outsider) -> None:
    samples, embedding, score, section = outsider.golden
    theirs = outsider.opinion(samples, section)
    assert theirs.score == pytest.approx(score, rel=0.05)
    assert np.abs(theirs.embedding - embedding).max() / np.ptp(embedding) < 0.01


def test_a_stream_is_the_clip_of_its_last_ten_seconds(outsider: Outsider, tiny_bundle: Path, plant: Path) -> None:
    samples = read_clip(clips_of(plant)[0])
    scores = list(StreamScorer(bundles.read(tiny_bundle).detector(), "00").push(np.concatenate([samples, samples])))
    end = round(scores[-1].seconds * RATE)
    heard = np.concatenate([samples, samples])[end - 10 * RATE : end]
    assert scores[-1].value == pytest.approx(outsider.opinion(heard, "00").score, rel=0.1)


def test_the_other_opinions_share_no_code_with_ours() -> None:
    for module in ("outsider", "by_hand"):
        tree = ast.parse(Path(__file__).with_name(f"{module}.py").read_text())
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert names
        assert not [name for name in names if name.startswith(("edge_asd", "made_up", "common"))], module
