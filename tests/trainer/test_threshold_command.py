"""`edge-asd threshold`: at most so many false alarms a week, from recordings of normal sound."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from edge_asd import bundle as bundles
from edge_asd import golden
from edge_asd.errors import DataError
from edge_asd.false_alarms import WEEK, Recording, evidence
from edge_asd.verdict import AlarmRule

RULE = AlarmRule(math.inf, release=0.9, minimum_seconds=1.0)


def hours_of(scores: np.ndarray, name: str = "normal.wav") -> Recording:
    return Recording(name, 10.0 + 0.256 * np.arange(len(scores)), scores)


def blocks_of_noise(blocks: int, seed: int) -> np.ndarray:
    """Scores that stay at a level for 10 s each, exponentially spread: an alert each time one passes a threshold."""
    levels = 1.0 + np.random.default_rng(seed).exponential(0.2, blocks)
    return np.repeat(levels, 39)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_promised_for_a_week_holds_in_the_weeks_that_follow(seed: int) -> None:
    known = evidence([hours_of(blocks_of_noise(720, seed))], RULE)  # two hours
    threshold = known.lowest_threshold(20.0)
    weeks = 20
    later = blocks_of_noise(round(weeks * WEEK / 9.984), 100 + seed)[::39]
    alarms = int((later > threshold).sum()) / weeks
    assert 0.2 < alarms < 100  # extrapolated four times as far as was heard; by chance off by some factor
    assert known.extrapolation(20.0) == pytest.approx(WEEK / 20 / known.seconds)


def test_what_can_be_counted_is_counted() -> None:
    scores = blocks_of_noise(720, 0)
    known = evidence([hours_of(scores)], RULE)
    often = 400.0 * WEEK / 7200 / 84  # some a recording
    threshold = known.lowest_threshold(often)
    assert known.outlook(threshold).alerts <= often * known.seconds / WEEK
    assert known.outlook(scores.max()).alerts == 0
    assert known.outlook(scores.min() - 1).alerts == 1  # one that never ends


def test_what_is_told_can_be_written_as_json() -> None:
    known = evidence([hours_of(blocks_of_noise(720, 0))], RULE)
    for threshold in (1.0, 1.3, 9.0):
        outlook = known.outlook(threshold)
        assert msgspec.json.decode(msgspec.json.encode(outlook), type=type(outlook)) == outlook


def test_a_rarer_alarm_needs_a_higher_threshold() -> None:
    known = evidence([hours_of(blocks_of_noise(720, 0))], RULE)
    thresholds = [known.lowest_threshold(per_week) for per_week in (1000.0, 100.0, 10.0, 1.0, 0.1)]
    assert thresholds == sorted(thresholds)
    assert len(set(thresholds)) == 5
    assert known.outlook(thresholds[3]).per_week == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (blocks_of_noise(10, 0), "record at least"),
        (np.full(3000, 1.5), "all its 3000 scores are 1.5"),
        (np.where(np.arange(3000) == 7, np.nan, blocks_of_noise(77, 0)[:3000]), "not finite"),
    ],
)
def test_recordings_that_say_nothing_are_named(scores: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        evidence([hours_of(scores)], RULE)


@pytest.fixture
def normal(plant: Path, tmp_path: Path) -> Path:
    """Some minutes of the plant's fan 00 running normally, at a stretch."""
    clips = sorted((plant / "fan" / "test").glob("section_00_source_*_normal_*"))
    clips += sorted((plant / "fan" / "train").glob("section_00_source_*"))
    sound = np.concatenate([soundfile.read(clip, dtype="float32")[0] for clip in clips])
    path = tmp_path / "normal" / "monday.wav"
    path.parent.mkdir()
    random = np.random.default_rng(0)
    takes = [sound * random.uniform(0.9, 1.1) for _ in range(4)]
    soundfile.write(path, np.clip(np.concatenate(takes), -1, 1), 16000, subtype="PCM_16")
    return path.parent


def test_the_command_finds_a_threshold_and_writes_a_bundle_with_it(
    tiny_bundle: Path, normal: Path, tmp_path: Path, edge_asd: list[str]
) -> None:
    out = tmp_path / "quiet.easd"
    command = [*edge_asd, "threshold", str(tiny_bundle), str(normal), "--section", "00", "--false-alarms", "1"]
    done = subprocess.run([*command, "--json", "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["section"], told["recordings"], told["false_alarms"]) == ("00", 1, 1.0)
    assert told["found"]["alerts"] == 0
    assert told["found"]["threshold"] >= told["highest_score"]
    assert "extrapolated" in done.stderr  # minutes to a week is far
    before, after = bundles.read(tiny_bundle), bundles.read(out)
    assert after.manifest.sections["00"].thresholds.alarm == told["found"]["threshold"]
    assert after.manifest.sections["00"].thresholds.decision == before.manifest.sections["00"].thresholds.decision
    assert after.manifest.sections["01"] == before.manifest.sections["01"]
    assert after.model == before.model
    assert golden.check(after).exact
    again = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    assert again.returncode == 2
    assert "there is one already" in again.stderr


def test_too_little_is_refused_with_how_long_to_record(tiny_bundle: Path, plant: Path, edge_asd: list[str]) -> None:
    clip = next((plant / "fan" / "test").glob("section_00_source_*_normal_*"))
    command = [*edge_asd, "threshold", str(tiny_bundle), str(clip), "--section", "00", "--false-alarms", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 4
    assert "record at least" in done.stderr
