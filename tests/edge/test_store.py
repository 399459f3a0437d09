"""Events on the disk: bounded, there after a restart, and clear about a file that can't be used."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from common import ROOT
from edge_asd.errors import StorageError
from edge_asd.events import Event, Message
from edge_asd.settings import EventSettings
from edge_asd.store import _SCHEMA, DamagedDatabase, EventStore, LaterDatabase
from made_up_events import STRANGE

EVENT = replace(STRANGE, synchronised=True)


FIRST_VERSION = """
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    machine TEXT NOT NULL, section TEXT NOT NULL, bundle TEXT NOT NULL,
    began_utc TEXT NOT NULL, raised_utc TEXT NOT NULL,
    began_s REAL NOT NULL, raised_s REAL NOT NULL, ended_s REAL,
    peak REAL NOT NULL, peak_s REAL NOT NULL, threshold REAL NOT NULL, nearest TEXT NOT NULL
);
INSERT INTO events VALUES (1, 'a', 'anomaly', 'fan', '00', '0123456789abcdef', '2026-01-01T00:00:00.000Z',
    '2026-01-01T00:00:01.000Z', 10.0, 11.0, NULL, 3.5, 10.5, 2.0, 'section_00_0001.wav');
INSERT INTO events VALUES (2, 'b', 'anomaly', 'fan', '00', '0123456789abcdef', '2026-01-01T00:00:00.000Z',
    '2026-01-01T00:00:01.000Z', 10.0, 11.0, 12.0, 3.5, 10.5, 2.0, 'section_00_0001.wav');
PRAGMA user_version = 1;
"""


def named(number: int) -> Event:
    return replace(EVENT, id=f"event {number}", began_s=float(number))


def test_events_survive_reopening(tmp_path: Path) -> None:
    path = tmp_path / "state" / "events.sqlite"
    with EventStore(path) as store:
        store.put("raised", EVENT)
    with EventStore(path) as store:
        store.put("raised", named(2))
        assert store.newest(10) == [named(2), EVENT]
        assert store.newest(1) == [named(2)]


def test_same_id_same_row(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events.sqlite") as store:
        store.put("raised", EVENT)
        store.put("raised", named(2))
        ended = replace(EVENT, ended_s=20.0, peak=4.0)
        store.put("raised", ended)
        assert store.newest(10) == [named(2), ended]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path, bounds=EventSettings(keep=5)) as store:
        for number in range(23):
            store.put("raised", named(number))
            store.put("raised", replace(named(number), ended_s=99.0))
        assert [event.began_s for event in store.newest(100)] == [22.0, 21.0, 20.0, 19.0, 18.0]
    with EventStore(path, bounds=EventSettings(keep=2)) as store:
        store.put("raised", named(23))
        assert [event.began_s for event in store.newest(100)] == [23.0, 22.0]


def test_what_was_put_is_read_by_another_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path) as store, EventStore(path, read_only=True) as reader:
        store.put("raised", EVENT)
        assert reader.newest(1) == [EVENT]
        with pytest.raises(StorageError, match="readonly"):
            reader.put("raised", EVENT)


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
            store.put("raised", named(number))
    content = bytearray(path.read_bytes())
    content[8192:16384] = b"\x5a" * 8192
    path.write_bytes(content)
    with pytest.raises(DamagedDatabase, match="is damaged or no event database"):
        EventStore(path)


def test_a_database_of_a_later_version(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LaterDatabase, match="later edge-asd"):
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
            store.put("raised", EVENT)
        other.close()


def test_opening_again_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path) as store:
        store.put("raised", EVENT)
    with EventStore(path):
        wal = tmp_path / "events.sqlite-wal"
        assert not wal.exists() or wal.stat().st_size == 0


def test_a_reader_needs_to_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path) as store:
        store.put("raised", EVENT)
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


def test_messages_are_numbered_and_told_in_order(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events.sqlite") as store:
        assert store.last() == 0
        assert store.cursor("mqtt") == 0
        ended = replace(EVENT, ended_s=20.0)
        assert store.put("raised", EVENT) == Message(1, "raised", EVENT)
        assert store.put("cleared", ended) == Message(2, "cleared", ended)
        assert store.after(0, 10) == [Message(1, "raised", EVENT), Message(2, "cleared", ended)]
        assert store.after(1, 10) == [Message(2, "cleared", ended)]
        assert store.after(0, 1) == [Message(1, "raised", EVENT)]
        assert (store.waiting("mqtt"), store.missed("mqtt")) == (2, 0)
        store.advance("mqtt", 1)
        assert (store.cursor("mqtt"), store.waiting("mqtt"), store.missed("mqtt")) == (1, 1, 0)
        store.advance("mqtt", 1)
        assert (store.cursor("mqtt"), store.missed("mqtt")) == (1, 0)
        assert store.event("a") == ended
        assert store.event("b") is None


def test_a_new_sink_is_not_told_the_past(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events.sqlite") as store:
        store.put("raised", EVENT)
        assert store.cursor("webhook") == 1
        store.put("cleared", EVENT)
        assert (store.cursor("webhook"), store.waiting("webhook")) == (1, 1)
        store.cursor("mqtt")
        store.forget_other_sinks(["mqtt"])
        assert store.cursor("webhook") == 2


def test_what_a_sink_missed_is_counted(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events.sqlite", bounds=EventSettings(waiting=10)) as store:
        store.cursor("mqtt")
        for number in range(25):
            store.put("raised", named(number))
        assert (store.waiting("mqtt"), store.missed("mqtt")) == (10, 15)
        [first] = store.after(store.cursor("mqtt"), 1)
        assert first.sequence == 16
        store.advance("mqtt", 16)
        assert (store.waiting("mqtt"), store.missed("mqtt")) == (9, 15)


def test_old_events_go_by_a_clock_that_is_right(tmp_path: Path) -> None:
    bounds = EventSettings(keep_days=30)

    def of(utc: str, identity: str, synchronised: bool) -> Event:
        return replace(EVENT, id=identity, raised_utc=utc, synchronised=synchronised)

    with EventStore(tmp_path / "events.sqlite", bounds=bounds) as store:
        store.put("raised", of("2026-01-01T00:00:00.000Z", "old", True))
        store.put("raised", of("2099-01-01T00:00:00.000Z", "from a clock gone mad", False))
        assert store.count() == 2
        store.put("raised", of("2026-02-15T00:00:00.000Z", "new", True))
        assert {event.id for event in store.newest(10)} == {"from a clock gone mad", "new"}


def test_the_file_stays_within_its_size(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    with EventStore(path, bounds=EventSettings(keep=1_000_000, waiting=1_000_000, keep_mb=1)) as store:
        sizes = []
        for number in range(600):
            store.put("raised", replace(named(number), said="x" * 2000))
            sizes.append(path.stat().st_size)
        assert max(sizes) < 1.3 * (1 << 20)
        assert 100 < store.count() < 600
        assert store.newest(1)[0].id == "event 599"
        assert store.last() == 600
    assert path.stat().st_size < 1.3 * (1 << 20)


def test_numbers_go_on_where_they_were_known_to_be(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events.sqlite") as store:
        store.go_on(41, {"mqtt": 40})
        assert store.put("raised", EVENT).sequence == 42
        assert (store.cursor("mqtt"), store.waiting("mqtt")) == (40, 1)
        store.go_on(7, {"mqtt": 3})
        assert (store.last(), store.cursor("mqtt")) == (42, 40)


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(FIRST_VERSION)
    connection.close()
    with pytest.raises(StorageError, match="earlier edge-asd; `edge-asd run` brings it up to date"):
        EventStore(path, read_only=True)
    for _ in range(2):
        with EventStore(path) as store:
            first = replace(EVENT, synchronised=False)
            assert store.newest(10) == [replace(first, id="b", ended_s=12.0), first]
            assert store.last() == 0  # nobody is told of these anew


WRITER = """
import sys
from pathlib import Path
from msgspec.structs import replace
sys.path[:0] = ["tests", "tests/edge"]
from edge_asd.store import EventStore
from test_store import EVENT
with EventStore(Path(sys.argv[1])) as store:
    number = store.last()
    print("open", flush=True)
    while True:
        store.put("raised", replace(EVENT, id=str(number)))
        number += 1
"""


def test_a_writer_that_is_killed_leaves_events_and_messages_that_agree(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    before = 0
    for _ in range(5):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as writer:
            assert writer.stdout
            assert writer.stdout.readline() == b"open\n"
            with EventStore(path, read_only=True) as reader:
                while reader.count() < before + 20:
                    pass
            writer.kill()
        with EventStore(path) as store:
            count = store.count()
            assert [message.sequence for message in store.after(0, 100_000)] == list(range(1, count + 1))
            assert {message.event.id for message in store.after(0, 100_000)} == {str(n) for n in range(count)}
        assert count >= before + 20
        before = count


def test_threads_share_a_store(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events.sqlite") as store:
        threads = [
            threading.Thread(target=lambda start=start: [store.put("raised", named(start + n)) for n in range(25)])
            for start in (0, 100, 200, 300)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.count() == 100
        assert [message.sequence for message in store.after(0, 1000)] == list(range(1, 101))


@pytest.mark.parametrize("version", [0, 1])
def test_tables_are_all_there_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """What breaks off while they are made, or brought up to date, leaves what was there: the next start begins anew."""
    path = tmp_path / "events.sqlite"
    if version:
        connection = sqlite3.connect(path)
        connection.executescript(FIRST_VERSION)
        connection.close()
    with monkeypatch.context() as patch:
        patch.setattr("edge_asd.store._SCHEMA", (*_SCHEMA, "CREATE TABLE"))
        with pytest.raises(StorageError):
            EventStore(path)
    with EventStore(path) as store:
        assert len(store.newest(10)) == 2 * version


def test_a_reader_needs_no_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SQLite reads its log by an index, which it can't make on a full disk: what is in the file itself is shown."""
    path, written = tmp_path / "events.sqlite", tmp_path / "written" / "events.sqlite"
    with EventStore(written) as store:
        store.put("raised", EVENT)
        store.settle()
        store.put("raised", named(2))
        for ending in ("", "-wal"):  # as a power cut leaves them
            shutil.copy(f"{written}{ending}", f"{path}{ending}")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # is what a full disk is
    try:
        with EventStore(path, read_only=True) as store:
            assert store.newest(10) == [EVENT]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "read without the newest events; free space" in capsys.readouterr().err
