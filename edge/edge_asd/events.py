"""What is remembered of a stretch of strange sound: the row that outlives the daemon."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from edge_asd.clock import iso
from edge_asd.verdict import Episode


@dataclass(frozen=True)
class Origin:
    """Who heard it: machine type, section, and the digest of the bundle."""

    machine: str
    section: str
    bundle: str


@dataclass(frozen=True)
class Event:
    """An episode, and where and when it was.

    Attributes:
        id: unique, for ever.
        kind: "anomaly".
        machine, section: what sounded strange.
        bundle: digest of the bundle that found so, 16 digits.
        began_utc, raised_utc: by the wall clock, ISO 8601 with a Z.
        began_s, raised_s: seconds into the stream.
        ended_s: the same; None while it lasts, and for ever where the daemon ended before it.
        peak: largest score in it.
        peak_s: when that was, seconds into the stream.
        threshold: what scores were held against.
        nearest: the normal clip nearest to the sound at its peak.
    """

    id: str
    kind: Literal["anomaly"]
    machine: str
    section: str
    bundle: str
    began_utc: str
    raised_utc: str
    began_s: float
    raised_s: float
    ended_s: float | None
    peak: float
    peak_s: float
    threshold: float
    nearest: str


def event_of(identity: str, episode: Episode, origin: Origin, threshold: float, raised: datetime) -> Event:
    """The event of an episode whose alert went out at the moment `raised`, of the wall clock."""
    return Event(
        id=identity,
        kind="anomaly",
        machine=origin.machine,
        section=origin.section,
        bundle=origin.bundle,
        began_utc=iso(raised - timedelta(seconds=episode.raised - episode.began)),
        raised_utc=iso(raised),
        began_s=episode.began,
        raised_s=episode.raised,
        ended_s=episode.ended,
        peak=episode.peak,
        peak_s=episode.peak_seconds,
        threshold=threshold,
        nearest=episode.nearest,
    )


def raised_line(event: Event) -> str:
    """What a person reads when an alert goes out."""
    return (
        f"ALERT {event.machine} {event.section}: strange since {event.began_s:.1f} s ({event.began_utc}), "
        f"score {event.peak:.4g} over {event.threshold:.4g}{_nearest(event)}"
    )


def line(event: Event) -> str:
    """What a person reads of an alert that is over, or of one whose end nobody heard."""
    end = "no end heard" if event.ended_s is None else f"cleared at {event.ended_s:.1f} s"
    return (
        f"{event.machine} {event.section}: {end}, strange since {event.began_s:.1f} s ({event.began_utc}), "
        f"peak {event.peak:.4g} at {event.peak_s:.1f} s over {event.threshold:.4g}{_nearest(event)}"
    )


def _nearest(event: Event) -> str:
    """The normal clip that the sound is compared with; a system without a bank names none."""
    return f", nearest normal clip {event.nearest}" if event.nearest else ""
