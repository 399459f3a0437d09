"""Which clips a bank keeps, and how few are enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from common import MOMENT
from edge_asd import bundle as bundles
from edge_asd import golden
from edge_asd.errors import ConfigError, DataError
from edge_asd.front_end import FrontEnd
from edge_asd_trainer.bank_choice import BankChoice, choose
from edge_asd_trainer.commands import train as train_command
from edge_asd_trainer.config import load
from edge_asd_trainer.coreset import coreset
from edge_asd_trainer.made_up_faults import KINDS, made_up_fault
from edge_asd_trainer.pipeline import train
from edge_asd_trainer.run_folder import RunFolder

STATES = 12


def states(clips: int, seed: int = 0, spread: float = 0.1) -> np.ndarray:
    """Clips of twelve operating states, in turns."""
    places = np.random.default_rng(99).normal(0, 3, (STATES, 32))
    random = np.random.default_rng(seed)
    return (places[np.arange(clips) % STATES] + random.normal(0, spread, (clips, 32))).astype(np.float32)


def test_a_coreset_has_a_clip_of_every_state() -> None:
    chosen = coreset(states(240), STATES)
    assert sorted(index % STATES for index in chosen) == list(range(STATES))
    assert chosen == sorted(set(chosen)) == coreset(states(240), STATES)


def test_rounding_does_not_say_which_of_two_clips_stands_for_both() -> None:
    random = np.random.default_rng(0)
    pairs = np.repeat(random.normal(0, 5, (8, 320)), 2, axis=0) + random.normal(0, 0.3, (16, 320))
    from_all = np.linalg.norm(pairs - pairs.mean(axis=0), axis=1).reshape(8, 2)
    nearer = (2 * np.arange(8) + from_all.argmin(axis=1)).tolist()
    assert 0 < sum(index % 2 for index in nearer) < 8
    for order in (np.arange(320), *(np.random.default_rng(seed).permutation(320) for seed in range(5))):
        # the same distances, but for the order in which they are summed
        assert coreset(pairs[:, order].astype(np.float32), 8) == nearer


def test_a_coreset_stands_nearer_to_all_than_clips_at_random() -> None:
    clips = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)

    def mean_distance(chosen: list[int]) -> float:
        return float(np.linalg.norm(clips[:, None] - clips[chosen], axis=2).min(axis=1).mean())

    drawn = [np.random.default_rng(draw).choice(200, 16, replace=False).tolist() for draw in range(10)]
    assert mean_distance(coreset(clips, 16)) < min(map(mean_distance, drawn))


@pytest.mark.parametrize("clips", [np.zeros((30, 4), np.float32), np.ones((5, 4), np.float32)])
def test_clips_that_are_the_same_are_still_so_many(clips: np.ndarray) -> None:
    assert len(set(coreset(clips, 4))) == 4
    assert coreset(clips, 99) == list(range(len(clips)))


def test_the_smallest_bank_that_loses_nothing_has_every_state() -> None:
    normal = {"00": states(240), "01": states(240, 1)}
    faulty = {name: rows + np.random.default_rng(5).normal(0, 0.08, rows.shape) for name, rows in normal.items()}
    found = choose(normal, faulty, paired=True, tolerance=5.0)
    assert found.entries == 16  # of 8, 16, 32, ...: the first that holds twelve states
    assert found.auc is not None
    assert 0.7 < found.auc < 1
    assert found.tried[0].loss > 5
    assert "loses" in found.why
    assert found == choose(normal, faulty, paired=True, tolerance=5.0)


def test_where_every_clip_counts_all_are_kept() -> None:
    places = np.random.default_rng(9).normal(0, 3, (80, 32))
    clips = (np.tile(places, (3, 1)) + np.random.default_rng(0).normal(0, 0.1, (240, 32))).astype(np.float32)
    faulty = clips + np.random.default_rng(1).normal(0, 0.08, clips.shape)
    found = choose({"00": clips}, {"00": faulty}, paired=True, tolerance=0.5)
    assert found.entries == 0
    assert "no smaller bank loses less than 0.5 points" in found.said()


def of_loss(*losses: float) -> NDArray[np.float64]:
    """The AUC of banks of 8, 16, ... that lose so many points, a little more or less in each fold, and of the whole."""
    aucs = 0.9 - np.array([*losses, 0.0]) / 100
    return aucs + np.array([[0.001], [-0.001]] * 5) * ([1.0] * len(losses) + [0.0])


@pytest.mark.parametrize(
    ("losses", "entries"),
    [
        ((0.1, 0.1, 0.1), 8),
        ((-0.4, 2.0, 0.1), 32),  # eight passed by luck: twice as many fail
        ((3.0, 0.1, 2.0), 0),
        ((3.0, 0.48, 0.1), 32),  # an error of 0.03 is more than is left of the tolerance
    ],
)
def test_a_size_is_good_enough_where_all_larger_ones_are(
    losses: tuple[float, ...], entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_asd_trainer.bank_choice._aucs", lambda *_, **__: of_loss(*losses))
    found = choose({"00": states(64)}, {"00": states(64)}, paired=True, tolerance=0.5)
    assert found.entries == entries


def test_what_a_bank_seems_to_gain_makes_up_for_no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    aucs = 0.9 + np.array([[0.05, 0.0, 0.0], [-0.03, 0.0, 0.0]] * 5)  # a point more, and an error of 1.3
    monkeypatch.setattr("edge_asd_trainer.bank_choice._aucs", lambda *_, **__: aucs)
    assert choose({"00": states(32)}, {"00": states(32)}, paired=True, tolerance=0.5).entries == 16


@pytest.mark.parametrize("more", [1, 500])
def test_of_many_clips_as_many_are_measured_with_as_of_fewer(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asd_trainer.bank_choice.MOST_CLIPS", 100)
    clips = np.random.default_rng(0).normal(size=(100 + more, 3)).astype(np.float32)
    faulty = clips + np.random.default_rng(1).normal(0, 0.6, clips.shape).astype(np.float32)
    found = choose({"00": clips}, {"00": faulty}, paired=True, tolerance=100)
    assert [one.entries for one in found.tried] == [8, 16, 32, 64]
    assert found.tried[-1].loss != 0  # a bank of 64 is not all that there is


def test_real_faults_need_not_be_as_many_as_clips() -> None:
    normal = {"00": states(240), "01": states(10)}
    faulty = {"00": states(7, 3, spread=0.5)}
    assert choose(normal, faulty, paired=False, tolerance=1.0).entries == 16


@pytest.mark.parametrize(
    ("clips", "faulty", "why"),
    [
        (19, states(19) + 1, "no section has 20 clips and a fault"),
        (40, np.empty((0, 32), np.float32), "no section has 20 clips and a fault"),
        (40, states(40, 7), "no better than chance"),
    ],
)
def test_where_nothing_can_be_measured_all_are_kept(clips: int, faulty: np.ndarray, why: str) -> None:
    found = choose({"00": states(clips)}, {"00": faulty}, paired=False, tolerance=0.5)
    assert found.entries == 0
    assert why in found.why


def test_a_choice_in_words() -> None:
    assert BankChoice(64, "as many as were asked for").said() == "at most 64 clips a section: as many as were asked for"
    assert BankChoice(0, "nothing may be lost").said() == "all clips: nothing may be lost"


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_changes_a_clip_and_no_more_than_a_fault_would(kind: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asd_trainer.made_up_faults.KINDS", (kind,))
    log_mel = FrontEnd().log_mel(np.random.default_rng(0).normal(0, 0.05, 160_000).astype(np.float32))
    for seed in range(20):
        faulty = made_up_fault(log_mel, np.random.default_rng(seed))
        assert faulty.shape == log_mel.shape
        assert faulty.dtype == np.float32
        assert np.isfinite(faulty).all()
        assert 0.1 < np.abs(faulty - log_mel).max() < 40
        np.testing.assert_array_equal(faulty, made_up_fault(log_mel, np.random.default_rng(seed)))


def test_faults_are_of_every_kind() -> None:
    log_mel = np.random.default_rng(0).normal(-40, 3, (313, 128)).astype(np.float32)
    changes = [made_up_fault(log_mel, np.random.default_rng(seed)) - log_mel for seed in range(60)]
    shares = np.array([(np.abs(change) > 0.05).mean() for change in changes])
    assert shares.min() < 0.05  # a tone
    assert shares.max() > 0.9  # the level of everything


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> RunFolder:
    import shutil

    return RunFolder(Path(shutil.copytree(run_folder, tmp_path / "run")))


def trained(plant: Path, copy: RunFolder, *options: str) -> bundles.Bundle:
    train(plant, "fan", copy, load("demo", options=[*MOMENT, *options]), "demo")
    return bundles.read(copy.bundle("fan"))


def test_a_bank_of_as_many_clips_as_were_asked_for(plant: Path, copy: RunFolder) -> None:
    whole = bundles.read(copy.bundle("fan"))
    small = trained(plant, copy, "detection.bank_size=3")
    for section, bank in small.embedding_banks.items():
        assert len(bank) == small.manifest.sections[section].entries == 3
        assert set(bank.clips) < set(whole.embedding_banks[section].clips)
        stated = small.manifest.sections[section]
        assert (stated.source_clips, stated.target_clips) == (6, 2)
        # what unseen clips score can only grow where there are fewer to be near to
        assert stated.thresholds.decision > whole.manifest.sections[section].thresholds.decision
    assert "The bank keeps at most 3 clips a section: as many as were asked for." in small.model_card
    assert "all clips: no section has 20 clips" in whole.model_card
    assert golden.check(small).exact


def test_several_back_ends_in_a_bundle(plant: Path, copy: RunFolder) -> None:
    backends = 'detection.backends=[{}, {distance="mahalanobis"}, {feature="statistics", neighbours=2, density=3}]'
    found = trained(plant, copy, backends)
    assert [backend.distance for backend in found.manifest.backends] == ["nearest", "mahalanobis", "nearest"]
    assert found.banks["00"].keys() == {"embedding", "statistics"}
    assert all(len(section.spreads) == 3 for section in found.manifest.sections.values())
    result = golden.check(found)
    assert result.exact
    assert result.score != bundles.read(copy.bundle("fan")).manifest.golden.tolerance
    assert "look at all" in found.model_card


def test_real_faults_are_read_and_asked_for_their_section(plant: Path, copy: RunFolder, tmp_path: Path) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    for name in ("section_00_grinding.wav", "section_01_grinding.wav"):
        soundfile.write(faults / name, np.random.default_rng(0).normal(0, 0.1, 160_000), 16000)
    # eight clips a section are too few to measure with, but the faults are heard
    found = trained(plant, copy, f"detection.anomalies={str(faults)!r}")
    assert "no section has 20 clips" in found.model_card
    assert copy.features("anomalies").is_file()
    soundfile.write(faults / "grinding.wav", np.zeros(160_000), 16000)
    with pytest.raises(DataError, match=r"grinding\.wav: its name says no section; expected section_00_\.\.\. or"):
        trained(plant, copy, f"detection.anomalies={str(faults)!r}")
    with pytest.raises(DataError, match="no WAV or FLAC file there"):
        trained(plant, copy, f"detection.anomalies={str(tmp_path / 'none')!r}")


def test_sizes_that_can_not_be_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bank_tolerance must lie in 0\.0\.\.100\.0, found -1"):
        train_command(tmp_path, "fan", tmp_path / "run", bank_tolerance=-1)
