"""docs/correctness.md says which other implementation holds what, and in which test: every one of these is there."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from common import ROOT
from project.tables import column, held_in, quoted

PAGE = (ROOT / "docs" / "correctness.md").read_text()


@pytest.mark.parametrize("name", quoted(PAGE, "test"))
def test_every_test_is_there(name: str) -> None:
    module, test = name.rsplit(".", 1)
    assert test in held_in(module)


@pytest.mark.parametrize("name", quoted(PAGE, "ours"))
def test_every_module_is_there(name: str) -> None:
    assert any(find_spec(f"{package}.{name}") for package in ("edge_asd", "edge_asd_trainer"))


def test_every_row_names_a_test() -> None:
    assert all("`" in cell for cell in column(PAGE, "test"))


def test_front_end_losses_metrics_and_neighbours_have_one_each() -> None:
    ours = " ".join(column(PAGE, "ours"))
    for module in ("front_end", "losses", "metrics", "bank"):
        assert f"`{module}`" in ours
