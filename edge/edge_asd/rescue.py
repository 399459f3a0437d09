"""What is done with a database that is damaged: put aside, never over another, and saved from what can be read."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from edge_asd import strict
from edge_asd.clock import iso
from edge_asd.events import Event, Message
from edge_asd.settings import EventSettings
from edge_asd.store import EventStore

MOST_SINKS = 100
MOST_ASIDE = 5  # damaged databases that are kept
BESIDE = ("", "-wal", "-shm")  # the files of one


def put_aside(path: Path, now: datetime, say: Callable[[str], None]) -> Path:
    """Give a database and the files beside it a name that nothing has; of more than five the oldest go.

    Raises:
        OSError: the folder can't be written.
    """
    stamp = re.sub("[^0-9TZ]", "", iso(now))
    names = (f"{path.name}.damaged-{stamp}{f'-{again}' if again else ''}" for again in range(1000))
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    for ending in BESIDE:
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    known = [one for one in path.parent.glob(f"{path.name}.damaged-*") if not one.name.endswith(BESIDE[1:])]
    for old in sorted(known, key=lambda one: (one.stat().st_mtime_ns, one.name))[:-MOST_ASIDE]:
        for ending in BESIDE:
            old.with_name(old.name + ending).unlink(missing_ok=True)
        say(f"edge-asd: {old}: removed, for {MOST_ASIDE} later damaged databases are kept")
    return aside


def save(damaged: Path, store: EventStore, bounds: EventSettings) -> int:
    """Take the newest events and messages, and how far the sinks were, from a damaged database, as far as can be read.

    Returns:
        How many events were saved.
    """
    with closing(sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        rows = "SELECT body FROM events ORDER BY sequence DESC LIMIT ?"
        events = [event for (body,) in _readable(connection, rows, bounds.keep) if (event := _event(body))]
        rows = "SELECT sequence, transition, body FROM messages ORDER BY sequence DESC LIMIT ?"
        messages = [message for row in _readable(connection, rows, bounds.waiting) if (message := _message(*row))]
        rows = "SELECT sink, sequence FROM cursors LIMIT ?"
        cursors = [pair for row in _readable(connection, rows, MOST_SINKS) if (pair := _cursor(*row))]
        rows = "SELECT seq FROM sqlite_sequence WHERE name = 'messages' LIMIT ?"
        numbers = [last for (last,) in _readable(connection, rows, 1) if isinstance(last, int)]
    store.restore(messages[::-1], events[::-1])
    # Numbers that a sink knows must never come again, or it is told nothing until they are passed.
    store.go_on(max([*numbers, *dict(cursors).values()], default=0), dict(cursors))
    return len(events)


def _readable(connection: sqlite3.Connection, query: str, most: int) -> Iterator[tuple[object, ...]]:
    """The rows up to the first that can't be read."""
    with suppress(sqlite3.DatabaseError, MemoryError):  # SQLite's word for some damaged schemas, however small
        yield from connection.execute(query, (most,))


def _cursor(sink: object, sequence: object) -> tuple[str, int] | None:
    if isinstance(sink, bytes) and isinstance(sequence, int):
        return sink.decode(errors="replace"), sequence
    return None


def _event(body: object) -> Event | None:
    try:
        return strict.decoded(body, Event) if isinstance(body, bytes) else None
    except ValueError:
        return None


def _message(sequence: object, transition: object, body: object) -> Message | None:
    event = _event(body)
    try:
        raw = {"sequence": sequence, "transition": bytes(transition).decode(), "event": event}  # type: ignore[call-overload]
        return msgspec.convert(raw, Message) if event else None
    except (msgspec.ValidationError, TypeError, UnicodeDecodeError):
        return None
