"""A shadow beside the daemon: begins when a bundle is put behind its path, ends when it is taken away, harms nothing.

What may take long, reading a bundle and hearing the clips of the site with its network, and every disk, is done by a
thread of its own; the scoring thread only scores. Whatever goes wrong here is said, and ends the shadow alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edge_asd import progress, shadow_file, shadow_post, site
from edge_asd.capture import Block
from edge_asd.clock import Clock, iso
from edge_asd.errors import EdgeAsdError, StorageError
from edge_asd.listener import Listener
from edge_asd.post import Post
from edge_asd.scoring import Score
from edge_asd.settings import DeviceConfig
from edge_asd.shadow import Ledger, Record, Side
from edge_asd.shadow_scorer import ShadowScorer, moment_seconds
from edge_asd.verdict import AlarmRule

KEEP_SECONDS = 600.0  # from one writing to the next: after a power cut so much is missing

_Seen = tuple[tuple[int, ...], site.Fingerprint]


@dataclass(frozen=True, eq=False)
class _Read:
    """A shadow that can begin, and what is kept of an earlier comparison."""

    post: Post
    record: Record | None


@dataclass(frozen=True, eq=False)
class _Reading:
    """A shadow that is being read; `given_up` ends that."""

    coming: Future[_Read]
    given_up: threading.Event


class ShadowWork:
    """The shadow of a daemon, while there is one."""

    def __init__(
        self,
        path: Path,
        state: Path,
        post: Post,
        settings: Callable[[], DeviceConfig],
        clock: Clock,
        *,
        patient: bool = False,
    ) -> None:
        """Look for a shadow.

        Args:
            path: of its bundle, which may or may not be there.
            state: the folder where the comparison is kept.
            post: what listens now.
            settings: gives those that are in force.
            clock: tells the time.
            patient: the source waits while a shadow is read, as a recording does that is scored as fast as it can be.
        """
        self._path = path
        self._state = state
        self._post = post
        self._settings = settings
        self._clock = clock
        self._patient = patient
        self._worker = ThreadPoolExecutor(1, "shadow")
        self._seen: _Seen | None = None  # what scores or is being read
        self._reading: _Reading | None = None
        self._scorer: ShadowScorer | None = None
        self._kept = 0.0  # when the comparison was last handed to the worker
        self._unwritten: deque[Record] = deque(maxlen=1)
        self._writing: Future[None] | None = None
        self._silent = False  # it can't be written, and that was said
        self.look()

    @property
    def digest(self) -> str:
        """Of the bundle that scores beside; "" where none does."""
        return self._scorer.post.origin.bundle if self._scorer else ""

    def look(self) -> None:
        """See whether there is a bundle behind the path, and another one than before; keep what was compared so far."""
        try:
            self._look()
        except Exception as error:
            self._fail("can't be looked for", error)

    def adopt(self, post: Post) -> None:
        """Another post listens from now on; where its scores mean something else, comparing begins anew."""
        self._post = post
        if self._scorer:
            try:
                self._scorer.ledger.adopt(self._rules(self._scorer.post))
                if self._scorer.ledger.sides != self._sides(self._scorer.post):
                    self._scorer.ledger = self._ledger(self._scorer.post)
                    progress.say("shadow: comparing begins anew, for what listens has changed")
                    self._keep()
            except Exception as error:
                self._fail("has ended", error)

    def take(self, block: Block, scores: Sequence[Score], listener: Listener) -> None:
        """A block that the listener has taken, and the scores that it made of it."""
        try:
            if self._reading and self._reading.coming.done():
                self._begin(self._reading.coming, listener.samples - len(block.samples), listener)
            if self._scorer:
                self._scorer.take(block, scores, listener, lambda: iso(self._clock.utc_now()))
                if self._clock.monotonic() - self._kept >= KEEP_SECONDS:
                    self._keep()
        except Exception as error:  # a fault of ours, or of its network: no reason to be deaf
            self._fail("has ended", error)

    def end(self) -> None:
        """The daemon ends; what was compared is kept."""
        self._give_up()
        with suppress(Exception):  # what it came to may not be whole
            self._keep()
        self._worker.shutdown()

    def _look(self) -> None:
        there = _fingerprint(self._path)
        seen = (there, site.fingerprint(self._state, self._seen and self._seen[1])) if there else None
        if seen is not None and seen == self._seen:
            self._keep()
            return
        self._give_up()
        if self._scorer and not seen:
            progress.say("shadow: is over; `edge-asd shadow` shows what was compared")
        self._keep()
        self._scorer, self._seen = None, seen
        if seen:
            given_up = threading.Event()
            coming = self._worker.submit(self._read, self._settings(), self._post, given_up)
            self._reading = _Reading(coming, given_up)
            if self._patient:
                wait([coming])

    def _give_up(self) -> None:
        if self._reading:
            self._reading.given_up.set()
            self._reading.coming.cancel()
            self._reading = None

    def _read(self, settings: DeviceConfig, running: Post, given_up: threading.Event) -> _Read:
        """What the worker does; an error is for `_begin`."""
        post = shadow_post.read(self._path, settings, running, given_up)
        try:
            return _Read(post, shadow_file.read(self._state))
        except StorageError as error:
            progress.say(f"edge-asd: shadow: comparing begins anew: {error}")
            return _Read(post, None)

    def _begin(self, coming: Future[_Read], position: int, listener: Listener) -> None:
        """Let a shadow score from the first sample of a block on."""
        self._reading = None
        try:
            found = coming.result()
        except Exception as error:
            self._seen = None
            self._say_without(error)
            return
        ledger = self._ledger(found.post, found.record)
        self._scorer = ShadowScorer(found.post, ledger, listener, position)
        origin, rule = found.post.origin, found.post.rule
        record = ledger.record()
        goes_on = f"; goes on comparing since {record.since}" if record.moments else ""
        progress.say(
            f"shadow: bundle {origin.bundle}, section {origin.section}, scores beside {self._post.origin.bundle}, "
            f"threshold {rule.threshold:.4g}{goes_on}"
        )
        self._kept = self._clock.monotonic()
        if not record.moments:
            self._keep()

    def _ledger(self, post: Post, kept: Record | None = None) -> Ledger:
        """Go on with what is kept, where it is of these very two; else begin anew."""
        (running, shadow), utc = self._sides(post), iso(self._clock.utc_now())
        length = moment_seconds(self._post, post)
        if kept is None or (kept.running, kept.shadow, kept.moment_seconds) != (running, shadow, length):
            kept = Record(since=utc, updated=utc, running=running, shadow=shadow, moment_seconds=length)
        return Ledger(kept, self._rules(post))

    def _sides(self, post: Post) -> tuple[Side, Side]:
        return _side(self._post), _side(post)

    def _rules(self, post: Post) -> tuple[AlarmRule, AlarmRule]:
        """Of what listens, and that with the shadow's threshold."""
        return self._post.rule, replace(self._post.rule, threshold=post.rule.threshold)

    def _keep(self) -> None:
        """Have the worker write the comparison; what waits to be written is replaced."""
        if not self._scorer:
            return
        self._kept = self._clock.monotonic()
        self._unwritten.append(self._scorer.ledger.record())
        if self._writing is None or self._writing.done() or self._writing.running():
            self._writing = self._worker.submit(self._write)

    def _write(self) -> None:
        """What the worker does; where it can't be written that is said once."""
        try:
            record = self._unwritten.pop()
        except IndexError:  # the writing before has taken it
            return
        try:
            shadow_file.write(self._state, record)
            self._silent = False
        except Exception as error:
            if not self._silent:
                progress.say(f"edge-asd: shadow: what is compared isn't kept: {error}")
            self._silent = True

    def _fail(self, what: str, error: Exception) -> None:
        """End the shadow, and it alone."""
        progress.say(f"edge-asd: the shadow {what}, listening goes on: {type(error).__name__}: {error}")
        self._give_up()
        with suppress(Exception):  # as above
            self._keep()
        self._scorer = self._seen = None

    def _say_without(self, error: Exception) -> None:
        what = str(error) if isinstance(error, EdgeAsdError) else f"{type(error).__name__}: {error}"
        progress.say(f"edge-asd: listening without a shadow: {' '.join(what.split())}")


def _side(post: Post) -> Side:
    return Side(post.origin.bundle, post.origin.section, post.rule.threshold, post.site.made_utc if post.site else "")


def _fingerprint(path: Path) -> tuple[int, ...]:
    """Changes when another file is behind the path; empty where there is none. Raises: OSError."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
