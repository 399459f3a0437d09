"""What a device answers is believed as little as what a stranger says."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_asd.errors import CheckFailed, DeploymentError, EdgeAsdError, StorageError, Unreachable
from edge_asd.plain import plain
from edge_asd_tools.deploy import visit as visits
from edge_asd_tools.deploy.visit import Visit, visit


@dataclass(frozen=True)
class Scripted:
    """A device that answers each request with the next of these lines, whatever it is."""

    answers: tuple[str, ...]
    name: str = "pi@shop-floor-7"
    root: str = "/"

    def command(self, *words: str, account: str = "") -> list[str]:
        program = (
            "import sys; read = sys.stdin.buffer.readline; sys.stdin.buffer.read(int(read()))\n"
            f"for answer in {self.answers!r}:\n    read(); print(answer, flush=True)\n"
        )
        return [sys.executable, "-I", "-c", program]

    def explain(self, code: int, errors: str) -> EdgeAsdError:
        return Unreachable(f"{self.name}: ended with {code}")


def answered(*answers: str) -> Visit:
    with visit(Scripted(answers)) as there:
        there.look()
    raise AssertionError("it was believed")


FACTS = {
    "host": "h\x1b]0;owned\x07", "model": "", "machine": "aarch64", "python": "3.11", "glibc": "2.36", "systemd": True,
    "busy": False, "serves": True, "config": None, "signers": False, "record": None, "current": None, "runtimes": [],
}  # fmt: skip


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert plain("a\x1b[2Jb\x07c\u202ed\n") == "a?[2Jb?c?d?"
    assert plain("fan 00: läuft, 3 µV\t✓") == "fan 00: läuft, 3 µV\t✓"
    with visit(Scripted((json.dumps({"done": FACTS}),))) as there:
        assert there.look().host == "h?]0;owned?"
    with pytest.raises(DeploymentError, match=r"^pi@shop-floor-7: no\?\[2J$"):
        answered(json.dumps({"refused": "no\x1b[2J", "code": 8}))


@pytest.mark.parametrize(
    "answer",
    [
        '{"done": 3}',
        '{"done": {"host": 3}}',
        json.dumps({"done": {**FACTS, "runtimes": "x"}}),
    ],
)
def test_facts_that_are_none(answer: str) -> None:
    with pytest.raises(DeploymentError, match="answers what can't be understood"):
        answered(answer)


@pytest.mark.parametrize("answer", ['{"say": ["x"]}', '{"say": 3}', '{"refused": 3}', "[" * 5000, "{}", "null"])
def test_what_is_no_answer_is_passed_over(answer: str) -> None:
    with pytest.raises(Unreachable):
        answered(answer)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, CheckFailed), (7, StorageError), (8, DeploymentError), (12, DeploymentError), (99, DeploymentError)],
)
def test_a_refusal_is_the_error_that_it_would_be_here(code: int, kind: type[EdgeAsdError]) -> None:
    """But never that the device can't be reached: it has just answered."""
    with pytest.raises(EdgeAsdError) as refused:
        answered(json.dumps({"refused": "no", "code": code}))
    assert type(refused.value) is kind


def test_counts_that_can_not_be_are_bounded() -> None:
    answer = json.dumps({"done": {"a": -3, "b": 1 << 60}})
    with visit(Scripted((answer,))) as there:
        assert there.expect([("a", 10, "file"), ("b", 10, "file"), ("c", 10, "file")], 0) == {"a": 0, "b": 10, "c": 0}


def test_a_device_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "ANSWER_SECONDS", 0.3)
    program = "import time; time.sleep(60)"
    monkeypatch.setattr(Scripted, "command", lambda *_, **__: [sys.executable, "-I", "-c", program])
    with pytest.raises(Unreachable):
        answered()


def test_a_file_that_shrinks_while_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"abc")
    shrunk = pytest.raises(StorageError, match="became shorter")
    with shrunk, visit(Scripted(('{"done": null}',))) as there, (tmp_path / "short").open("rb") as file:
        there.take(("0" * 64, 10, "file"), 0, file, lambda piece: None)
