"""How `edge-asd commission` and the daemon speak: a request in the state folder, and a report when it is done.

The daemon has the microphone, so it does the work; a request that is there when it starts is begun anew, one that
is taken away is given up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_asd import files, strict
from edge_asd.commissioning import LONGEST_MINUTES, SHORTEST_MINUTES, Plan
from edge_asd.promise import number, period
from edge_asd.site import MOST_CLIPS, Site

REQUEST, REPORT = "commission.json", "commissioned.json"
LARGEST = 64 << 10  # bytes


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wish: who made it, by a word of its own, for so many minutes and at most so many false alarms a week."""

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{1,64}\Z")]
    minutes: Annotated[float, Meta(ge=SHORTEST_MINUTES, le=LONGEST_MINUTES)]
    false_alarms: Annotated[float, Meta(gt=0, le=1e6)]
    clips: Annotated[int, Meta(ge=1, le=MOST_CLIPS)] = 64

    @property
    def plan(self) -> Plan:
        """As the commissioner takes it."""
        return Plan(self.minutes, self.false_alarms, self.clips)


class Report(msgspec.Struct, frozen=True):
    """What came of a request: a site, or why there is none."""

    id: str
    site: Site | None = None
    refusal: str = ""


def ask(state: Path, request: Request) -> None:
    """Leave a request. Raises: StorageError."""
    files.write_bytes(state / REQUEST, msgspec.json.encode(request) + b"\n")


def requested(state: Path) -> Request | None:
    """The request that is there; one that can't be read is none. Raises: StorageError, where the folder can't be."""
    content = files.beginning(state / REQUEST, LARGEST)
    try:
        return strict.decoded(content, Request) if content else None
    except ValueError:
        return None


def withdraw(state: Path) -> None:
    """Take the request away, if there is one; a power cut doesn't bring it back. Raises: StorageError."""
    try:
        (state / REQUEST).unlink()
        files.sync(state)
    except FileNotFoundError:
        return
    except OSError as error:
        raise files.unwritable(state / REQUEST, error) from error


def answer(state: Path, report: Report) -> None:
    """Leave a report, and take its request away. Raises: StorageError."""
    files.write_bytes(state / REPORT, msgspec.json.encode(report) + b"\n")
    withdraw(state)


def reported(state: Path, identity: str) -> Report | None:
    """What came of the request of this id, if anything did yet. Raises: StorageError."""
    content = files.beginning(state / REPORT, LARGEST)
    try:
        report = strict.decoded(content, Report) if content else None
    except ValueError:
        return None
    return report if report and report.id == identity else None


def lines(site: Site) -> list[str]:
    """What was learned, for people: before and after, and what speaks against relying on it."""
    title = f"{site.machine} {site.section}: {len(site.clips)} clips learned and measured in {site.minutes:g} minutes"
    rows = [f"{'':<8}{'threshold':>12}{'alerts':>8}{'alerts a week':>16}"]
    for name, one in (("before", site.before), ("now", site.after)):
        rows.append(f"{name:<8}{one.threshold:>12.6g}{one.alerts:>8}{number(one.per_week):>16}")
    wanted = f"at most {site.false_alarms:g} false alarms a week, so one in {period(168 / site.false_alarms)}"
    level = "" if site.level_dbfs is None else f"; level {site.level_dbfs:.1f} dBFS"
    return [title, "", *rows, "", f"{wanted}{level}", *(f"warning: {doubt}" for doubt in site.doubts)]
