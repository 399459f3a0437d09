"""Which threshold a score is held against: one of the bundle's two, or a number of one's own."""

from __future__ import annotations

import math
from typing import Literal

from edge_asd.errors import UsageError
from edge_asd.manifest import Thresholds

Choice = Literal["alarm", "decision"] | float


def chosen(thresholds: Thresholds, choice: Choice) -> float:
    """The threshold of a section that was chosen."""
    if choice == "alarm":
        return thresholds.alarm
    if choice == "decision":
        return thresholds.decision
    return float(choice)


def parse(text: str) -> Choice:
    """A choice as it is typed: `decision`, `alarm` or a number above 0. Raises: UsageError."""
    if text == "alarm":
        return "alarm"
    if text == "decision":
        return "decision"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError(f"--threshold: found {text!r}; expected decision, alarm or a number above 0.")
    return number
