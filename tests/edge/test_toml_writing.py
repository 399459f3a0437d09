"""What is written as TOML reads back as it was."""

from __future__ import annotations

import datetime
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd import toml_writing

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = TEXT | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_round_trip(document: dict[str, object]) -> None:
    assert tomllib.loads(toml_writing.encode(document)) == document


def test_plain_values_come_before_tables() -> None:
    assert toml_writing.encode({"t": {"a": 1}, "b": [1.5, "x"]}) == 'b = [1.5, "x"]\n\n[t]\na = 1\n'


def test_what_has_no_place_is_refused() -> None:
    with pytest.raises(TypeError, match="no place"):
        toml_writing.encode({"when": datetime.date(2022, 1, 1)})
