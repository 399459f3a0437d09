"""The Pi's processor computes what the workstation's does, to the last bit: the device's own code under emulation."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common import ROOT, missing
from edge_asd import bundle as bundles
from edge_asd import golden
from edge_asd.errors import MissingRequirement
from edge_asd_trainer.bench.arm64 import Arm64, arm64, made
from edge_asd_trainer.bench.instructions import count

pytestmark = pytest.mark.slow

SECONDS = 300.0
CORES = ("cortex-a53", "cortex-a72", "cortex-a76")  # of the Pi Zero 2 W and 3, 4, 5: the last one has other kernels
EMBED = """
import sys
from edge_asd import bundle, golden
opened = bundle.read(__import__("pathlib").Path(sys.argv[1]))
detector = opened.detector()
heard = detector.hear(detector.front_end.log_mel(golden.waveform(opened)))
print(heard.embedding.tobytes().hex(), opened.golden_embedding.tobytes().hex())
"""


@pytest.fixture(scope="module")
def pi() -> Arm64:
    """Made once, and kept in the checkout."""
    try:
        return arm64(Path(os.environ.get("EDGE_ASD_ARM64", ROOT / ".arm64")), ROOT / "constraints.txt")
    except MissingRequirement as error:
        missing(str(error))
        raise AssertionError from error  # not reached


def test_whoever_is_late_finds_what_another_process_made(tmp_path: Path) -> None:
    def slowly(into: Path) -> None:
        (into / "mine").touch()
        (tmp_path / "place").mkdir()
        (tmp_path / "place" / "theirs").touch()

    assert [path.name for path in made(tmp_path / "place", slowly).iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_what_was_begun_and_failed_is_not_there(tmp_path: Path) -> None:
    def fails(into: Path) -> None:
        (into / "half").touch()
        raise MissingRequirement("no network")

    with pytest.raises(MissingRequirement):
        made(tmp_path / "place", fails)
    assert not list(tmp_path.iterdir())


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingRequirement, match="needs qemu-aarch64-static, which isn't installed"):
        arm64(tmp_path, ROOT / "constraints.txt")


def test_it_is_another_processor(pi: Arm64) -> None:
    done = pi.run("-c", "import platform; print(platform.machine())", seconds=SECONDS)
    assert done.stdout.strip() == "aarch64"


@pytest.mark.parametrize("core", CORES)
def test_the_golden_clip_scores_bit_for_bit_the_same(pi: Arm64, tiny_bundle: Path, core: str) -> None:
    here = golden.check(bundles.read(tiny_bundle))
    assert here.exact
    done = pi.run("-m", "edge_asd", "bundle", "verify", str(tiny_bundle), "--json", seconds=SECONDS, cpu=core)
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    assert there["runtime"] == here.runtime
    assert there["runtime"].startswith("litert ")
    assert (there["exact"], there["passed"], there["score"]) == (True, True, here.score)
    found, expected = pi.run("-c", EMBED, str(tiny_bundle), seconds=SECONDS, cpu=core).stdout.split()
    assert found == expected == bundles.read(tiny_bundle).golden_embedding.tobytes().hex()


def test_a_golden_clip_that_differs_in_its_last_bit_is_noticed(pi: Arm64, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = bundles.read(tiny_bundle)
    other = bundle.golden_embedding.copy()
    other[7] = np.nextafter(other[7], np.float32(np.inf))
    bundles.write(tmp_path / "other.easd", replace(bundle, golden_embedding=other))
    done = pi.run("-m", "edge_asd", "bundle", "verify", str(tmp_path / "other.easd"), "--json", seconds=SECONDS)
    assert done.returncode == 1
    assert json.loads(done.stdout)["exact"] is False


def test_clips_score_the_same_bytes(pi: Arm64, tiny_bundle: Path, plant: Path, edge_asd: list[str]) -> None:
    command = ["score", str(plant / "fan" / "test"), "--bundle", str(tiny_bundle), "--jobs", "1"]
    here = subprocess.run([*edge_asd, *command], capture_output=True, text=True, timeout=SECONDS)
    there = pi.run("-m", "edge_asd", *command, seconds=SECONDS, cpu=CORES[0])
    assert here.returncode == there.returncode == 0, there.stderr
    assert len(here.stdout.splitlines()) > 4
    assert there.stdout == here.stdout


def test_listening_takes_few_instructions(pi: Arm64, tiny_bundle: Path) -> None:
    """They are the same at every run: 35 million for a second of sound, and 21 million where there are dot products."""
    try:
        old, new = (count(pi, tiny_bundle, hops=2, core=core) for core in ("cortex-a53", "cortex-a76"))
    except MissingRequirement as error:
        missing(str(error))
        raise AssertionError from error  # not reached
    for counted in (old, new):
        parts = sum(counted[part] for part in ("front end", "model", "bank"))
        assert 0.9 * counted["listening"] < parts < 1.1 * counted["listening"]
    assert 10 < old["listening"] < 50
    assert 1.5 < old["model"] / new["model"] < 3
