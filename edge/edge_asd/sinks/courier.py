"""Brings the messages of the log to one receiver: in order, none lost while the log keeps it, and none held back.

    Log --after(cursor)--> Courier --deliver--> Sink --> the world
     ^                        |
     └──── advance(cursor) ───┘   once the receiver has it for sure

What was delivered and not yet written down as such when the power went goes out again: a receiver tells repetitions by
the message's `sequence`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from edge_asd import progress
from edge_asd.errors import StorageError
from edge_asd.events import Message
from edge_asd.status import SinkStatus

LONGEST_PAUSE = 300.0  # seconds between two attempts
REFRESH_SECONDS = 5.0  # so often the numbers in the status are counted anew in a pause
IDLE_SECONDS = 0.5  # as long as `close` may go unnoticed
LAST_MOMENT = 2.0  # seconds for a delivery to notice that it shall stop
LASTING_SECONDS = 10.0  # of trouble while nothing waits, before it is said: a broker may restart
TROUBLES_SAID = 16  # different ones of one outage


class SinkDown(Exception):
    """The receiver doesn't take anything now. Says why, for people, without a full stop."""

    def __init__(self, why: str, *, again_after: float | None = None) -> None:
        """`again_after`: seconds after which to try again; pauses that grow if it is None."""
        super().__init__(why)
        self.again_after = again_after


class Refused(Exception):
    """The receiver will never take this message. Says why, for people, without a full stop."""


class Log(Protocol):
    """Where the messages come from; all but `wait_for_message` may raise StorageError."""

    def after(self, sequence: int, count: int) -> list[Message]:
        """The oldest so many messages that are newer than this one."""
        ...

    def cursor(self, sink: str) -> int:
        """Sequence of the last message that this sink has; 0 before the first."""
        ...

    def advance(self, sink: str, sequence: int) -> None:
        """It has this one now."""
        ...

    def waiting(self, sink: str) -> int:
        """How many it hasn't."""
        ...

    def missed(self, sink: str) -> int:
        """How many were dropped before it could have them."""
        ...

    def wait_for_message(self, after: int, timeout: float) -> bool:
        """Wait at most so many seconds for a newer message; whether there is one."""
        ...


class Sink(Protocol):
    """A receiver.

    One that holds a connection may have a `trouble: str` as well: what is wrong with that now, or "". A wrong password
    is then known before the first alert.
    """

    name: str

    def deliver(self, message: Message, stop: threading.Event) -> None:
        """Return when the receiver has it for sure, or soon after `stop` is set.

        Called again with the same message after it raised SinkDown.

        Raises:
            SinkDown: it doesn't have it, or nobody knows; "stopping" where that is because of `stop`.
            Refused: it will never take it.
        """
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class Courier:
    """The thread that serves one sink. It has begun when this returns, and outlives whatever goes wrong."""

    def __init__(
        self,
        sink: Sink,
        log: Log,
        *,
        say: Callable[[str], None] = progress.say,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Begin.

        Args:
            sink: who is served; it is closed by `close`.
            log: where the messages are.
            say: told what people should know, once as it begins and once when it is over.
            wait: waits so many seconds between two attempts; a test brings its own.
        """
        self._sink = sink
        self._log = log
        self._say = say
        self._wait = wait or self._rest
        self._closing = threading.Event()  # no more pauses; the end when nothing waits
        self._stop = threading.Event()  # the end now
        self._status = SinkStatus(name=sink.name)
        self._refused = 0  # since the daemon began
        self._said: set[str] = set()  # of the present outage
        self._sent = 0  # since it began
        self._failures = 0  # on end
        self._good = time.monotonic()  # when nothing was wrong last
        self._thread = threading.Thread(target=self._run, name=f"courier-{sink.name}", daemon=True)
        self._thread.start()

    @property
    def status(self) -> SinkStatus:
        """As it was last counted; asks no disk, so that nobody waits for one."""
        return self._status

    def close(self, patience: float = 5.0) -> None:
        """Give what waits so many seconds to go out, if the receiver takes it; then end, and close the sink."""
        self._closing.set()
        if patience > 0:
            self._thread.join(patience)
        self._stop.set()
        self._thread.join(LAST_MOMENT)
        self._sink.close()

    def _run(self) -> None:
        delivered: Message | None = None  # that the log doesn't know of yet
        current: Message | None = None
        while not self._stop.is_set():
            try:
                if delivered is not None:
                    self._log.advance(self._sink.name, delivered.sequence)
                    delivered = None
                if current is None:
                    self._count()
                    current = self._next()
                    if current is None:
                        self._settle()
                        if self._closing.is_set():
                            return
                        continue
                self._deliver(current)
                current, delivered = None, current
            except SinkDown as down:
                if self._stop.is_set():
                    return
                self._trouble(str(down), down.again_after)
            except StorageError as error:
                self._trouble(f"the messages can't be read or marked as sent: {str(error).rstrip('.')}")
            except Exception as error:  # a thread that dies would be noticed years later
                self._trouble(f"failed in a way that nobody foresaw ({error!r}); please report it")
            if self._failures and self._closing.is_set():
                return

    def _next(self) -> Message | None:
        """The oldest message that the sink hasn't, waiting a moment for one. Raises: StorageError.

        The cursor is read anew each time: where a damaged log was begun anew, its numbers are, too.
        """
        cursor = self._log.cursor(self._sink.name)
        if not self._log.wait_for_message(cursor, 0 if self._closing.is_set() else IDLE_SECONDS):
            return None
        found = self._log.after(cursor, 1)
        if not found:  # dropped in between
            self._closing.wait(IDLE_SECONDS)
        return found[0] if found else None

    def _deliver(self, message: Message) -> None:
        try:
            self._sink.deliver(message, self._stop)
        except Refused as refusal:
            self._refused += 1
            self._say(f"{self._sink.name}: message {message.sequence} was refused for good and passed over: {refusal}.")
        else:
            self._sent += 1
        self._failures = 0
        self._tell(trouble="")

    def _trouble(self, why: str, again_after: float | None = None) -> None:
        """Say it once an outage, and pause; the pauses grow."""
        self._say_once(why)
        self._tell(trouble=why)
        self._count_if_possible()
        pause = min(2.0 ** min(self._failures, 30), LONGEST_PAUSE)
        self._failures += 1
        if not self._closing.is_set():
            self._wait(pause if again_after is None else min(again_after, LONGEST_PAUSE))

    def _say_once(self, why: str) -> None:
        if not self._said:
            self._sent = 0
        if why not in self._said and len(self._said) < TROUBLES_SAID:
            self._said.add(why)
            self._say(f"{self._sink.name}: {why}; what waits for it is kept, and tried again.")

    def _settle(self) -> None:
        """Nothing waits: an outage, if there was one, is over, unless the sink knows better."""
        self._failures = 0
        trouble: str = getattr(self._sink, "trouble", "")
        if trouble != self._status.trouble:
            self._tell(trouble=trouble)
        if trouble:
            if time.monotonic() - self._good > LASTING_SECONDS:
                self._say_once(trouble)
            return
        self._good = time.monotonic()
        if self._said:
            self._said.clear()
            went_out = f", {self._sent} message{'s' * (self._sent != 1)} went out" if self._sent else ""
            self._say(f"{self._sink.name}: works again{went_out}.")

    def _rest(self, seconds: float) -> None:
        """Wait, counting now and then what waits with it."""
        while seconds > 0 and not self._closing.wait(min(seconds, REFRESH_SECONDS)):
            seconds -= REFRESH_SECONDS
            self._count_if_possible()

    def _count_if_possible(self) -> None:
        with suppress(Exception):  # it is said where the messages themselves can't be read
            self._count()

    def _count(self) -> None:
        """Raises: StorageError."""
        name = self._sink.name
        waiting, missed = self._log.waiting(name), self._log.missed(name)
        self._tell(waiting=waiting, missed=missed + self._refused)

    def _tell(self, **changes: int | str) -> None:
        self._status = msgspec.structs.replace(self._status, **changes)
