"""What `edge-asd demo` refuses, and how it ends when a step takes too long."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asd.errors import CheckFailed, UsageError
from edge_asd_tools import demo as demonstration
from edge_asd_tools.demo import demo
from edge_asd_tools.synth.plant import Plan


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the notice of a fan's plant; whatever the demonstration starts there takes too long."""
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant" / "SYNTHETIC.txt").write_text(f"Made with:\n  {Plan(('fan',), sections=2).command}\n")
    monkeypatch.setattr(demonstration, "STEP_SECONDS", 1e-3)
    return tmp_path


@pytest.mark.parametrize(
    ("machines", "synth"),
    [("fan", []), ("fan", ["sections=1"]), ("fan,gearbox", ["sections=2"]), ("fan", ["sections=2", "seed=1"])],
)
def test_a_plant_that_was_made_otherwise_is_refused(made: Path, machines: str, synth: list[str]) -> None:
    with pytest.raises(UsageError, match=r"its plant was made otherwise .* name a new folder"):
        demo(out=made, preset="demo", machines=machines, synth=synth)


def test_the_same_plant_is_taken_and_a_step_that_takes_too_long_is_named(made: Path) -> None:
    with pytest.raises(CheckFailed, match="`edge-asd train` took more than"):
        demo(out=made, preset="demo", machines="fan", synth=["sections=2", "fault-at=45"])


def test_what_is_no_demonstrations_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="file: is not a folder"):
        demo(out=tmp_path / "file")
    with pytest.raises(UsageError, match="holds something that no demonstration made"):
        demo(out=tmp_path)
