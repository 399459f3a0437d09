"""What is remembered of strange sound, or of a microphone that didn't hear: the row that outlives the daemon."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from edge_asd.clock import Clock, iso
from edge_asd.verdict import Episode

Kind = Literal["anomaly", "sensor"]
Transition = Literal["raised", "cleared", "unfinished"]


class Origin(msgspec.Struct, frozen=True):
    """Who heard it: the device's name, machine type, section, and the digest of the bundle."""

    machine: str
    section: str
    bundle: str
    device: str = ""


class Band(msgspec.Struct, frozen=True):
    """A range of frequencies, Hz, and how many dB more (or, below 0, less) it sounds than normal."""

    low_hz: float
    high_hz: float
    deviation_db: float


def text(bands: Iterable[Band]) -> str:
    """Bands as people say them: `1.2-1.6 kHz +9 dB, 60-120 Hz -4 dB`."""
    return ", ".join(f"{_range(band)} {band.deviation_db:+.0f} dB" for band in bands)


def _range(band: Band) -> str:
    if band.high_hz < 1000:
        return f"{band.low_hz:.0f}-{band.high_hz:.0f} Hz"
    return f"{band.low_hz / 1000:.2g}-{band.high_hz / 1000:.2g} kHz"


class Stamp(msgspec.Struct, frozen=True):
    """The moment at which an alert was raised, by every clock there is.

    Attributes:
        utc: the wall clock's.
        monotonic: seconds since the boot, or some moment of it.
        boot_id: of which boot.
        synchronised: whether the wall clock had been set by then; a Pi's begins somewhere in the past.
    """

    utc: datetime
    monotonic: float
    boot_id: str
    synchronised: bool

    @classmethod
    def now(cls, clock: Clock) -> Stamp:
        """Of this moment."""
        return cls(clock.utc_now(), clock.monotonic(), clock.boot_id, clock.synchronised())


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An episode, and where and when it was.

    Moments of the wall clock are counted from when the alert went out, so that durations are right though that clock
    jumped meanwhile; `boot_id` and `raised_monotonic` give the order of what happened within a boot, whatever it said.

    Attributes:
        id: unique, for ever.
        kind: "anomaly", the machine sounds strange; "sensor", the microphone doesn't hear rightly.
        device, machine, section: where, what and which of them.
        bundle: digest of the bundle that found so, 16 digits.
        began_utc, raised_utc, ended_utc: by the wall clock, ISO 8601 with a Z; no end while it lasts, and none for ever
            where the daemon ended before it.
        began_s, raised_s, ended_s: seconds into the stream.
        raised_monotonic, boot_id, synchronised: see `Stamp`.
        peak: largest score in it; None of a sensor.
        peak_s: when that was, seconds into the stream.
        threshold: what scores were held against.
        nearest: the normal clip nearest to the sound at its peak.
        bands: those that deviate most from normal at the peak, the most deviant first.
        fault: of a sensor, such as "silent".
        said: of a sensor, what was found and what to do.
        clip: name of the kept sound without its ending; "" where none is kept.
    """

    id: str
    kind: Kind
    machine: str
    section: str
    bundle: str
    began_utc: str
    raised_utc: str
    began_s: float
    raised_s: float
    ended_s: float | None
    ended_utc: str | None = None
    raised_monotonic: float = 0.0
    boot_id: str = ""
    synchronised: bool = False
    device: str = ""
    peak: float | None = None
    peak_s: float | None = None
    threshold: float | None = None
    nearest: str = ""
    bands: tuple[Band, ...] = ()
    fault: str = ""
    said: str = ""
    clip: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it lasted; None where nobody heard its end."""
        return None if self.ended_s is None else self.ended_s - self.began_s


class Message(msgspec.Struct, frozen=True):
    """What became of an event, as it goes out.

    Attributes:
        sequence: counts up for ever on a device, so that a receiver can tell order and repetition.
        transition: the event was "raised", "cleared", or is "unfinished": the daemon ended before it.
        event: as it stood then.
    """

    sequence: int
    transition: Transition
    event: Event


def anomaly(identity: str, episode: Episode, origin: Origin, raised: Stamp) -> Event:
    """The event of an episode whose alert went out at the moment `raised`; threshold, bands and clip are left out."""
    return msgspec.structs.replace(
        _event(identity, "anomaly", origin, raised, (episode.began, episode.raised, episode.ended)),
        peak=episode.peak,
        peak_s=episode.peak_seconds,
        nearest=episode.nearest,
    )


def fault(identity: str, name: str, said: str, origin: Origin, raised: Stamp, seconds: tuple[float, float]) -> Event:
    """The event of a microphone that hasn't heard since a second of the stream, which was found at another one."""
    began, found = seconds
    event = _event(identity, "sensor", origin, raised, (began, found, None))
    return msgspec.structs.replace(event, fault=name, said=said)


def ended(event: Event, seconds: float) -> Event:
    """What it is once it is over, at a second of the stream."""
    end = datetime.fromisoformat(event.raised_utc) + timedelta(seconds=seconds - event.raised_s)
    return msgspec.structs.replace(event, ended_s=seconds, ended_utc=iso(end))


def _event(
    identity: str, kind: Kind, origin: Origin, raised: Stamp, seconds: tuple[float, float, float | None]
) -> Event:
    """Every moment is counted from when the alert went out; `seconds` are of its begin, of then, and of its end."""
    began, then, end = seconds
    event = Event(
        id=identity,
        kind=kind,
        device=origin.device,
        machine=origin.machine,
        section=origin.section,
        bundle=origin.bundle,
        began_utc=iso(raised.utc + timedelta(seconds=began - then)),
        raised_utc=iso(raised.utc),
        began_s=began,
        raised_s=then,
        ended_s=None,
        raised_monotonic=raised.monotonic,
        boot_id=raised.boot_id,
        synchronised=raised.synchronised,
    )
    return event if end is None else ended(event, end)


def raised_line(event: Event) -> str:
    """What a person reads when an alert goes out."""
    return f"ALERT {_subject(event)}: {_what(event)} since {event.began_s:.1f} s ({event.began_utc}){_details(event)}"


def line(event: Event) -> str:
    """What a person reads of an alert that is over, or of one whose end nobody heard."""
    end = "no end heard" if event.ended_s is None else f"cleared at {event.ended_s:.1f} s"
    unsure = "" if event.synchronised else ", by a clock that nobody had set"
    return (
        f"{_subject(event)}: {end}, {_what(event)} since {event.began_s:.1f} s ({event.began_utc}{unsure})"
        f"{_details(event)}"
    )


def _subject(event: Event) -> str:
    return f"{event.machine} {event.section}"


def _what(event: Event) -> str:
    return f"microphone {event.fault}" if event.kind == "sensor" else "strange"


def _details(event: Event) -> str:
    """Scores, the normal clip that the sound is compared with, and where it differs; of a microphone, what to do."""
    if event.kind == "sensor":
        return f", {event.said}"
    peak = ""
    if event.peak is not None:  # what it is held against may be missing from a row of another version's
        at = "" if event.peak_s is None else f" at {event.peak_s:.1f} s"
        over = "" if event.threshold is None else f" over {event.threshold:.4g}"
        peak = f", peak {event.peak:.4g}{at}{over}"
    nearest = f", nearest normal clip {event.nearest}" if event.nearest else ""
    bands = f", most at {text(event.bands)}" if event.bands else ""
    return f"{peak}{nearest}{bands}"
