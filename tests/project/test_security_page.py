"""docs/security.md says what is done about each threat and which test holds it: every one of these is there."""

from __future__ import annotations

import re

import pytest

from common import ROOT
from project.tables import column, held_in, quoted

PAGE = (ROOT / "docs" / "security.md").read_text()


@pytest.mark.parametrize("name", quoted(PAGE, "test"))
def test_every_test_is_there(name: str) -> None:
    module, test = name.rsplit(".", 1)
    assert test in held_in(module)


def test_no_threat_is_without_a_test() -> None:
    threats, done, tests = (column(PAGE, head) for head in ("threat", "what is done", "test"))
    assert len(threats) == len(done) == len(tests) >= 30
    for threat, measure, named in zip(threats, done, tests, strict=True):
        assert threat
        assert len(measure) > 20, threat
        assert re.findall(r"`[\w/]+\.test_\w+`", named), f"{threat}: no test holds it"


def test_every_test_of_security_is_named() -> None:
    named = set(quoted(PAGE, "test"))
    for path in sorted((ROOT / "tests" / "edge").glob("test_security*.py")):
        for test in held_in(path.stem):
            assert not test.startswith("test_") or f"{path.stem}.{test}" in named, f"{path.stem}.{test} isn't named"


def test_every_actor_has_a_row() -> None:
    actors = " ".join(column(PAGE, "who"))
    for one in ("workstation", "login account", "root", "`edge-asd`", "network", "broker", "bundle", "recordings"):
        assert one in actors, one
    for one in ("card", "index"):
        assert one in actors, one


def test_a_weakness_can_be_reported() -> None:
    short = (ROOT / "SECURITY.md").read_text()
    assert "docs/security.md" in short
    for text in (short, PAGE):
        assert "private vulnerability reporting" in text
    assert "](docs/security.md)" in (ROOT / "README.md").read_text()
