"""Every door, with what is right, with what once broke one, and with a moment of what a fuzzer sends for hours."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import ROOT, missing
from edge_asd.errors import BundleError
from fuzz import contract
from fuzz.__main__ import CORPUS
from fuzz.doors import Door, doors

# A warning of a library's is no error outside of tests.
pytestmark = pytest.mark.filterwarnings("default")

DOORS = list(doors().values())
LARGEST_CORPUS, MOST_FILES = 200_000, 64


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_a_door_stands_what_it_was_tried_with(door: Door) -> None:
    for content in door.seeds():
        door.knock(content)
    for path in sorted((CORPUS / door.name).glob("*")):
        door.knock(path.read_bytes())


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(random=st.randoms(use_true_random=False))
def test_a_door_stands_a_moment_of_fuzzing(door: Door, random: Random) -> None:
    content = random.choice(door.seeds())
    for _ in range(random.randrange(1, 4)):
        changed = random.choice(door.mutations)(content, random) if door.mutations and random.random() < 0.6 else None
        content = _mutilated(content, door, random) if changed is None else changed
    door.knock(content[: door.longest])


def _mutilated(content: bytes, door: Door, random: Random) -> bytes:
    """Some octets left out, put in, or in place of others."""
    begin = random.randrange(len(content) + 1)
    end = begin + random.choice((0, 0, 1, 4, 40))
    return content[:begin] + random.choice((b"", b"\0", b"\xff" * 4, *door.words)) + content[end:]


def test_the_corpus_is_small_and_of_doors_that_there_are() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= doors().keys()
    assert len(files) <= MOST_FILES
    assert sum(path.stat().st_size for path in files) <= LARGEST_CORPUS


def test_what_a_door_must_not_do_is_seen(tmp_path: Path) -> None:
    with pytest.raises(contract.Breach, match="one short line"), contract.refusals(ValueError):
        raise ValueError("a\x1b[31m")
    with pytest.raises(contract.Breach, match="one short line"), contract.refusals(ValueError):
        raise ValueError("a" * 2000)
    with pytest.raises(ValueError, match="nobody foresaw"), contract.refusals():
        raise ValueError("nobody foresaw this")
    with contract.refusals():
        raise BundleError("a.easd: is none.")
    with pytest.raises(contract.Breach, match="took"), contract.refusals():
        compute(contract.LONGEST_SECONDS + 0.1)
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a").write_bytes(b"")
    with contract.opening_only(inside):
        (inside / "a").read_bytes()
    with pytest.raises(contract.Breach, match="opened"), contract.opening_only(inside):
        (inside / "../outside/a").read_bytes()
    with contract.changing_only(inside):
        (inside / "a").rename(inside / "b")
    for act in (
        (inside / "../outside/a").unlink,
        lambda: (outside / "b").write_bytes(b""),
        lambda: (inside / "b").rename(outside / "b"),
        lambda: (inside / "c").symlink_to(outside) or (inside / "c" / "a").unlink(),
    ):
        with pytest.raises(contract.Breach, match="outside"), contract.changing_only(inside):
            act()
    assert [path.name for path in outside.iterdir()] == ["a"]


def test_a_fuzzer_guided_by_coverage_knocks_at_a_door(tmp_path: Path) -> None:
    if not _has_atheris():
        missing("atheris, which comes for x86-64")
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    command = [
        sys.executable,
        "-m",
        "fuzz",
        "complaints",
        "--minutes",
        "0.1",
        "--folder",
        ".fuzz",
        "--page",
        str(page),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [_, door, executions, *_, found, _] = page.read_text().split("| --- |\n")[-1].splitlines()[0].split("|")
    assert door.strip() == doors()["complaints"].title
    assert int(executions) > 100
    assert int(found) == 0


def compute(seconds: float) -> None:
    """So long, of this thread's own time."""
    began = time.thread_time()
    while time.thread_time() < began + seconds:
        pass


def _has_atheris() -> bool:
    try:
        import atheris
    except ModuleNotFoundError:
        return False
    return bool(atheris)
