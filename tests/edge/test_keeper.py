"""The store as a daemon needs it: whatever becomes of the disk, events wait, and none is lost or told twice."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
import time
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
from edge_asd.store import EventStore
from made_up_events import EVENT

until = partial(common.until, seconds=30)


def named(number: int) -> Event:
    return replace(EVENT, id=str(number))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepers, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(keepers, "LONGEST_PAUSE", 0.2)


def opened(path: Path, said: list[str] | None = None, bounds: EventSettings | None = None) -> Keeper:
    return Keeper(path, bounds or EventSettings(), say=(said if said is not None else []).append, pause=0.05)


def ids(path: Path) -> list[str]:
    with EventStore(path, read_only=True) as store:
        return [message.event.id for message in store.after(0, 100_000)]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))}


def test_what_was_put_is_written_in_order_and_told(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with opened(path) as keeper:
        assert keeper.cursor("mqtt") == 0
        for number in range(50):
            keeper.put("raised", named(number))
        assert keeper.wait_for_message(49, 30.0)
        assert (keeper.unwritten, keeper.trouble, keeper.waiting("mqtt")) == (0, "", 50)
        assert [message.event.id for message in keeper.after(0, 3)] == ["0", "1", "2"]
        assert not keeper.wait_for_message(50, 0.01)
        assert [event.id for event in keeper.newest(2)] == ["49", "48"]
        assert keeper.event("7") == named(7)
    assert ids(path) == [str(number) for number in range(50)]


def test_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with opened(path) as keeper:
        for number in range(200):
            keeper.put("raised", named(number))
    assert len(ids(path)) == 200


def test_a_full_disk(tmp_path: Path) -> None:
    """SQLite's own limit on pages says what a full disk does: SQLITE_FULL."""
    path, said = tmp_path / "events.sqlite", list[str]()
    with opened(path, said) as keeper:
        keeper.put("raised", named(0))
        until(lambda: keeper.unwritten == 0)
        assert keeper._store
        [pages] = keeper._store._connection.execute("PRAGMA page_count").fetchone()
        keeper._store._connection.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(1, 21):
            keeper.put("raised", replace(named(number), said="x" * 3000))
        until(lambda: keeper.trouble)
        assert "disk is full" in keeper.trouble
        until(lambda: keeper.unwritten >= 18)
        assert keeper.newest(1)  # one may still read
        keeper._store._connection.execute("PRAGMA max_page_count = 100000")
        until(lambda: keeper.unwritten == 0 and not keeper.trouble)
    assert ids(path) == [str(number) for number in range(21)]
    assert len(said) == 2
    assert "events wait in memory" in said[0]
    assert "can be used again" in said[1]


def test_a_disk_that_is_full_for_long_loses_the_oldest_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "MOST_IN_MEMORY", 10)
    path, said = tmp_path / "state" / "events.sqlite", list[str]()
    (tmp_path / "state").write_text("a file stands in the way")
    with opened(path, said) as keeper:
        for number in range(25):
            keeper.put("raised", named(number))
        assert (keeper.unwritten, keeper.dropped) == (10, 15)
        with pytest.raises(StorageError, match="can't be made"):
            keeper.newest(1)
        (tmp_path / "state").unlink()
        until(lambda: keeper.unwritten == 0)
    assert ids(path) == [str(number) for number in range(15, 25)]
    assert sum("are given up" in line for line in said) == 1


READ_ONLY = """
import os, sys, time
from pathlib import Path
sys.path[:0] = ["tests", "tests/edge"]
import test_keeper
from test_keeper import named, opened, until
folder = Path(sys.argv[1])
os.setegid(65534), os.seteuid(65534)
said = []
with opened(folder / "events.sqlite", said) as keeper:
    for number in range(5):
        keeper.put("raised", named(number))
    until(lambda: keeper.trouble)
    assert "edge-asd" not in keeper.trouble, keeper.trouble
    print("in trouble", flush=True)
    until(lambda: keeper.unwritten == 0)
assert len(said) == 2, said
"""


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """As nobody, for root may write everywhere."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o555)
    for parent in (tmp_path, *tmp_path.parents):
        if parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    command = [sys.executable, "-c", READ_ONLY, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "in trouble\n", child.stderr and child.stderr.read()
        folder.chmod(0o777)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert ids(folder / "events.sqlite") == [str(number) for number in range(5)]


def test_another_program_has_it_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asd.store.BUSY_MS", 50)
    path, said = tmp_path / "events.sqlite", list[str]()
    with opened(path, said) as keeper:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        keeper.put("raised", EVENT)
        until(lambda: "another program has it locked" in keeper.trouble)
        other.execute("ROLLBACK")
        other.close()
        until(lambda: keeper.unwritten == 0)
    assert ids(path) == ["a"]
    assert len(said) == 2


@pytest.mark.parametrize("what", ["file", "folder", "file and its log"])
def test_deleted_while_it_is_open(tmp_path: Path, what: str) -> None:
    path, said = tmp_path / "state" / "events.sqlite", list[str]()
    with opened(path, said) as keeper:
        for number in range(30):
            keeper.put("raised", named(number))
        until(lambda: keeper.unwritten == 0)
        keeper.cursor("mqtt")
        keeper.advance("mqtt", 30)
        if what == "folder":
            shutil.rmtree(path.parent)
        else:
            path.unlink()
            if what != "file":
                path.with_name("events.sqlite-wal").unlink(missing_ok=True)
                path.with_name("events.sqlite-shm").unlink(missing_ok=True)
        keeper.put("raised", named(30))
        until(lambda: keeper.unwritten == 0 and path.exists())
        assert keeper.cursor("mqtt") == 30
        assert [message.event.id for message in keeper.after(30, 10)] == ["30"]
        assert keeper.trouble == ""
    assert ids(path) == [str(number) for number in range(31)]
    assert ["was deleted, and is written anew; nothing is lost" in line for line in said] == [True]
    assert names(path.parent) == {"events.sqlite"}


def test_deleted_while_nothing_happens(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with opened(path) as keeper:
        keeper.put("raised", EVENT)
        until(lambda: keeper.unwritten == 0)
        path.unlink()
        until(path.exists)
    assert ids(path) == ["a"]


def test_another_database_in_its_place_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(tmp_path / "other.sqlite") as store:
        store.put("raised", replace(EVENT, id="from the other one"))
    with opened(path) as keeper:
        keeper.cursor("mqtt")
        for number in range(10):
            keeper.put("raised", named(number))
        until(lambda: keeper.unwritten == 0)
        keeper.advance("mqtt", 10)
        (tmp_path / "other.sqlite").rename(path)
        for ending in ("-wal", "-shm"):
            path.with_name(f"events.sqlite{ending}").unlink(missing_ok=True)
        keeper.put("raised", named(10))
        until(lambda: keeper.unwritten == 0)
        assert [message.event.id for message in keeper.after(keeper.cursor("mqtt"), 10)] == ["10"]
        assert keeper.after(10, 1)[0].sequence == 11  # numbers never come again
    assert ids(path) == ["from the other one", "10"]


def test_garbage_at_the_start_is_put_aside(tmp_path: Path) -> None:
    path, said = tmp_path / "events.sqlite", list[str]()
    path.write_bytes(b"not a database at all" * 100)
    with opened(path, said) as keeper:
        keeper.put("raised", EVENT)
        until(lambda: keeper.unwritten == 0)
    assert ids(path) == ["a"]
    [aside] = tmp_path.glob("events.sqlite.damaged-*")
    assert aside.read_bytes() == b"not a database at all" * 100
    assert "0 events were saved" in said[-1]


@pytest.mark.slow
def test_no_flipped_bit_of_the_header_needs_a_person(tmp_path: Path) -> None:
    whole = tmp_path / "whole.sqlite"
    with EventStore(whole) as store:
        store.put("raised", named(0))
    content = whole.read_bytes()
    for place in range(8 * 16, 8 * 60):  # from the size of a page to before the version: a later one's isn't touched
        path, said = tmp_path / str(place) / "events.sqlite", list[str]()
        path.parent.mkdir()
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with opened(path, said) as keeper:
            keeper.put("raised", EVENT)
        assert "a" in ids(path), (place, said)


def damage(path: Path, first_page: int) -> None:
    """Overwrite a file in its place from a page on, as a card does that loses its mind."""
    with path.open("r+b") as file:
        file.seek(first_page * 4096)
        file.write(b"\x5a" * (path.stat().st_size - first_page * 4096))


def test_damaged_in_the_middle_what_can_be_read_is_saved(tmp_path: Path) -> None:
    path, said = tmp_path / "events.sqlite", list[str]()
    with EventStore(path) as store:
        for number in range(300):
            store.put("raised", replace(named(number), said="x" * 500))
    size = path.stat().st_size // 4096
    damage(path, size - size // 10)
    with opened(path, said) as keeper:
        keeper.put("raised", EVENT)
        until(lambda: keeper.unwritten == 0)
        saved = {event.id for event in keeper.newest(1000)}
        assert "a" in saved
    assert any("was damaged and is now events.sqlite.damaged-" in line for line in said)
    assert list(tmp_path.glob("events.sqlite.damaged-*"))


def test_damaged_while_it_is_open_no_sink_is_told_twice(tmp_path: Path) -> None:
    path, said = tmp_path / "events.sqlite", list[str]()
    with opened(path, said) as keeper:
        keeper.cursor("mqtt")
        for number in range(100):
            keeper.put("raised", replace(named(number), said="x" * 500))
        until(lambda: keeper.unwritten == 0)
        keeper.advance("mqtt", 60)
        assert keeper._store
        keeper._store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        damage(path, 1)
        keeper._store._connection.execute("PRAGMA cache_size = 0")
        for number in range(100, 110):
            keeper.put("raised", named(number))
        until(lambda: list(tmp_path.glob("events.sqlite.damaged-*")) and keeper.unwritten == 0)
        told = []
        while messages := keeper.after(keeper.cursor("mqtt"), 5):
            for message in messages:
                told.append(message)
                keeper.advance("mqtt", message.sequence)
        sequences = [message.sequence for message in told]
        assert sequences == sorted(set(sequences))
        assert sequences[0] > 60
        assert [message.event.id for message in told][-10:] == [str(number) for number in range(100, 110)]
        assert keeper.missed("mqtt") + len(told) == 50


def test_few_damaged_databases_are_kept_and_none_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    for number in range(8):
        path.write_bytes(f"garbage {number} ".encode() * 1000)
        with opened(path) as keeper:
            keeper.put("raised", named(number))
            until(lambda: keeper.unwritten == 0)
    kept = {one.read_bytes()[:9] for one in tmp_path.glob("events.sqlite.damaged-*")}
    assert kept == {f"garbage {number}".encode() for number in range(3, 8)}


def test_a_later_versions_database_is_never_touched(tmp_path: Path) -> None:
    path, said = tmp_path / "events.sqlite", list[str]()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with opened(path, said) as keeper:
        keeper.put("raised", EVENT)
        until(lambda: "later edge-asd" in keeper.trouble)
        time.sleep(0.3)
        assert keeper.unwritten == 1
    assert path.read_bytes() == before
    assert names(tmp_path) == {"events.sqlite"}
    assert len(said) == 2
    assert "1 events couldn't be written" in said[1]


def test_put_never_waits_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with opened(path) as keeper:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        for number in range(500):
            keeper.put("raised", named(number))
        assert time.monotonic() - began < 2.0  # SQLite would wait 5 s for each
        other.close()
        until(lambda: keeper.unwritten == 0)


def test_an_event_that_cannot_be_written_ends_no_thread(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with opened(path) as keeper:
        keeper.put("raised", replace(EVENT, peak=object()))
        until(lambda: "object" in keeper.trouble)
        assert keeper._thread.is_alive()


def test_readers_in_other_threads(tmp_path: Path) -> None:
    wrong: list[Exception] = []
    with opened(tmp_path / "events.sqlite") as keeper:

        def read() -> None:
            try:
                for _ in range(100):
                    keeper.newest(5)
                    keeper.waiting("mqtt")
            except Exception as error:
                wrong.append(error)

        keeper.cursor("mqtt")
        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for number in range(100):
            keeper.put("raised", named(number))
        for reader in readers:
            reader.join()
    assert wrong == []


def test_readers_take_no_database_for_damaged_that_is_only_opened_anew(tmp_path: Path) -> None:
    path, said, wrong = tmp_path / "events.sqlite", list[str](), list[Exception]()
    over = threading.Event()
    with opened(path, said) as keeper:
        for number in range(20):
            keeper.put("raised", named(number))

        def read() -> None:
            while not over.is_set():
                try:
                    keeper.after(0, 5)
                    keeper.newest(5)
                except StorageError:
                    continue
                except Exception as error:
                    wrong.append(error)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for _ in range(10):
            until(lambda: path.exists() and keeper._file == keepers._identity(path))
            path.unlink()
            until(path.exists)  # between this and its opening nothing holds it: who deleted it then would lose it
        over.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert ids(path) == [str(number) for number in range(20)]
    assert names(tmp_path) == {"events.sqlite"}


def test_damaged_before_the_start_sinks_are_told_what_they_were_not(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path) as store:
        store.cursor("mqtt")
        for number in range(6):
            store.put("raised", named(number))
        store.advance("mqtt", 1)
        root = store._connection.execute("SELECT rootpage FROM sqlite_schema WHERE name LIKE '%autoindex_events%'")
        [page] = root.fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\x5a" * 4096)
    with opened(path) as keeper:
        assert list(tmp_path.glob("events.sqlite.damaged-*"))
        assert (keeper.cursor("mqtt"), keeper.waiting("mqtt")) == (1, 5)
        assert [message.event.id for message in keeper.after(1, 10)] == ["1", "2", "3", "4", "5"]


def test_a_sink_that_is_new_while_the_disk_fails_is_told_what_came_then(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file stands in the way")
    with opened(tmp_path / "state" / "events.sqlite") as keeper:
        with pytest.raises(StorageError):
            keeper.cursor("mqtt")
        for number in range(5):
            keeper.put("raised", named(number))
        (tmp_path / "state").unlink()
        until(lambda: keeper.unwritten == 0)
        assert (keeper.cursor("mqtt"), keeper.waiting("mqtt")) == (0, 5)
