"""JSON that is no value of a type is refused in one way, whatever is wrong with it."""

from __future__ import annotations

import pytest

from edge_asd.release_record import Record
from edge_asd.status import Status
from edge_asd.strict import decoded


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"pid": "a"}',
        b'{"pid\xff": 1}',
        b'{"bundle": "\xff"}',
        b'{"bundle": "\\ud800"}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b'{"a":' * 100_000,
        '{"bundle": "\ud800"}',
    ],
)
def test_what_is_no_value_is_refused_in_one_way(content: bytes | str) -> None:
    with pytest.raises(ValueError, match=r"JSON|missing|utf|truncated|nested|Expected|surrogates"):
        decoded(content, Status)


def test_a_value_is_what_it_was() -> None:
    assert decoded(b'{"releases": []}', Record) == Record()
    assert decoded('{"releases": ["a"], "shadow": "b"}', Record) == Record(("a",), "b")
