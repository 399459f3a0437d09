"""What a long listening came to: how large the daemon was, what it scored and missed, what became of events."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HEADER = ("", "start", "settled", "end", "most")
SETTLED = (
    4  # the first so-many-th part of the time isn't held against the rest: buffers fill, the past is kept to its bound
)


@dataclass(frozen=True)
class Size:
    """A process and its folder at one moment.

    Attributes:
        second: since it began, of the sound.
        resident_mb: its memory.
        threads, descriptors: how many.
        database_mb: the events and their log.
        state_mb: all of its folder.
        cpu_seconds: that it took since it began.
    """

    second: float
    resident_mb: float
    threads: int
    descriptors: int
    database_mb: float
    state_mb: float
    cpu_seconds: float


@dataclass
class Soaked:
    """A listening.

    Attributes:
        what: how it was heard.
        hours: of sound.
        sizes: in between.
        scores: how many.
        missed: windows that there was sound for and nobody scored.
        lost_seconds: of sound that the microphone lost, or that the daemon was too slow for.
        disturbances: how often something was done to it.
        events, told: how many there were, and how many messages each sink was told of them.
        lost, double: messages of events.
        wrong: what is not as it must be.
    """

    what: str
    hours: float
    sizes: list[Size] = field(default_factory=list)
    scores: int = 0
    missed: int = 0
    lost_seconds: float = 0.0
    disturbances: int = 0
    events: int = 0
    told: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    double: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def settled(self) -> Size:
        return self.sizes[len(self.sizes) // SETTLED]

    def growth(self, name: str) -> float:
        """By how much the last quarter's mean lies above the second quarter's."""
        figures = [float(getattr(size, name)) for size in self.sizes]
        quarter = max(1, len(figures) // 4)
        return _mean(figures[-quarter:]) - _mean(figures[quarter : 2 * quarter] or figures[:quarter])


def size(pid: int | str, state: Path, second: float) -> Size:
    """How large a process and its folder are at this moment."""
    status = Path(f"/proc/{pid}/status").read_text()
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return Size(
        second,
        resident_mb=int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) * 1024 / 1e6,
        threads=int(re.findall(r"Threads:\s+(\d+)", status)[0]),
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        database_mb=_megabytes([path for path in state.glob("events.sqlite*") if "damaged" not in path.name]),
        state_mb=_megabytes([path for path in state.rglob("*") if path.is_file()]),
        cpu_seconds=sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
    )


def table(one: Soaked) -> str:
    """For the page."""
    told = ", ".join(f"{sink} {count}" for sink, count in one.told.items())
    text = (
        f"{one.what}: {one.hours:.3g} hours of sound, {one.disturbances} disturbances; {one.scores} scores, "
        f"**{one.missed} windows missed**, {one.lost_seconds:.1f} s of sound lost and counted; {one.events} events "
        f"(messages told: {told}), **{one.lost} lost, {one.double} double**.\n\n"
    )
    rows = [HEADER, ("---",) * len(HEADER)]
    for name, words in (
        ("resident_mb", "memory, MB"),
        ("threads", "threads"),
        ("descriptors", "descriptors"),
        ("database_mb", "database, MB"),
        ("state_mb", "state folder, MB"),
    ):
        figures = [getattr(size, name) for size in one.sizes]
        shown = (figures[0], getattr(one.settled, name), figures[-1], max(figures))
        rows.append((words, *(f"{figure:.4g}" for figure in shown)))
    text += "".join(f"| {' | '.join(row)} |\n" for row in rows)
    first, last = one.sizes[0], one.sizes[-1]
    share = (last.cpu_seconds - first.cpu_seconds) / max(1.0, last.second - first.second)
    text += (
        f"\n{100 * share:.2g} % of a core for a second of sound; memory of the last quarter above the second's: "
        f"{one.growth('resident_mb'):+.2f} MB.\n\n"
    )
    text += "".join(f"Wrong: {line}\n\n" for line in one.wrong)
    return text


def _mean(figures: Sequence[float]) -> float:
    return sum(figures) / len(figures)


def _megabytes(paths: Sequence[Path]) -> float:
    total = 0
    for path in paths:
        try:
            total += path.lstat().st_size
        except OSError:  # it has just been replaced
            continue
    return total / 1e6
