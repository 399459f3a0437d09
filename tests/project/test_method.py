"""docs/method.md says where a reading of the paper is in the code and what holds it: all of it is there."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec

import pytest

from common import ROOT
from project.tables import column, held_in, quoted

PAGE = (ROOT / "docs" / "method.md").read_text()


@pytest.mark.parametrize("name", quoted(PAGE, "where in the code"))
def test_every_name_in_the_code_is_there(name: str) -> None:
    module, *rest = name.split(".")
    package = next(one for one in ("edge_asd_trainer", "edge_asd") if find_spec(f"{one}.{module}"))
    found = import_module(f"{package}.{module}")
    for step in rest:
        fields = getattr(found, "__annotations__", {})
        assert hasattr(found, step) or step in fields, f"{package}.{name} isn't there"
        found = getattr(found, step, None)
    assert rest


@pytest.mark.parametrize("name", quoted(PAGE, "held by"))
def test_every_test_is_there(name: str) -> None:
    module, test = name.rsplit(".", 1)
    assert test in held_in(module)


@pytest.mark.parametrize("head", ["where in the code", "held by"])
def test_no_row_is_without(head: str) -> None:
    cells = column(PAGE, head)
    assert len(cells) >= 21
    for cell in cells:
        assert "`" in cell


def test_every_reading_says_where_the_paper_says_it() -> None:
    rows = column(PAGE, "the paper says")
    assert len(rows) == 21
    for row in rows:
        assert re.search(r"\((2\.[1-5]|equations? \d|Tables? \d)", row), row


def test_every_test_of_the_readings_is_named() -> None:
    named = set(quoted(PAGE, "held by"))
    for module in ("test_readings", "test_failed_reimplementation"):
        assert {f"{module}.{test}" for test in held_in(module) if test.startswith("test_")} <= named
