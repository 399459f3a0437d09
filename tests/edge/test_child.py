"""Programs that are run to their end, or to the end of our patience."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from edge_asd import child
from edge_asd.errors import CheckFailed


def test_code_and_output() -> None:
    finished = child.run(["sh", "-c", "echo out; echo one >&2; echo two >&2; exit 3"], seconds=10)
    assert finished == child.Finished(3, "out\n", "one\ntwo\n")
    assert finished.last_line == "two"


def test_silence() -> None:
    assert child.run(["true"], seconds=10).last_line == "it said nothing"


def test_output_is_bounded_and_its_end_is_kept() -> None:
    program = "import sys; sys.stdout.write('x' * 5_000_000 + 'end')"
    output = child.run([sys.executable, "-c", program], seconds=60).output
    assert len(output) == child.MOST_OUTPUT
    assert output.endswith("xend")


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="can't be started"):
        child.run([str(tmp_path / "nothing")], seconds=1)


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60",
        "sleep 60 & wait",
        "exec >&- 2>&-; sleep 60",  # closed its output, and goes on
        "(sleep 2; touch grown) & exit 0",  # what it started holds on to its output
    ],
)
def test_time_is_limited_for_it_and_its_children(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with pytest.raises(CheckFailed, match=r"was not done after 0\.3 s"):
        child.run(["sh", "-c", script], seconds=0.3)
    assert time.monotonic() - began < 5
    time.sleep(2.2 if "grown" in script else 0)
    assert not Path("grown").exists()


def test_an_open_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("as given\n")
    with (tmp_path / "given").open("rb") as file:
        assert child.run(["cat"], seconds=10, stdin=file).output == "as given\n"
    assert child.run(["cat"], seconds=10).output == ""
