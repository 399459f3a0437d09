"""What a look at a device found."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["ok", "warning", "problem"]
About = Literal[
    "configuration", "interpreter", "bundle", "speed", "microphone", "level", "clock", "disk", "temperature", "power"
]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing about a device.

    Attributes:
        about: which part of it.
        state: a problem keeps the device from listening rightly; a warning is of what works and could be better.
        found: what was seen.
        todo: what a person should do; "" where nothing is to be done.
    """

    about: About
    state: State
    found: str
    todo: str = ""


def lines(finding: Finding) -> list[str]:
    """A finding for people, and below it what to do."""
    return [f"{finding.state:<8} {finding.found}", *([f"{'':<8} -> {finding.todo}"] if finding.todo else [])]
