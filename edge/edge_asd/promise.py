"""What a promise of few false alarms a week rests on, in words, and as people say numbers and times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_asd.false_alarms import Evidence

FAR = 100.0  # times as long as was listened: further out no tail is to be relied on
FEW_POINTS = 5.0
DIGITS = 6


def rounded_up(value: float) -> float:
    """To some digits, for people; never down, or a promise would be broken."""
    rounded = float(f"{value:.{DIGITS}g}")
    if rounded < value:
        rounded = float(f"{value + 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1):.{DIGITS}g}")
    return rounded


def doubts(known: Evidence, false_alarms: float) -> list[str]:
    """What speaks against relying on a threshold for at most so many false alarms a week."""
    doubts = []
    if (times := known.extrapolation(false_alarms)) > FAR:
        least = period(known.seconds * times / FAR / 3600)
        doubts.append(f"this is extrapolated {times:.0f} times as far as was listened; listen to {least} or more.")
    if known.stands_alone():
        name, at, _ = known.highest()
        doubts.append(
            f"one moment scores far above all others, {clock_time(at)} of {name}; if that wasn't normal, leave it out, "
            "and if it was, such moments are too rare in these recordings to tell how often they come."
        )
    if known.tail.points < FEW_POINTS:
        doubts.append(
            f"the high scores come in spells, worth {known.tail.points:.1f} independent ones, so the threshold is far "
            "above them; record at more times."
        )
    return doubts


def number(alerts: float) -> str:
    """How many, as people say it."""
    return f"{alerts:,.0f}" if alerts >= 100 else f"{alerts:.3g}"


def period(hours: float) -> str:
    """A time as people say it."""
    if hours == 168:
        return "a week"
    for unit, length in (("weeks", 168), ("days", 24)):
        if hours >= 2 * length:
            return f"{hours / length:.3g} {unit}"
    return f"{hours:.3g} h"


def clock_time(seconds: float) -> str:
    """As hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
