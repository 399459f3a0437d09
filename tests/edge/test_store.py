"""Events on the disk: bounded, there after a restart, and clear about a file that can't be used."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from edge_asd.errors import StorageError
from edge_asd.events import Event
from edge_asd.store import EventStore

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
    peak=3.5,
    peak_s=10.5,
    threshold=2.0,
    nearest="section_00_0001.wav",
)


def named(number: int) -> Event:
    return replace(EVENT, id=f"event {number}", began_s=float(number))


def test_events_survive_reopening(tmp_path: Path) -> None:
    path = tmp_path / "state" / "events.sqlite"
    with EventStore(path) as store:
        store.put(EVENT)
    with EventStore(path) as store:
        store.put(named(2))
        assert store.newest(10) == [named(2), EVENT]
        assert store.newest(1) == [named(2)]


def test_same_id_same_row(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events.sqlite") as store:
        store.put(EVENT)
        store.put(named(2))
        ended = replace(EVENT, ended_s=20.0, peak=4.0)
        store.put(ended)
        assert store.newest(10) == [named(2), ended]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path, keep=5) as store:
        for number in range(23):
            store.put(named(number))
            store.put(replace(named(number), ended_s=99.0))
        assert [event.began_s for event in store.newest(100)] == [22.0, 21.0, 20.0, 19.0, 18.0]
    with EventStore(path, keep=2) as store:
        store.put(named(23))
        assert [event.began_s for event in store.newest(100)] == [23.0, 22.0]


def test_what_was_put_is_read_by_another_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path) as store, EventStore(path, read_only=True) as reader:
        store.put(EVENT)
        assert reader.newest(1) == [EVENT]
        with pytest.raises(StorageError, match="readonly"):
            reader.put(EVENT)


def test_write_ahead_log_fully_synchronous(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events.sqlite") as store:
        assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    for read_only in (False, True):
        with pytest.raises(StorageError, match=r"events\.sqlite: is damaged or no event database"):
            EventStore(path, read_only=read_only)
    assert path.read_bytes() == b"not a database at all" * 100


def test_a_damaged_database(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path) as store:
        for number in range(200):
            store.put(named(number))
    content = bytearray(path.read_bytes())
    content[8192:16384] = b"\x5a" * 8192
    path.write_bytes(content)
    with pytest.raises(StorageError, match="is damaged or no event database"):
        EventStore(path)


def test_a_database_of_a_later_version(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageError, match="later edge-asd"):
        EventStore(path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file stands here")
    with pytest.raises(StorageError, match="can't be made"):
        EventStore(tmp_path / "state" / "events.sqlite")


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "events.sqlite").mkdir()
    with pytest.raises(StorageError, match="can't be used"):
        EventStore(tmp_path / "events.sqlite")


def test_a_database_that_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        store._connection.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(StorageError, match="another program has it locked"):
            store.put(EVENT)
        other.close()


def test_opening_again_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path) as store:
        store.put(EVENT)
    with EventStore(path):
        assert (tmp_path / "events.sqlite-wal").stat().st_size == 0


def test_a_reader_needs_to_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path) as store:
        store.put(EVENT)
    with EventStore(path, read_only=True) as reader:
        assert reader.newest(1) == [EVENT]
        assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_one_may_not_look_for(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="can't be read"):
        EventStore(tmp_path / ("a" * 300), read_only=True)


def test_readers_make_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no such file"):
        EventStore(tmp_path / "events.sqlite", read_only=True)
    assert list(tmp_path.iterdir()) == []
