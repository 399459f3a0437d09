"""The benchmarks' machinery: rows, turns, and the page they are kept on. Not how fast anything is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from common import ROOT, missing
from edge_asd.errors import MissingRequirement, UsageError
from edge_asd_trainer.bench import page as pages
from edge_asd_trainer.bench.catalogue import MEASUREMENTS, measurement
from edge_asd_trainer.bench.measurement import Effort, Row, fastest
from edge_asd_trainer.bench.peers import installed_peers


def test_a_ratio_says_how_many_times_as_good_ours_is() -> None:
    quick = Row("a step", ours=2.0, theirs=3.0, unit="ms", peer="them", goal=1.5)
    assert (quick.ratio, quick.met) == (1.5, True)
    many = Row("loading", ours=2.0, theirs=3.0, unit="windows/s", peer="them", goal=1.0, more_is_better=True)
    assert (round(many.ratio, 3), many.met) == (0.667, False)
    assert Row("memory", 1.0, 2.0, "MB", "them").met is None


def test_contenders_take_turns() -> None:
    calls: list[str] = []
    seconds = fastest({name: lambda name=name: calls.append(name) for name in ("ours", "theirs")}, 3)
    assert calls == ["ours", "theirs"] * 3
    assert set(seconds) == {"ours", "theirs"}
    assert all(0 <= value < 1 for value in seconds.values())


def test_an_effort_scales_an_amount_and_leaves_some() -> None:
    assert [Effort(scale=scale).of(64) for scale in (0.001, 0.5, 2)] == [1, 32, 128]


def test_a_table_says_all_of_a_row() -> None:
    rows = [
        Row("a step", ours=0.51234, theirs=2.0, unit="ms", peer="them", goal=3.0),
        Row("memory", ours=100.0, theirs=50.0, unit="MB", peer="others"),
    ]
    assert pages.table(rows).splitlines() == [
        "| what | ours | peer | peer's | ratio | goal | met |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| a step | 0.512 ms | them | 2 ms | 3.90 | 3 | yes |",
        "| memory | 100 MB | others | 50 MB | 0.50 |  |  |",
    ]


def test_the_page_keeps_what_stands_around_a_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n\n<!-- bench a -->\nold\n<!-- end of bench a -->\n\nafter\n")
    pages.write(page, "a", "new \\1\n")
    pages.write(page, "b", "another\n")
    pages.write(page, "b", "yet another\n")
    assert page.read_text() == (
        "# Before\n\n<!-- bench a -->\nnew \\1\n<!-- end of bench a -->\n\nafter\n\n"
        "<!-- bench b -->\nyet another\n<!-- end of bench b -->\n"
    )
    with pytest.raises(UsageError, match=r"none.md: can't be read .*name another page"):
        pages.write(tmp_path / "none.md", "a", "")


def test_the_projects_page_has_a_place_for_every_measurement() -> None:
    marked = re.findall(r"<!-- bench (\S+) -->", (ROOT / "docs" / "benchmarks.md").read_text())
    assert sorted(marked) == sorted(MEASUREMENTS)


def test_every_measurement_is_there_and_says_what_it_measures() -> None:
    assert all(measurement(name).__doc__ for name in MEASUREMENTS)


def test_a_process_that_measures_log_mels_need_not_import_pytorch() -> None:
    """Each of them imports the measuring program anew, before it starts: seconds that no user waits for."""
    asked = (
        "import sys, edge_asd_trainer.bench.__main__, edge_asd_trainer.bench.log_mels; print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", asked], text=True) == "False\n"


PRECISIONS = ("float32", "bfloat16")


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_asd_trainer.bench", *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def peers() -> list[str]:
    try:
        return installed_peers()
    except MissingRequirement as error:
        missing(str(error))
        raise


@pytest.mark.slow
@pytest.mark.parametrize("name", ["log-mels", "log-mels-started", "log-mel"])
def test_log_mels_are_measured_beside_every_peer_that_is_here(name: str, peers: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Benchmarks\n")
    done = bench("--only", name, "--repetitions", "1", "--scale", "0.05", "--page", str(page))
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| log-mel.* \| [\d.]+ ms \| (\S+) \| [\d.]+ ms \| [\d.]+ \|", done.stdout, re.MULTILINE)
    assert rows == peers
    assert done.stdout.strip() in page.read_text()
    assert re.search(r"^\d{4}-\d\d-\d\d, .*\d+ cores, Python 3.*, numpy 1.*scale 0.05\.$", page.read_text(), re.M)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("pre-training", [f"{what}, {p}" for p in PRECISIONS for what in ("a pre-training step", "loading in a step")]),
        ("memory", [f"memory of training on 6000 clips, {precision}" for precision in PRECISIONS]),
    ],
)
def test_training_is_measured_in_both_precisions(name: str, rows: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Benchmarks\n")
    done = bench("--only", name, "--repetitions", "1", "--scale", "0.03", "--page", str(page))
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^\| (.*?, \w+) \|", done.stdout, re.MULTILINE) == rows
    assert done.stdout.strip() in page.read_text()


def test_an_unknown_measurement_is_refused_by_name() -> None:
    done = bench("--only", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: --only nothing: there is no such measurement; there are log-mels, ")
