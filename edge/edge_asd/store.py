"""Events on the disk: SQLite. What each has become, and a log of how it became so, which goes out to sinks in order.

    events    one row an event, as it stands now
    messages  one row for each thing that became of one, numbered for ever without a hole
    cursors   up to which message a sink has been told, and how many were gone before it could be

All is bounded: events by number, age and size, messages by number and size; the oldest go first.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from edge_asd import progress, strict
from edge_asd.clock import iso
from edge_asd.errors import StorageError
from edge_asd.events import Event, Kind, Message, Transition
from edge_asd.files import unreadable
from edge_asd.settings import EventSettings

FILE_NAME = "events.sqlite"
SCHEMA_VERSION = 2
BUSY_MS = 5000
_WRITE_FORMAT = 18  # the byte of SQLite's header that says who may write: 1 a rollback journal, 2 a WAL

_SCHEMA = (
    "CREATE TABLE events (sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, "
    "raised_utc TEXT NOT NULL, body TEXT NOT NULL)",
    "CREATE TABLE messages (sequence INTEGER PRIMARY KEY AUTOINCREMENT, transition TEXT NOT NULL, "
    "event_id TEXT NOT NULL, body TEXT NOT NULL)",
    "CREATE TABLE cursors (sink TEXT PRIMARY KEY, sequence INTEGER NOT NULL, missed INTEGER NOT NULL) WITHOUT ROWID",
)
_SCHEMA_1 = (  # the columns of the only table that the first version had
    *("id", "kind", "machine", "section", "bundle", "began_utc", "raised_utc", "began_s", "raised_s", "ended_s"),
    *("peak", "peak_s", "threshold", "nearest"),
)
_PUT = (
    "INSERT INTO events (id, kind, raised_utc, body) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET raised_utc = excluded.raised_utc, body = excluded.body"
)
_SEVENTH = 7  # the share of the rows that goes at once where the file is too large


class DamagedDatabase(StorageError):
    """The file is no event database, or one that can't be read any more."""


class LaterDatabase(StorageError):
    """The file was written by a later version of this program."""


class EventStore:
    """The events of one device, for several threads. What `put` returned from is on the disk, whatever happens."""

    def __init__(
        self,
        path: Path,
        *,
        bounds: EventSettings = EventSettings(),  # noqa: B008 - immutable
        read_only: bool = False,
    ) -> None:
        """Open the database, make it, or bring one of an earlier version up to date.

        Args:
            path: of its file.
            bounds: what is kept.
            read_only: for those who only look; the file must be there.

        Raises:
            StorageError: it can't be read or written.
            DamagedDatabase, LaterDatabase: it isn't one that this program could go on with.
        """
        self._path = path
        self._bounds = bounds
        self._lock = threading.RLock()
        with self._clear_errors():
            self._connection = self._open(read_only)
        try:
            with self._clear_errors():
                self._prepare(read_only)
        except StorageError:
            self._connection.close()
            raise

    def put(self, transition: Transition, event: Event) -> Message:
        """Write an event, or what has become of it: same id, same row; and a message of it. Raises: StorageError."""
        row = _row(event)
        with self._clear_errors():
            with self._connection:
                self._connection.execute(_PUT, row)
                added = self._connection.execute(
                    "INSERT INTO messages (transition, event_id, body) VALUES (?, ?, ?)",
                    (transition, event.id, row[-1]),
                )
                self._forget(event)
            with suppress(sqlite3.DatabaseError):  # it is written, and who heard of an error would put it again
                self._connection.execute("PRAGMA incremental_vacuum").fetchall()
        return Message(added.lastrowid or 0, transition, event)

    def newest(self, count: int, kind: Kind | None = None) -> list[Event]:
        """The newest so many events, of one kind if wanted, the newest first. Raises: StorageError."""
        wanted = "SELECT body FROM events WHERE kind = coalesce(?, kind) ORDER BY sequence DESC LIMIT ?"
        return [_event(body) for (body,) in self._rows(wanted, kind, count)]

    def event(self, identity: str) -> Event | None:
        """The event of this id. Raises: StorageError."""
        rows = self._rows("SELECT body FROM events WHERE id = ?", identity)
        return _event(rows[0][0]) if rows else None

    def count(self) -> int:
        """How many events there are. Raises: StorageError."""
        [(count,)] = self._rows("SELECT count(*) FROM events")
        return int(count)

    def last(self) -> int:
        """The number of the newest message that ever was; 0 where none was. Raises: StorageError."""
        rows = self._rows("SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'messages'")
        return int(rows[0][0]) if rows else 0

    def after(self, sequence: int, count: int) -> list[Message]:
        """The oldest so many messages after this number. Raises: StorageError."""
        wanted = "SELECT sequence, transition, body FROM messages WHERE sequence > ? ORDER BY sequence LIMIT ?"
        return [
            Message(number, transition, _event(body))
            for number, transition, body in self._rows(wanted, sequence, count)
        ]

    def cursor(self, sink: str) -> int:
        """The last message that a sink was told; a new sink isn't told the past. Raises: StorageError."""
        with self._clear_errors(), self._connection:
            self._connection.execute("INSERT OR IGNORE INTO cursors VALUES (?, ?, 0)", (sink, self.last()))
        [(sequence,)] = self._rows("SELECT sequence FROM cursors WHERE sink = ?", sink)
        return int(sequence)

    def advance(self, sink: str, sequence: int) -> None:
        """A sink was told this message, the next that there was; what lay between was gone. Raises: StorageError."""
        with self._clear_errors(), self._connection:
            self._connection.execute(
                "UPDATE cursors SET missed = missed + ? - sequence - 1, sequence = ? WHERE sink = ? AND sequence < ?",
                (sequence, sequence, sink, sequence),
            )

    def waiting(self, sink: str) -> int:
        """Messages that a sink has yet to be told. Raises: StorageError."""
        behind = "SELECT count(*) FROM messages WHERE sequence > (SELECT sequence FROM cursors WHERE sink = ?)"
        [(count,)] = self._rows(behind, sink)
        return int(count)

    def missed(self, sink: str) -> int:
        """Messages that were gone before a sink could be told. Raises: StorageError."""
        rows = self._rows(
            "SELECT missed + max(0, coalesce((SELECT min(sequence) FROM messages WHERE sequence > cursors.sequence) "
            "- cursors.sequence - 1, 0)) FROM cursors WHERE sink = ?",
            sink,
        )
        return int(rows[0][0]) if rows else 0

    def forget_other_sinks(self, names: Sequence[str]) -> None:
        """Nobody waits for sinks that aren't configured any more. Raises: StorageError."""
        with self._clear_errors(), self._connection:
            known = self._connection.execute("SELECT sink FROM cursors").fetchall()
            gone = [(sink,) for (sink,) in known if sink not in names]
            self._connection.executemany("DELETE FROM cursors WHERE sink = ?", gone)

    def go_on(self, last: int, cursors: Mapping[str, int]) -> None:
        """Number no message as one was numbered already, and tell no sink again what it knows. Raises: StorageError."""
        with self._clear_errors(), self._connection:
            if self.last() < last:
                self._connection.execute("DELETE FROM sqlite_sequence WHERE name = 'messages'")
                self._connection.execute("INSERT INTO sqlite_sequence VALUES ('messages', ?)", (last,))
            self._connection.executemany(
                "INSERT INTO cursors VALUES (?, ?, 0) ON CONFLICT (sink) DO UPDATE SET "
                "sequence = max(sequence, excluded.sequence)",
                list(cursors.items()),
            )

    def begin(self, cursors: Mapping[str, int]) -> None:
        """Sinks that aren't known yet begin after these messages. Raises: StorageError."""
        with self._clear_errors(), self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO cursors VALUES (?, ?, 0)", list(cursors.items()))

    def restore(self, messages: Sequence[Message], events: Sequence[Event]) -> None:
        """Take what was saved from another database, events from the oldest on. Raises: StorageError."""
        with self._clear_errors(), self._connection:
            self._connection.executemany(_PUT, map(_row, events))
            self._connection.executemany(
                "INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?)",
                [(m.sequence, m.transition, m.event.id, _body(m.event)) for m in messages],
            )

    def backup(self, path: Path) -> None:
        """Write the whole database into another file, though its own has no name any more. Raises: StorageError."""
        with self._clear_errors():
            other = sqlite3.connect(path)
            try:
                self._connection.backup(other)
            finally:
                other.close()

    def settle(self) -> None:
        """Bring what is only in the log into the file itself. Raises: StorageError, also where a reader prevents it."""
        with self._clear_errors():
            [(busy, *_)] = self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
        if busy:
            raise StorageError(f"{self._path}: its log can't be written back while another program reads it; end that.")

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._clear_errors():
            return self._connection.execute(query, values).fetchall()

    def _forget(self, newest: Event) -> None:
        """What is too old or too much; by age only where the newest event's clock is right, or all might go."""
        bounds, run = self._bounds, self._connection.execute
        for table, keep in (("events", bounds.keep), ("messages", bounds.waiting)):
            beyond = f"SELECT sequence FROM {table} ORDER BY sequence DESC LIMIT 1 OFFSET ?"  # noqa: S608 - our own names
            run(f"DELETE FROM {table} WHERE sequence <= ({beyond})", (keep,))  # noqa: S608 - as above
        if newest.synchronised:
            oldest = datetime.fromisoformat(newest.raised_utc) - timedelta(days=bounds.keep_days)
            run("DELETE FROM events WHERE raised_utc < ?", (iso(oldest),))
        while self._used_bytes() > bounds.keep_mb << 20 and self.count() > 1:
            for table in ("events", "messages"):
                some = f"SELECT sequence FROM {table} ORDER BY sequence LIMIT (SELECT count(*) / ? + 1 FROM {table})"  # noqa: S608
                run(f"DELETE FROM {table} WHERE sequence IN ({some})", (_SEVENTH,))  # noqa: S608 - as above

    def _used_bytes(self) -> int:
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
        return int((pages - free) * size)

    def _open(self, read_only: bool) -> sqlite3.Connection:
        if read_only:
            return self._open_read_only()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self._path.parent}: can't be made ({error.strerror}); mend `state`.") from error
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as it,
        ):
            self._refuse_later(it)  # before anything is written: closing alone would write the log into the file
        return sqlite3.connect(self._path, timeout=BUSY_MS / 1000, check_same_thread=False)

    def _refuse_later(self, connection: sqlite3.Connection) -> int:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise LaterDatabase(f"{self._path}: was written by a later edge-asd; update edge-asd here.")
        return int(version)

    def _open_read_only(self) -> sqlite3.Connection:
        """Make no file: beside a database that nobody writes to SQLite would make two, which a reader may not."""
        try:
            if not self._path.is_file():
                raise StorageError(
                    f"{self._path}: there is no such file; has `edge-asd run` run with this state folder?"
                )
            written_to = self._path.with_name(f"{self._path.name}-wal").exists()
        except OSError as error:
            raise unreadable(self._path, error) from error
        address = f"{self._path.absolute().as_uri()}?mode=ro"
        if written_to:
            connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            try:
                self._refuse_later(connection)
                return connection
            except sqlite3.OperationalError as error:
                connection.close()
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
                    raise
                # A full disk: SQLite can't make the index that it reads its log by. Nobody has the file open then.
                progress.say(f"edge-asd: {self._path}: read without the newest events; free space")
        return sqlite3.connect(f"{address}&immutable=1", uri=True, check_same_thread=False)

    def _prepare(self, read_only: bool) -> None:
        version = self._refuse_later(self._connection)
        try:
            [[verdict]] = self._connection.execute("PRAGMA quick_check(1)")
        except MemoryError as error:  # SQLite's word for some damaged schemas, too, however small
            raise sqlite3.DatabaseError("its tables take more memory than there is") from error
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if read_only:
            if version < SCHEMA_VERSION:
                raise StorageError(
                    f"{self._path}: was written by an earlier edge-asd; `edge-asd run` brings it up to date."
                )
            return
        if version == 0:
            self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA journal_size_limit = 1048576")
        if version == SCHEMA_VERSION:
            return
        with self._connection:
            # Python begins one by itself for rows alone: without it a power cut would leave some of the tables.
            self._connection.execute("BEGIN IMMEDIATE")
            old = self._of_schema_1() if version == 1 else []
            for statement in _SCHEMA:
                self._connection.execute(statement)
            self._connection.executemany(_PUT, map(_row, old))
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _of_schema_1(self) -> list[Event]:
        """The events of the first version, whose table goes."""
        rows = self._connection.execute(f"SELECT {', '.join(_SCHEMA_1)} FROM events ORDER BY sequence")  # noqa: S608
        try:
            events = [msgspec.convert(dict(zip(_SCHEMA_1, row, strict=True)), Event) for row in rows]
        except msgspec.ValidationError as error:
            raise self._damaged(error) from error
        self._connection.execute("DROP TABLE events")
        return events

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.ProgrammingError as error:  # another thread has closed it meanwhile
                raise StorageError(f"{self._path}: is being opened anew; try again.") from error
            except sqlite3.OperationalError as error:  # full, read-only, locked, no such folder
                code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # none: text that is no UTF-8
                # ERROR: what is asked is always the same, so that a file of which it can't be asked isn't ours.
                readonly = code == sqlite3.SQLITE_READONLY and self._is_of_no_known_format()
                if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR) or readonly:
                    raise self._damaged(error) from error
                if code == sqlite3.SQLITE_BUSY:
                    raise StorageError(
                        f"{self._path}: another program has it locked; end that one, then run the same command again."
                    ) from error
                raise StorageError(
                    f"{self._path}: can't be used ({error}); free space or mend the permissions."
                ) from error
            except MemoryError as error:
                raise StorageError(f"{self._path}: can't be used (no memory is left); end other programs.") from error
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # its own words hold names out of the file
                raise self._damaged(error) from error

    def _is_of_no_known_format(self) -> bool:
        """Whether the header says that SQLite may read the file and not write it: one flipped bit does."""
        try:
            with self._path.open("rb") as file:
                header = file.read(_WRITE_FORMAT + 1)
        except OSError:
            return False
        return len(header) > _WRITE_FORMAT and header[_WRITE_FORMAT] not in (1, 2)

    def _damaged(self, error: Exception) -> DamagedDatabase:
        why = str(error).partition(" with text ")[0]  # without the text that is none
        return DamagedDatabase(
            f"{self._path}: is damaged or no event database ({why}); move it away, and a new one is begun."
        )


def _row(event: Event) -> tuple[str, str, str, str]:
    """What `_PUT` writes."""
    return event.id, event.kind, event.raised_utc, _body(event)


def _body(event: Event) -> str:
    return msgspec.json.encode(event).decode()


def _event(body: object) -> Event:
    """Raises: DamagedDatabase, where it is none."""
    try:
        return strict.decoded(str(body), Event)
    except ValueError as error:
        raise DamagedDatabase(f"{FILE_NAME}: a row holds no event ({error}).") from error
