"""When a bundle counts as made: SOURCE_DATE_EPOCH, else the beginning of its run, which the run's folder keeps."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from common import MOMENT
from edge_asd import bundle as bundles
from edge_asd.errors import ConfigError
from edge_asd_trainer import made
from edge_asd_trainer.config import load
from edge_asd_trainer.pipeline import train
from edge_asd_trainer.run_folder import RunFolder


@pytest.fixture
def no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH")


def at(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: seconds)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("1700000000", 1_700_000_000), ("253402300799", 253402300799)])
def test_the_environment_says_it(text: str, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert made.stated() == seconds


@pytest.mark.usefixtures("no_epoch")
def test_the_environment_says_nothing() -> None:
    assert made.stated() is None


@pytest.mark.parametrize("text", ["", " 1", "-1", "+1", "1.5", "1_000", "٣", "yesterday", "253402300800", "9" * 5000])
def test_nonsense_in_the_environment(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(ConfigError, match="expected whole seconds since 1970 UTC") as refusal:
        made.stated()
    assert len(str(refusal.value)) < 300


def test_nonsense_is_refused_before_anything_is_done(
    plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH='yesterday'"):
        train(plant, "fan", RunFolder(tmp_path), load("demo", options=MOMENT), "demo")
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    at(1000.9, monkeypatch)
    assert made.moment(folder, "clips and numbers", None) == 1000
    at(2000.0, monkeypatch)
    assert made.moment(folder, "clips and numbers", None) == 1000
    assert made.moment(folder, "other clips", None) == 2000
    at(3000.0, monkeypatch)
    assert made.moment(folder, "other clips", None) == 2000
    assert made.moment(folder, "other clips", 7) == 7
    assert made.moment(folder, "other clips", None) == 7
    folder.made.write_text("{}")
    with pytest.raises(ConfigError, match=r"made\.json: not valid"):
        made.moment(folder, "other clips", None)


def digest(folder: RunFolder) -> str:
    return bundles.read(folder.bundle("fan")).digest


def test_the_same_moment_gives_the_same_bytes_in_any_folder(
    plant: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trained is copied; all that the moment goes into is made anew."""
    folder, first = RunFolder(shutil.copytree(run_folder, tmp_path / "fan")), digest(RunFolder(run_folder))

    def repeated() -> int:
        train(plant, "fan", folder, load("demo", options=MOMENT), "demo")
        return bundles.read(folder.bundle("fan")).manifest.made

    assert bundles.read(folder.bundle("fan")).manifest.made == 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")
    assert repeated() == 1_800_000_000
    assert digest(folder) != first
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert repeated() == 1_800_000_000
    folder.made.unlink()  # a run of an earlier version
    before = int(time.time())
    assert before <= (of_now := repeated()) <= time.time()
    at(4e9, monkeypatch)
    assert repeated() == of_now
    monkeypatch.undo()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert repeated() == 1_700_000_000
    assert digest(folder) == first
