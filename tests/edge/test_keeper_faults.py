"""Faults of the store between two steps: none of them loses an event, tells one twice, or leaves a sink untold."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

import common
from edge_asd import keeper as keepers
from edge_asd.errors import StorageError
from edge_asd.events import Event
from edge_asd.keeper import Keeper
from edge_asd.settings import EventSettings
from edge_asd.store import DamagedDatabase, EventStore
from made_up_events import EVENT

until = partial(common.until, seconds=30)

PAGE = 4096


def numbered(first: int, end: int) -> list[Event]:
    return [replace(EVENT, id=str(number), said="x" * 500) for number in range(first, end)]


def ids(first: int, end: int) -> list[str]:
    return [str(number) for number in range(first, end)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(keepers, "LONGEST_PAUSE", 0.2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "events.sqlite"


def opened(path: Path, said: list[str] | None = None) -> Keeper:
    return Keeper(path, EventSettings(), say=(said if said is not None else []).append, pause=0.05)


def write(keeper: Keeper, events: list[Event]) -> None:
    for event in events:
        keeper.put("raised", event)
    until(lambda: not keeper.unwritten and not keeper.trouble)


def filled(path: Path, end: int) -> None:
    with EventStore(path) as store:
        store.cursor("mqtt")
        for event in numbered(0, end):
            store.put("raised", event)
        store.advance("mqtt", end)


def spoil(path: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    connection = sqlite3.connect(path)
    [page] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\x5a" * PAGE)


def messages(path: Path) -> list[str]:
    with EventStore(path, read_only=True) as store:
        return [message.event.id for message in store.after(0, 100_000)]


def test_what_is_written_is_not_put_again_where_no_space_can_be_given_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program takes the lock just after the event is there."""
    monkeypatch.setattr("edge_asd.store.BUSY_MS", 50)
    with opened(path) as keeper:
        write(keeper, numbered(0, 1))
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

        def lock(statement: str) -> None:
            if "incremental_vacuum" in statement and not other.in_transaction:
                other.execute("BEGIN IMMEDIATE")

        assert keeper._store
        keeper._store._connection.set_trace_callback(lock)
        keeper.put("raised", numbered(1, 2)[0])
        until(lambda: other.in_transaction)
        time.sleep(0.3)
        keeper._store._connection.set_trace_callback(None)
        other.close()
        until(lambda: not keeper.unwritten)
    assert messages(path) == ids(0, 2)


@pytest.mark.parametrize("table", ["messages", "events", "sqlite_sequence"])
def test_numbers_that_a_sink_knows_never_come_again(path: Path, table: str) -> None:
    """Else all that is raised until they are passed would be taken for told."""
    filled(path, 300)
    spoil(path, table)
    with opened(path) as keeper:
        write(keeper, [EVENT])
        assert [message.event.id for message in keeper.after(keeper.cursor("mqtt"), 1000)] == ["a"]


def test_a_new_sink_is_not_told_the_past_where_the_store_comes_late(path: Path, tmp_path: Path) -> None:
    filled(path, 50)
    path.parent.rename(tmp_path / "not mounted")
    path.parent.write_text("a file stands in the way")
    with opened(path) as keeper:
        with pytest.raises(StorageError):
            keeper.cursor("webhook")
        path.parent.unlink()
        (tmp_path / "not mounted").rename(path.parent)
        until(lambda: not keeper.trouble)
        assert keeper.cursor("webhook") == 50


def test_a_new_sink_is_told_what_was_put_since_it_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asd.store.BUSY_MS", 50)
    filled(path, 50)
    with opened(path) as keeper:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError):
            keeper.cursor("webhook")
        keeper.put("raised", EVENT)
        until(lambda: keeper.trouble)
        other.close()
        until(lambda: not keeper.unwritten)
        assert (keeper.cursor("webhook"), keeper.waiting("webhook")) == (50, 1)


def test_a_database_that_is_put_in_its_place_is_not_written_over_by_the_log(path: Path, tmp_path: Path) -> None:
    """As somebody does who restores a copy while the daemon runs."""
    with EventStore(tmp_path / "copy") as store:
        for event in numbered(1000, 1200):
            store.put("raised", event)
    with opened(path) as keeper:
        write(keeper, numbered(0, 100))
        (tmp_path / "copy").rename(path)
        write(keeper, numbered(1200, 1201))
    assert messages(path) == ids(1000, 1201)


def test_a_deleted_database_is_held_until_the_new_one_has_its_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, fails = Path.rename, [True, True]

    def failing(self: Path, target: Path) -> Path:
        if fails:
            fails.pop()
            raise OSError(30, "Read-only file system")
        return rename(self, target)

    with opened(path) as keeper:
        write(keeper, numbered(0, 10))
        monkeypatch.setattr(Path, "rename", failing)
        path.unlink()
        write(keeper, numbered(10, 11))
    assert messages(path) == ids(0, 11)


def test_a_log_that_is_deleted_alone(path: Path, tmp_path: Path) -> None:
    said = list[str]()
    with opened(path, said) as keeper:
        write(keeper, numbered(0, 5))
        path.with_name("events.sqlite-wal").unlink()
        write(keeper, numbered(5, 10))
        until(lambda: said)
        shutil.copytree(path.parent, tmp_path / "as after a power cut")
    assert messages(tmp_path / "as after a power cut" / path.name) == ids(0, 10)
    assert ["its log was deleted" in line for line in said] == [True]


def test_emptied_while_it_is_open(path: Path) -> None:
    with opened(path) as keeper:
        keeper.cursor("mqtt")
        write(keeper, numbered(0, 50))
        keeper.advance("mqtt", 50)
        assert keeper._store
        keeper._store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        path.write_bytes(b"")
        write(keeper, numbered(50, 60))
        assert [message.event.id for message in keeper.after(keeper.cursor("mqtt"), 100)] == ids(50, 60)
    assert messages(path)[-10:] == ids(50, 60)


def test_a_text_that_is_none(path: Path) -> None:
    with EventStore(path) as store:
        store.put("raised", EVENT)
        with store._connection:
            store._connection.execute("UPDATE events SET body = CAST(x'ff7b' AS TEXT)")
        with pytest.raises(DamagedDatabase, match=r"is damaged .*Could not decode to UTF-8 column 'body'\)"):
            store.newest(1)


@pytest.mark.parametrize(
    "made",
    [
        ("PRAGMA user_version = 2", "CREATE TABLE a (b)"),
        ("PRAGMA user_version = 2", "CREATE TABLE events (a)", "CREATE TABLE messages (a)", "CREATE TABLE cursors (a)"),
        ("PRAGMA user_version = 1", "CREATE TABLE a (b)"),
        ("CREATE TABLE events (a)",),
    ],
)
def test_a_database_of_another_kind_is_put_aside_and_keeps_nobody_waiting(path: Path, made: tuple[str, ...]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in made:
            connection.execute(statement)
        connection.commit()
    with pytest.raises(DamagedDatabase, match="is damaged or no event database"), EventStore(path) as store:
        store.put("raised", EVENT)
    with opened(path) as keeper:
        write(keeper, numbered(0, 1))
        assert [event.id for event in keeper.newest(2)] == ["0"]
    assert len([one for one in path.parent.glob("*.damaged-*") if one.suffix.count("-") == 1]) == 1


def test_a_file_format_that_this_sqlite_does_not_know(path: Path) -> None:
    filled(path, 1)
    content = bytearray(path.read_bytes())
    content[44:48] = (5).to_bytes(4, "big")  # the schema's format, of which SQLite knows 1 to 4
    path.write_bytes(content)
    with opened(path) as keeper:
        write(keeper, numbered(1, 2))


def test_a_row_that_is_nested_without_end_is_no_event(path: Path) -> None:
    filled(path, 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE events SET body = ?", (f'{{"a":{"[" * 5000}',))
        connection.commit()
    with EventStore(path) as store, pytest.raises(DamagedDatabase, match="a row holds no event"):
        store.newest(1)


def test_closing_keeps_its_patience(path: Path) -> None:
    said = list[str]()
    keeper = opened(path, said)
    with keeper:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        keeper.put("raised", EVENT)
        time.sleep(0.2)  # SQLite waits 5 s for the lock
        began = time.monotonic()
        keeper.close(0.5)
        assert time.monotonic() - began < 3.0
        assert said == ["edge-asd: 1 events couldn't be written: the disk didn't take them in time"]
        other.close()
        keeper._thread.join()
    assert messages(path) == ["a"]


def test_saving_from_a_damaged_database_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, 300)
    spoil(path, "messages")
    restore, fails = EventStore.restore, [True]

    def failing(self: EventStore, *what: object) -> None:
        if fails:
            fails.pop()
            raise StorageError("the disk is full")
        restore(self, *what)  # type: ignore[arg-type]

    monkeypatch.setattr(EventStore, "restore", failing)
    said = list[str]()
    with opened(path, said) as keeper:
        write(keeper, [EVENT])
        assert len(keeper.newest(1000)) == 301
    assert ["300 events were saved" in line for line in said].count(True) == 1


def test_not_even_the_log_of_a_later_version_is_touched(path: Path) -> None:
    later = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA user_version = 99")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", later, str(path)], check=True)
    files = path, path.with_name("events.sqlite-wal")
    before = [file.read_bytes() for file in files]
    with opened(path) as keeper:
        keeper.put("raised", EVENT)
        until(lambda: "later edge-asd" in keeper.trouble)
        time.sleep(0.3)
    assert [file.read_bytes() for file in files] == before
