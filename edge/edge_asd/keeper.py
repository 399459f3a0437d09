"""The event store as a daemon sees it that must go on listening: it never blocks, never fails, and heals by itself.

    put -> memory (bounded) -> a thread of its own -> SQLite -> whoever waits for messages

What can't be written waits in memory. Once in a while, and before every writing, the thread looks whether the file is
still the one that it opened: a connection to a file without a name would take everything and keep nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from edge_asd import files, progress
from edge_asd.errors import StorageError
from edge_asd.events import Event, Kind, Message, Transition
from edge_asd.rescue import BESIDE, put_aside, save
from edge_asd.settings import EventSettings
from edge_asd.store import DamagedDatabase, EventStore, LaterDatabase

MOST_IN_MEMORY = 1000
LOOK_SECONDS = 5.0
PAUSE_SECONDS, LONGEST_PAUSE = 0.5, 60.0
PATIENCE_SECONDS = 5.0  # at the end, to write what waits

T = TypeVar("T")


class Keeper:
    """Keeps events, as long as there is a disk that takes them."""

    def __init__(
        self,
        path: Path,
        bounds: EventSettings,
        *,
        say: Callable[[str], None] = progress.say,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        """Name the database; it is opened on entering, and again and again where that fails."""
        self._path = path
        self._bounds = bounds
        self._say = say
        self._first_pause = pause
        self._change = threading.Condition()
        self._pending: deque[tuple[Transition, Event]] = deque()
        self._store: EventStore | None = None
        self._file: tuple[int, int] | None = None  # device and inode of what is open
        self._log: tuple[int, int] | None = None  # and of SQLite's log beside it, once there is one
        self._aside: Path | None = None  # a damaged database from which nothing was saved yet
        self._damaged = False  # somebody read what can't be
        self._closing = False
        self._trouble = ""
        self._last = 0  # message
        self._cursors: dict[str, int] = {}  # of sinks, as far as they are known
        self._new: dict[str, int | None] = {}  # those of sinks that couldn't be given one; None: there was no store
        self._thread = threading.Thread(target=self._work, name="keeper", daemon=True)
        self.dropped = 0
        """Events that there was no room for in memory."""

    def __enter__(self) -> Self:
        self._attempt()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def trouble(self) -> str:
        """What can't be done at present; "" where all can."""
        given_up = f"; {self.dropped} events were given up" if self.dropped else ""
        return f"{self._trouble}{given_up}" if self._trouble else ""

    @property
    def unwritten(self) -> int:
        """Events that aren't on the disk yet."""
        return len(self._pending)

    def put(self, transition: Transition, event: Event) -> None:
        """Take an event, or what has become of it."""
        with self._change:
            if len(self._pending) >= MOST_IN_MEMORY:
                self._pending.popleft()
                self.dropped += 1
                if self.dropped == 1:
                    self._say(f"edge-asd: {MOST_IN_MEMORY} events wait for the disk; the oldest are given up")
            self._pending.append((transition, event))
            self._change.notify_all()

    def settle(self, patience: float = PATIENCE_SECONDS) -> None:
        """Wait so long for what waits to be written, unless the disk is known not to take it."""
        with self._change:
            self._change.wait_for(lambda: self._trouble or not self._pending, patience)

    def close(self, patience: float = PATIENCE_SECONDS) -> None:
        """Write what waits, as far as it goes, and let go of the file."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join(patience)
        if self._pending:
            why = self._trouble or "the disk didn't take them in time"
            self._say(f"edge-asd: {len(self._pending)} events couldn't be written: {why}")
        if not self._thread.is_alive():  # it lets go by itself; who closed a store in use would wait for the disk
            self._let_go()

    def wait_for_message(self, after: int, timeout: float) -> bool:
        """Wait until there is a message with a number above this one; whether there is."""
        with self._change:
            return self._change.wait_for(lambda: self._last > after or self._closing, timeout) and self._last > after

    def newest(self, count: int, kind: Kind | None = None) -> list[Event]:
        """As the store. Raises: StorageError while there is none that can be used; so do all below."""
        return self._use(lambda store: store.newest(count, kind))

    def event(self, identity: str) -> Event | None:
        """As the store."""
        return self._use(lambda store: store.event(identity))

    def after(self, sequence: int, count: int) -> list[Message]:
        """As the store."""
        return self._use(lambda store: store.after(sequence, count))

    def cursor(self, sink: str) -> int:
        """As the store; what a sink was told is remembered here as well, in case the store is lost.

        A sink that is new while there is no store is told what comes from now on, as soon as there is one.
        """
        try:
            found = self._use(lambda store: store.cursor(sink))
        except StorageError:
            self._new.setdefault(sink, self._last if self._store else None)
            raise
        self._cursors[sink] = max(found, self._cursors.get(sink, 0))
        return self._cursors[sink]

    def advance(self, sink: str, sequence: int) -> None:
        """As the store."""
        self._cursors[sink] = max(sequence, self._cursors.get(sink, 0))
        self._use(lambda store: store.advance(sink, sequence))

    def waiting(self, sink: str) -> int:
        """As the store."""
        return self._use(lambda store: store.waiting(sink))

    def missed(self, sink: str) -> int:
        """As the store."""
        return self._use(lambda store: store.missed(sink))

    def forget_other_sinks(self, names: Sequence[str]) -> None:
        """As the store, when it can be used."""
        self._cursors = {sink: sequence for sink, sequence in self._cursors.items() if sink in names}
        with suppress(StorageError):
            self._use(lambda store: store.forget_other_sinks(names))

    def _use(self, act: Callable[[EventStore], T]) -> T:
        store = self._store
        if store is None:
            raise StorageError(self._trouble or f"{self._path}: isn't open yet.")
        try:
            return act(store)
        except DamagedDatabase:
            with self._change:
                self._damaged = self._damaged or store is self._store
                self._change.notify_all()
            raise

    def _work(self) -> None:
        """Write what comes, until the end, then let go of the file."""
        try:
            self._write_what_comes()
        finally:
            self._let_go()

    def _write_what_comes(self) -> None:
        """After a failure wait, each time longer."""
        pause = self._first_pause
        while True:
            if self._attempt():
                pause = self._first_pause
                with self._change:
                    self._change.wait_for(self._is_needed, LOOK_SECONDS)
                    if self._closing and not self._pending:
                        return
            else:
                with self._change:
                    if self._closing:
                        return
                    self._change.wait_for(lambda: self._closing, pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _is_needed(self) -> bool:
        return bool(self._pending or self._closing or self._damaged)

    def _attempt(self) -> bool:
        """Open what must be opened, and write what waits; whether it went well."""
        try:
            self._ready()
            self._write()
        except DamagedDatabase as error:
            self._in_trouble(error)
            return self._begin_anew()
        except LaterDatabase as error:
            self._let_go()
            self._in_trouble(error)
            return False
        except Exception as error:  # whatever it is, a thread that ended would keep nothing any more
            self._in_trouble(error)
            return False
        if self._trouble:
            self._trouble = ""
            self._say(f"edge-asd: {self._path}: can be used again, nothing waits")
        return True

    def _ready(self) -> None:
        """See that the open database is the one that has the name. Raises: StorageError, OSError."""
        if self._damaged:
            raise DamagedDatabase(f"{self._path}: can't be read any more.")
        if self._store and not self._is_whole(self._store):
            self._let_go()
        if self._store is None:
            self._open()

    def _is_whole(self, store: EventStore) -> bool:
        """Whether the open file and its log still have their names; what has lost one is written. Raises: as above."""
        now, log = _identity(self._path), _identity(self._beside("-wal"))
        if now is None:
            self._write_anew(store)
            return False
        if now != self._file:
            if log is not None and log == self._log:  # SQLite would read ours into the other database
                self._remove_log()
            return False
        if self._path.stat().st_size == 0:
            raise DamagedDatabase(f"{self._path}: was emptied while it was open.")
        if self._log is not None and log != self._log:
            store.settle()
            self._say(f"edge-asd: {self._path}: its log was deleted, and is begun anew; nothing is lost")
            return False
        self._log = log
        return True

    def _open(self) -> None:
        store = EventStore(self._path, bounds=self._bounds)
        try:
            self._save_from_aside(store)
            store.go_on(self._last, self._cursors)
            with self._change:
                self._last = max(self._last, store.last())
                self._store, self._file, self._log = store, _identity(self._path), _identity(self._beside("-wal"))
                self._change.notify_all()
        except BaseException:
            store.close()
            raise

    def _save_from_aside(self, store: EventStore) -> None:
        """Take over what can be read of a damaged database. Raises: StorageError where it can't be written now."""
        if self._aside is None:
            return
        try:
            saved = save(self._aside, store, self._bounds)
        except StorageError:  # of the new one: it is tried again
            raise
        except Exception:  # of the damaged one: never again
            saved = 0
        self._say(
            f"edge-asd: {self._path}: was damaged and is now {self._aside.name}; {saved} events were saved from it"
        )
        self._aside = None

    def _write(self) -> None:
        for sink, since in list(self._new.items()):  # before anything that they are to be told
            assert self._store  # noqa: S101 - as below
            self._store.begin({sink: self._last if since is None else since})
            del self._new[sink]
        while self._pending:
            transition, event = self._pending[0]
            assert self._store  # noqa: S101 - for the type checker: it was opened above
            message = self._store.put(transition, event)
            with self._change:
                if self._pending and self._pending[0][1] is event:  # it may have been given up meanwhile
                    self._pending.popleft()
                self._last = message.sequence
                self._change.notify_all()

    def _write_anew(self, store: EventStore) -> None:
        """Give a database that was deleted its name again, from the connection that still holds it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(f".{self._path.name}.new")
        beside.unlink(missing_ok=True)
        store.backup(beside)
        self._remove_log()  # of the deleted one: the new one must not take it for its own
        beside.rename(self._path)
        self._let_go()  # not before: until then this connection alone had everything
        files.sync(self._path.parent)
        self._say(f"edge-asd: {self._path}: was deleted, and is written anew; nothing is lost")

    def _begin_anew(self) -> bool:
        """Put a damaged database aside, save what can be read, go on with a new one."""
        self._let_go()
        try:
            self._aside = put_aside(self._path, datetime.now(UTC), self._say)
            self._damaged = False
            self._open()
            self._write()
        except Exception as error:  # as above
            self._in_trouble(error)
            return False
        self._trouble = ""
        return True

    def _beside(self, ending: str) -> Path:
        return self._path.with_name(self._path.name + ending)

    def _remove_log(self) -> None:
        for ending in BESIDE[1:]:
            self._beside(ending).unlink(missing_ok=True)

    def _let_go(self) -> None:
        store, self._store, self._file, self._log = self._store, None, None, None
        if store:
            with suppress(StorageError, Exception):
                store.close()

    def _in_trouble(self, error: Exception) -> None:
        """Say it once, until something else is wrong or all is right again."""
        said = str(error) or repr(error)
        if said != self._trouble:
            self._say(f"edge-asd: events wait in memory: {said}")
        self._trouble = said


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file has the name; None where none has. Raises: OSError where that can't be seen."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
