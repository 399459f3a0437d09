"""What a measurement is made of: how much effort it may take, the fastest of interleaved repetitions, rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        repetitions: of everything, of which the fastest counts.
        scale: of the amount of data; 1.0 is what the page shows.
    """

    repetitions: int = 5
    scale: float = 1.0

    def of(self, amount: int, least: int = 1) -> int:
        """An amount of data, scaled."""
        return max(least, round(amount * self.scale))


@dataclass(frozen=True)
class Row:
    """One line of a table: something of ours beside the same of a peer, measured in one run.

    Attributes:
        what: was measured.
        ours, theirs: the two figures; the smaller is the better one, or the larger with `more_is_better`.
        unit: of both.
        peer: whose the other figure is.
        goal: the ratio to reach; None where nothing is promised.
    """

    what: str
    ours: float
    theirs: float
    unit: str
    peer: str
    goal: float | None = None
    more_is_better: bool = False

    @property
    def ratio(self) -> float:
        """How many times as good ours is."""
        return self.ours / self.theirs if self.more_is_better else self.theirs / self.ours

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        return None if self.goal is None else self.ratio >= self.goal


Measurement = Callable[[Effort], list[Row]]


def fastest(contenders: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Seconds that each contender took when it was fastest.

    They take turns, so that whatever else the machine does slows none of them alone; the minimum is what the work takes
    where nothing disturbs it.
    """
    seconds = dict.fromkeys(contenders, float("inf"))
    for _ in range(repetitions):
        for name, contender in contenders.items():
            began = time.perf_counter()
            contender()
            seconds[name] = min(seconds[name], time.perf_counter() - began)
    return seconds
