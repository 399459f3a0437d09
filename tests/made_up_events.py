"""What a device tells in tests: an event of a machine that sounds strange, a message of one, and how things stand."""

from __future__ import annotations

from msgspec.structs import replace

from edge_asd.events import Event, Message
from edge_asd.status import Status

EVENT = Event(
    id="a",
    kind="anomaly",
    machine="fan",
    section="00",
    bundle="0123456789abcdef",
    began_utc="2026-01-01T00:00:00.000Z",
    raised_utc="2026-01-01T00:00:01.000Z",
    began_s=10.0,
    raised_s=11.0,
    ended_s=None,
)
STRANGE = replace(EVENT, peak=3.5, peak_s=10.5, threshold=2.0, nearest="section_00_0001.wav")
STATUS = Status(
    pid=1,
    bundle="0123456789abcdef",
    machine="fan",
    section="00",
    since="2026-01-01T00:00:00.000Z",
    updated="2026-01-01T00:00:00.000Z",
    heard_seconds=1.0,
    scores=1,
    last_score=0.5,
    threshold=1.0,
    alert=False,
    lost_samples=0,
    resident_mb=1.0,
)


def message(sequence: int, **changes: object) -> Message:
    """The message of that number: an alert was raised, of an event of its own."""
    return Message(sequence, "raised", replace(EVENT, id=f"e{sequence}", **changes))
