"""`edge-asd train --machine all`: a run a machine type, here or on Ray."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from common import MOMENT
from edge_asd import bundle as bundles


@pytest.fixture
def two_types(plant: Path, tmp_path: Path) -> Path:
    """The plant's fan, and a pump of which there is no clip that could be read."""
    data = tmp_path / "data"
    shutil.copytree(plant / "fan", data / "fan")
    for number in range(2):
        path = data / "pump" / "train" / f"section_00_source_train_normal_{number:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return data


@pytest.mark.slow
@pytest.mark.parametrize("where", ["here", "ray"])
def test_what_stops_one_machine_type_does_not_stop_the_other(
    where: str, two_types: Path, run_folder: Path, tmp_path: Path, edge_asd: list[str]
) -> None:
    out = tmp_path / "runs"
    command = [*edge_asd, "train", str(two_types), "--machine", "all", "--preset", "demo", "--out", str(out)]
    command += [word for setting in MOMENT for word in ("--set", setting)]
    done = subprocess.run([*command, "--on", where], capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("edge-asd: ")
    assert last.endswith("section_00_source_train_normal_0000.wav: empty (0 bytes); expected WAV or FLAC.")
    assert done.stdout.startswith("fan: 8 test clips")
    assert (out / "fan" / "report" / "index.html").is_file()
    found, expected = (bundles.read(path) for path in (out / "fan" / "fan.easd", run_folder / "fan.easd"))
    assert found.model == expected.model


def test_a_data_set_without_machine_types_says_what_was_expected(tmp_path: Path, edge_asd: list[str]) -> None:
    done = subprocess.run(
        [*edge_asd, "train", str(tmp_path), "--machine", "all", "--out", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 4
    assert "no machine types there; expected folders like" in done.stderr


def test_two_trainings_never_share_a_folder(plant: Path, tmp_path: Path, edge_asd: list[str]) -> None:
    from edge_asd_trainer.run_folder import RunFolder

    with RunFolder(tmp_path).taken():
        done = subprocess.run(
            [*edge_asd, "train", str(plant), "--machine", "fan", "--out", str(tmp_path)], capture_output=True, text=True
        )
    assert done.returncode == 2
    assert "another process is training into this folder" in done.stderr
