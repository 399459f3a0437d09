"""Events on the disk: SQLite, one row an event, the newest so many."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_asd.errors import StorageError
from edge_asd.events import Event
from edge_asd.files import unreadable

FILE_NAME = "events.sqlite"
SCHEMA_VERSION = 1

_COLUMNS = [field.name for field in fields(Event)]
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    machine TEXT NOT NULL, section TEXT NOT NULL, bundle TEXT NOT NULL,
    began_utc TEXT NOT NULL, raised_utc TEXT NOT NULL,
    began_s REAL NOT NULL, raised_s REAL NOT NULL, ended_s REAL,
    peak REAL NOT NULL, peak_s REAL NOT NULL, threshold REAL NOT NULL, nearest TEXT NOT NULL
)
"""
# The names are this module's and Event's own; every value is bound.
_PUT = (
    f"INSERT INTO events ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
)
_FORGET = "DELETE FROM events WHERE sequence <= (SELECT sequence FROM events ORDER BY sequence DESC LIMIT 1 OFFSET ?)"
_NEWEST = f"SELECT {', '.join(_COLUMNS)} FROM events ORDER BY sequence DESC LIMIT ?"  # noqa: S608


class EventStore:
    """The events of one device. What `put` returned from is on the disk, whatever happens to the power."""

    def __init__(self, path: Path, *, keep: int = 10_000, read_only: bool = False) -> None:
        """Open the database, or make it.

        Args:
            path: of its file.
            keep: rows; the oldest go when there are more.
            read_only: for those who only look; the file must be there.

        Raises:
            StorageError: it can't be read or written, is damaged, or is a later version's.
        """
        self._path = path
        self._keep = keep
        with self._clear_errors():
            self._connection = self._open(read_only)
        try:
            with self._clear_errors():
                self._prepare(read_only)
        except StorageError:
            self._connection.close()
            raise

    def put(self, event: Event) -> None:
        """Write an event, or what has become of it: same id, same row. Raises: StorageError."""
        with self._clear_errors(), self._connection:
            self._connection.execute(_PUT, astuple(event))
            self._connection.execute(_FORGET, (self._keep,))

    def newest(self, count: int) -> list[Event]:
        """The newest so many events, the newest first. Raises: StorageError."""
        with self._clear_errors():
            return [Event(*row) for row in self._connection.execute(_NEWEST, (count,))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def _open(self, read_only: bool) -> sqlite3.Connection:
        if read_only:
            return self._open_read_only()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self._path.parent}: can't be made ({error.strerror}); mend `state`.") from error
        return sqlite3.connect(self._path)

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
        how = "mode=ro" if written_to else "mode=ro&immutable=1"
        return sqlite3.connect(f"{self._path.absolute().as_uri()}?{how}", uri=True)

    def _prepare(self, read_only: bool) -> None:
        [version] = self._connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StorageError(f"{self._path}: was written by a later edge-asd; update edge-asd here.")
        [[verdict]] = self._connection.execute("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if read_only:
            return
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA journal_size_limit = 1048576")
        if version != SCHEMA_VERSION:
            with self._connection:
                self._connection.execute(_SCHEMA)
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:  # full, read-only, locked, no such folder
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StorageError(
                    f"{self._path}: another program has it locked; end that one, then run the same command again."
                ) from error
            raise StorageError(f"{self._path}: can't be used ({error}); free space or mend the permissions.") from error
        except sqlite3.DatabaseError as error:
            raise StorageError(
                f"{self._path}: is damaged or no event database ({error}); move it away, and a new one is begun."
            ) from error
