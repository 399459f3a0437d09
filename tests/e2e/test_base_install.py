"""What a device gets: the base packages alone, on the Pythons of Raspberry Pi OS, without PyTorch on the disk."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from common import ROOT, missing


def interpreter(version: str) -> str:
    """A Python of this version: the one that the environment names, or pythonX.Y."""
    named = os.environ.get(f"EDGE_ASD_PYTHON_{version.replace('.', '_')}", f"python{version}")
    try:
        done = subprocess.run([named, "--version"], capture_output=True, text=True)
    except FileNotFoundError:
        done = None
    if done is None or f"Python {version}" not in done.stdout:
        missing(f"Python {version}")
    return named


@pytest.fixture(scope="module", params=["3.11", "3.13"])
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with `pip install .` in it; the path of its `edge-asd`."""
    folder = tmp_path_factory.mktemp(f"device-{request.param}") / "venv"
    subprocess.run([interpreter(request.param), "-m", "venv", str(folder)], check=True)
    command = [
        str(folder / "bin" / "pip"),
        "install",
        "--quiet",
        "--constraint",
        str(ROOT / "constraints.txt"),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        if "Could not find a version" in done.stderr or "Connection" in done.stderr:
            missing(f"the package registry ({done.stderr.strip().splitlines()[-1]})")
        pytest.fail(done.stderr)
    return folder / "bin" / "edge-asd"


@pytest.mark.slow
def test_the_device_scores_and_listens_and_names_the_extra_that_training_needs(
    device: Path, tiny_bundle: Path, plant: Path, tmp_path: Path
) -> None:
    installed = subprocess.run([device.with_name("pip"), "list", "--format=json"], capture_output=True, text=True)
    names = {package["name"].lower() for package in json.loads(installed.stdout)}
    assert not names & {"torch", "tensorflow", "scipy", "scikit-learn", "onnx", "matplotlib"}

    clips = sorted((plant / "fan" / "test").glob("*.wav"))
    done = subprocess.run(
        [device, "score", "--bundle", tiny_bundle, *clips], capture_output=True, text=True, check=True
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [Path(row["file"]).name for row in rows] == [clip.name for clip in clips]
    assert all(float(row["score"]) > 0 for row in rows)

    verified = subprocess.run([device, "bundle", "verify", tiny_bundle], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stderr
    assert "bit for bit" in verified.stdout

    (tmp_path / "device.toml").write_text(
        f'bundle = "{tiny_bundle}"\nsection = "00"\nstate = "{tmp_path / "state"}"\n'
        f'[capture]\nwav = "{plant / "recordings" / "fan_00_fault.wav"}"\npace = "fast"\n'
    )
    command = [device, "run", "--config", tmp_path / "device.toml", "--json"]
    heard = subprocess.run(command, capture_output=True, text=True, check=True)
    scores = [json.loads(line) for line in heard.stdout.splitlines()]
    assert sum(score["kind"] == "score" for score in scores) > 50

    for command in ("train", "evaluate"):
        arguments = (
            ["train", plant, "--machine", "fan", "--out", tmp_path] if command == "train" else [command, tmp_path]
        )
        refused = subprocess.run([device, *arguments], capture_output=True, text=True)
        assert refused.returncode == 6
        assert re.fullmatch(
            r"edge-asd: this command needs \w+, which isn't installed here; "
            r"install it with: pip install 'edge-asd\[train\]'\n",
            refused.stderr,
        )


@pytest.mark.slow
def test_every_command_shows_its_help_without_the_extras(device: Path) -> None:
    listed = subprocess.run([device, "--help"], capture_output=True, text=True, check=True).stdout
    for command in ("train", "evaluate", "score", "run", "deploy", "demo", "data", "bundle"):
        assert re.search(rf"^  {command} ", listed, re.MULTILINE), command
        subprocess.run([device, command, "--help"], capture_output=True, check=True)
