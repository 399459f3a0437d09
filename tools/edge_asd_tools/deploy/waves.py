"""How many devices of a fleet come first, and next: `1,5,25%` are one, then five, then a quarter, then the rest."""

from __future__ import annotations

import re

from edge_asd.errors import UsageError

_PORTION = re.compile(r"([1-9][0-9]{0,5})(%?)")


def sizes(devices: int, wave: str | None = None) -> list[int]:
    """The sizes of the waves, in their order: together all devices, and none without one.

    Args:
        devices: so many are there.
        wave: whole numbers and percentages of the fleet, rounded up, with commas between; None for one wave of all.

    Raises:
        UsageError: it is something else.
    """
    found, left = [], devices
    for size in [*(_size_of(portion, devices) for portion in (wave.split(",") if wave is not None else [])), devices]:
        found.append(min(size, left))
        left -= found[-1]
    return [size for size in found if size]


def _size_of(portion: str, devices: int) -> int:
    match = _PORTION.fullmatch(portion.strip())
    if not match or (match[2] and int(match[1]) > 100):
        raise UsageError(
            f"--wave: found {portion.strip()[:40]!r}, expected numbers of devices from 1 on, or percentages of the "
            "fleet up to 100%, such as 1,5,25%."
        )
    number = int(match[1])
    return -(-devices * number // 100) if match[2] else number
