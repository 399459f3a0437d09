"""The wiring of the device: source -> stream scorer -> judge -> event store, and a status for those who ask."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Literal

from edge_asd import bundle as bundles
from edge_asd import progress, status
from edge_asd.capture import AudioSource, Block, source_of
from edge_asd.clock import Clock, SystemClock, iso
from edge_asd.config import DeviceConfig
from edge_asd.errors import ConfigError, StorageError
from edge_asd.events import Event, Origin, event_of, line, raised_line
from edge_asd.scoring import Detector, Score, StreamScorer
from edge_asd.store import FILE_NAME, EventStore
from edge_asd.thresholds import chosen
from edge_asd.verdict import AlarmRule, Change, Episode, Judge

STATUS_SECONDS = 1.0  # at most one status in so long

OnScore = Callable[[Score], None]
OnChange = Callable[[Literal["raised", "cleared"], Event], None]


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        heard_seconds: of sound, those lost included.
        scores, alerts: how many.
        lost_samples: how many.
        stopped: a signal ended it, not the end of the recording.
    """

    heard_seconds: float
    scores: int
    alerts: int
    lost_samples: int
    stopped: bool


@dataclass(frozen=True, eq=False)
class Post:
    """A listening post: what listens, for whom, and when it raises an alert."""

    detector: Detector
    origin: Origin
    rule: AlarmRule


class Listener:
    """Blocks in; scores, and what they change, out, in the order of time. Knows neither clock nor disk."""

    def __init__(self, post: Post) -> None:
        self._scorer = StreamScorer(post.detector, post.origin.section)
        self._judge = Judge(post.rule)
        self._rate = post.detector.front_end.sample_rate
        self._samples = 0
        self.lost = 0

    @property
    def seconds(self) -> float:
        """How far into the stream, what was lost included."""
        return self._samples / self._rate

    def take(self, block: Block) -> Iterator[Score | Change]:
        """One block. A gap before it ends what lasted, and nothing that touches the gap is scored."""
        if block.lost:
            change = self._judge.interrupt(self.seconds)
            self._scorer.skip(block.lost)
            self._samples += block.lost
            self.lost += block.lost
            if change:
                yield change
        for score in self._scorer.push(block.samples):
            yield score
            if change := self._judge.take(score):
                yield change
        self._samples += len(block.samples)

    def lasting(self) -> Episode | None:
        """End listening; give the episode that still lasts, as it stands."""
        change = self._judge.interrupt(self.seconds)
        return replace(change.episode, ended=None) if change else None


def run(
    config: DeviceConfig,
    *,
    clock: Clock | None = None,
    on_score: OnScore = lambda score: None,
    on_change: OnChange = lambda kind, event: None,
) -> Summary:
    """Listen until the recording ends or SIGTERM, SIGINT or SIGHUP comes.

    Args:
        config: what to listen to, and how.
        clock: the system's unless a test brings another.
        on_score: told of every score.
        on_change: told of every alert that is raised or cleared.

    Raises:
        ConfigError: the bundle doesn't have the section.
        BundleError, MissingRequirement: the bundle can't be read or run here.
        CaptureError: the source gave up. What was heard is stored.
        StorageError: the state folder can't be written, or another daemon listens with it.
    """
    with _stop_on_signal() as stop:
        post = _post(config)
        source = source_of(config.capture, post.detector.front_end.sample_rate)
        with status.alone(config.state), EventStore(config.state / FILE_NAME, keep=config.events.keep) as store:
            duty = Duty(post, store, config.state, clock=clock or SystemClock(), on_score=on_score, on_change=on_change)
            return listen(source, duty, stop)


def listen(source: AudioSource, duty: Duty, stop: threading.Event) -> Summary:
    """Hand every block of a source to the one on duty, until the source ends or `stop` is set."""
    try:
        with source:
            for block in source:
                duty.take(block)
                if stop.is_set():
                    break
    except BaseException:
        try:
            duty.end()
        except StorageError as error:  # what ended the listening matters more
            progress.say(f"edge-asd: {error}")
        raise
    duty.end()
    return duty.summary(stopped=stop.is_set())


class Duty:
    """One run's scores, events and status: stores, says and tells what the listener hears."""

    def __init__(
        self, post: Post, store: EventStore, folder: Path, *, clock: Clock, on_score: OnScore, on_change: OnChange
    ) -> None:
        self._post = post
        self._listener = Listener(post)
        self._store = store
        self._folder = folder
        self._clock = clock
        self._on_score = on_score
        self._on_change = on_change
        self._since = iso(clock.utc_now())
        self._alert: tuple[str, datetime] | None = None  # the event that lasts: its id, and when it was raised
        self._last_score: float | None = None
        self._scores = self._alerts = 0
        self._silent = False  # the status can't be written, and that was said
        self._report()

    def take(self, block: Block) -> None:
        """Listen to one block. Raises: StorageError."""
        for heard in self._listener.take(block):
            if isinstance(heard, Score):
                self._scores += 1
                self._last_score = heard.value
                self._on_score(heard)
            else:
                self._change(heard)
        if self._clock.monotonic() - self._reported >= STATUS_SECONDS:
            self._report()

    def end(self) -> None:
        """Store an alert that lasts as it stands, and a last status. Raises: StorageError."""
        episode = self._listener.lasting()
        if episode and self._alert:
            self._store.put(self._event(episode, *self._alert))
        self._report()

    def summary(self, *, stopped: bool) -> Summary:
        """What it came to."""
        return Summary(self._listener.seconds, self._scores, self._alerts, self._listener.lost, stopped)

    def _change(self, change: Change) -> None:
        if self._alert is None:
            self._alert = uuid.uuid4().hex, self._clock.utc_now()
            self._alerts += 1
        event = self._event(change.episode, *self._alert)
        if change.kind == "cleared":
            self._alert = None
        progress.say(raised_line(event) if change.kind == "raised" else f"CLEAR {line(event)}")
        self._on_change(change.kind, event)
        self._store.put(event)  # last: an alert is told though the disk is full

    def _event(self, episode: Episode, identity: str, raised: datetime) -> Event:
        return event_of(identity, episode, self._post.origin, self._post.rule.threshold, raised)

    def _report(self) -> None:
        """Write a status; where that fails it is said once, and listening goes on."""
        self._reported = self._clock.monotonic()
        try:
            status.write(self._folder, self._status())
            self._silent = False
        except StorageError as error:
            if not self._silent:
                progress.say(f"edge-asd: listening without a status: {error}")
            self._silent = True

    def _status(self) -> status.Status:
        return status.Status(
            pid=os.getpid(),
            bundle=self._post.origin.bundle,
            machine=self._post.origin.machine,
            section=self._post.origin.section,
            since=self._since,
            updated=iso(self._clock.utc_now()),
            heard_seconds=round(self._listener.seconds, 3),
            scores=self._scores,
            last_score=self._last_score,
            threshold=self._post.rule.threshold,
            alert=self._alert is not None,
            lost_samples=self._listener.lost,
            resident_mb=round(status.resident_mb(), 1),
        )


def _post(config: DeviceConfig) -> Post:
    """All that the configuration names, read and checked."""
    bundle = bundles.read(config.bundle)
    section = config.section or _only_section(config, list(bundle.manifest.sections))
    if section not in bundle.manifest.sections:
        known = ", ".join(sorted(bundle.manifest.sections))
        raise ConfigError(f"section: found {section!r}, which {config.bundle} doesn't have; it has {known}.")
    rule = AlarmRule(
        threshold=chosen(bundle.manifest.sections[section].thresholds, config.alarm.threshold),
        release=config.alarm.release,
        minimum_seconds=config.alarm.minimum_seconds,
    )
    detector = bundle.detector(threads=config.model.threads, runtime=config.model.runtime or None)
    origin = Origin(bundle.manifest.machine, section, bundle.digest)
    progress.say(f"{origin.machine} {section}: listening with bundle {origin.bundle}, threshold {rule.threshold:.4g}")
    return Post(detector, origin, rule)


def _only_section(config: DeviceConfig, sections: list[str]) -> str:
    if len(sections) > 1:
        raise ConfigError(
            f"section: {config.bundle} has {', '.join(sorted(sections))}; say which one this device hears."
        )
    return sections[0]


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM, SIGINT and SIGHUP set; what they did before they do again afterwards."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may ask for signals
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup has us go on
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, action in before.items():
            signal.signal(number, action)
