"""Events on the disk: a row that holds anything, and a file that is anything where the database should be."""

from __future__ import annotations

import shutil
import sqlite3
from functools import cache
from pathlib import Path
from typing import get_args

import msgspec

from edge_asd import events, store
from edge_asd.events import Band, Event, Kind, Message, Transition
from edge_asd.keeper import Keeper
from edge_asd.settings import EventSettings
from fuzz import contract, mutations
from fuzz.doors import A_FIFTH, Door, fields, folder
from made_up_events import STRANGE

_UTC = "2026-01-01T00:00:00.000Z"


def know_event(content: bytes) -> None:
    """A row of the database holds this, in a table as another version may have left it; it is shown and told."""
    database, path = _database()
    database.execute("UPDATE events SET body = CAST(? AS TEXT)", (content,))
    database.execute("UPDATE messages SET body = CAST(? AS TEXT)", (content,))
    database.commit()
    with contract.refusals(), store.EventStore(path, read_only=True) as log:
        for event in log.newest(1):
            events.line(event)
            events.raised_line(event)
            _ = event.seconds
    with contract.refusals(), store.EventStore(path, read_only=True) as log:
        for message in log.after(0, 1):
            msgspec.json.encode(message)


@cache
def _database() -> tuple[sqlite3.Connection, Path]:
    path = folder() / "one.sqlite"
    with store.EventStore(path) as log:
        log.put("raised", STRANGE)
    return sqlite3.connect(path), path


def know_database(content: bytes) -> None:
    """A file where the database should be: for who only looks, and for the keeper, who saves what can be read."""
    place = folder() / "database"
    place.mkdir()
    path = place / store.FILE_NAME
    path.write_bytes(content)
    said: list[str] = []
    try:
        with contract.refusals(), store.EventStore(path, read_only=True) as log:
            log.newest(3)
        with contract.refusals(), Keeper(path, EventSettings(), say=said.append, pause=0.01) as keeper:
            keeper.put("raised", STRANGE)
        for line in said:
            contract.fit_to_be_read(line, contract.LONGEST_LINE)
        if keeper.unwritten and not any("by a later edge-asd" in line for line in said):  # which a person must mend
            raise contract.Breach(f"what is to be kept isn't written: {said}")
    finally:
        shutil.rmtree(place)


def _events() -> list[bytes]:
    full = msgspec.structs.replace(STRANGE, ended_s=20.0, ended_utc=_UTC, bands=(Band(60.0, 1600.0, 9.0),), clip="a")
    sensor = msgspec.structs.replace(STRANGE, kind="sensor", fault="silent", said="is silent", synchronised=True)
    return [msgspec.json.encode(one) for one in (STRANGE, full, sensor)]


def _databases() -> list[bytes]:
    """Whole ones, small: of this version, and of the first."""
    found = []
    path = folder() / "seed.sqlite"
    for version in (1, 2):
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA page_size = 512")
        if version == 1:
            columns = ", ".join(f"{name} TEXT" for name in store._SCHEMA_1)
            connection.execute(f"CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, {columns})")
        else:
            for statement in store._SCHEMA:
                connection.execute(statement)
            row = store._row(STRANGE)
            connection.execute(store._PUT, row)
            connection.execute("INSERT INTO messages VALUES (1, 'raised', 'a', ?)", (row[-1],))
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()
        connection.close()
        found.append(path.read_bytes())
        path.unlink()
    return found


_WORDS = [f'"{word}"'.encode() for word in (*get_args(Kind), *get_args(Transition), _UTC, STRANGE.bundle)]

DOORS = (
    Door(
        "event",
        "an event's row",
        know_event,
        _events,
        words=(*fields(Event, Band, Message), *_WORDS),
        mutations=(mutations.of_json,),
        longest=1500,
        weight=A_FIFTH,
    ),
    Door(
        "database",
        "event database",
        know_database,
        _databases,
        words=(b"SQLite format 3\0",),
        longest=8192,
        weight=A_FIFTH,
    ),
)
