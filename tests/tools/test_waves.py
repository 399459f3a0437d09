"""How a fleet is cut into waves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.errors import UsageError
from edge_asd_tools.deploy.waves import sizes

PORTIONS = st.lists(st.integers(1, 999).map(str) | st.integers(1, 100).map("{}%".format), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("devices", "wave", "expected"),
    [
        (100, None, [100]),
        (100, "1,5,25%", [1, 5, 25, 69]),
        (10, "1,5,25%", [1, 5, 3, 1]),  # 2.5, rounded up
        (6, "1,5,25%", [1, 5]),
        (3, "1,5,25%", [1, 2]),
        (1, "1,5,25%", [1]),
        (7, " 2 , 100% ", [2, 5]),
        (10_000, "1%", [100, 9900]),
        (3, "1%", [1, 2]),
    ],
)
def test_examples(devices: int, wave: str | None, expected: list[int]) -> None:
    assert sizes(devices, wave) == expected


@given(st.integers(1, 10_000), PORTIONS)
def test_together_they_are_the_fleet(devices: int, portions: list[str]) -> None:
    """Whatever is asked for, each device is in one wave, and each wave but the last two is as large as was asked."""
    found = sizes(devices, ",".join(portions))
    assert sum(found) == devices
    assert min(found) > 0
    assert len(found) <= len(portions) + 1
    for size, portion in zip(found[:-2], portions, strict=False):
        wanted = float(portion.rstrip("%")) * (devices / 100 if portion.endswith("%") else 1)
        assert wanted - 1e-6 <= size < wanted + 1


@pytest.mark.parametrize("wave", ["", ",", "1,,2", "0", "0%", "101%", "-1", "1.5", "ten", "1;5", "٣", "9" * 5000, "%"])
def test_what_is_no_wave(wave: str) -> None:
    with pytest.raises(UsageError, match=r"--wave: found .*, expected numbers of devices from 1 on.*such as 1,5,25%"):
        sizes(10, wave)
