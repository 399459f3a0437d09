"""One run's scores, events and status: keeps, says and tells what the listener hears."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from edge_asd import __version__, progress, status
from edge_asd.capture import Block
from edge_asd.clock import Clock, iso
from edge_asd.errors import StorageError
from edge_asd.events import Event, Stamp, Transition, anomaly, ended, fault, line, raised_line
from edge_asd.kept_sounds import SoundKeeper
from edge_asd.listener import Listener, Recorded
from edge_asd.live import Live
from edge_asd.notify import Supervisor
from edge_asd.post import Post
from edge_asd.scoring import Score
from edge_asd.sensor import SensorChange
from edge_asd.shadow_work import ShadowWork
from edge_asd.site_work import SiteWork
from edge_asd.verdict import Change, Episode

REPORT_SECONDS = 1.0  # at most one status in so long
SAY_SECONDS = 10.0  # and one to systemd

OnScore = Callable[[Score], None]
OnChange = Callable[[Transition, Event], None]
OnRecorded = Callable[[Recorded], None]


class EventLog(Protocol):
    """Where events go; it never blocks and never fails, see `keeper.Keeper`."""

    @property
    def trouble(self) -> str:
        """What is wrong with it at present; "" where nothing is."""
        ...

    @property
    def unwritten(self) -> int:
        """Events that aren't on the disk yet."""
        ...

    def put(self, transition: Transition, event: Event) -> None:
        """Take an event, or what has become of it."""
        ...


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        heard_seconds: of sound, those lost included.
        scores, alerts: how many; of alerts those of the machine.
        lost_samples: how many.
        stopped: a signal ended it, not the end of the recording.
    """

    heard_seconds: float
    scores: int
    alerts: int
    lost_samples: int
    stopped: bool


@dataclass(frozen=True)
class Ears:
    """Who is told what as it happens, in this process."""

    score: OnScore = lambda score: None
    change: OnChange = lambda transition, event: None
    recorded: OnRecorded = lambda recorded: None


class Duty:
    """From the first block to the last."""

    def __init__(
        self,
        post: Post,
        log: EventLog,
        folder: Path,
        *,
        clock: Clock,
        ears: Ears = Ears(),
        sounds: SoundKeeper | None = None,
        site: SiteWork | None = None,
        shadow: ShadowWork | None = None,
        sinks: Callable[[], Sequence[status.SinkStatus]] = tuple,
        supervisor: Supervisor | None = None,
        paced: bool = True,
        source_samples: float = 1.0,
    ) -> None:
        """Begin a run.

        Args:
            post: what listens.
            log: where events go.
            folder: for the status.
            clock: tells the time.
            ears: who is told.
            sounds: keeps the sound around alerts.
            site: commissions, where somebody asks for it.
            shadow: scores beside, where there is a bundle for it.
            sinks: how those fare who are told of events.
            supervisor: systemd.
            paced, source_samples: as `Listener` has them.
        """
        self._listener = Listener(post, paced=paced, source_samples=source_samples)
        self._log = log
        self._folder = folder
        self._clock = clock
        self._ears = ears
        self._sounds = sounds
        self._site = site
        self._shadow = shadow
        self._sinks = sinks
        self._supervisor = supervisor or Supervisor({})
        self._since = iso(clock.utc_now())
        self._alert: Event | None = None  # of the machine, that lasts
        self._faults: dict[str, Event] = {}  # of the microphone, that last
        self._last_score: float | None = None
        self._scores = self._alerts = 0
        self._windows = 0
        self._silent = False  # the status can't be written, and that was said
        self._fed = self._said = self._reported = clock.monotonic()
        self.live = Live(self._status())
        self._report()

    def take(self, block: Block) -> None:
        """Listen to one block."""
        now = self._clock.monotonic()
        if self._sounds:
            if block.lost or block.recording:
                self._sounds.forget()
            self._sounds.take(block.samples)
        scores = []
        for heard in self._listener.take(block, now):
            self._hear(heard)
            if isinstance(heard, Score):
                scores.append(heard)
        if self._shadow:
            self._shadow.take(block, scores, self._listener)
        if self._listener.windows != self._windows:
            self._windows = self._listener.windows
            self.live.show(self._listener.newest)
            self._live_on(now)
        elif block.absent or self._listener.sensor.gates:  # it knows that it is deaf, and says so
            self._live_on(now)
        if now - self._reported >= REPORT_SECONDS:
            self._report()

    def adopt(self, post: Post) -> None:
        """Go on with other settings."""
        self._listener.adopt(post)
        if self._site:
            self._site.adopt(post)
        if self._shadow:
            self._shadow.adopt(post)

    def end(self) -> None:
        """Keep what lasts as it stands, and a last status."""
        for heard in self._listener.end():
            self._hear(heard)
        if self._alert and (episode := self._listener.lasting()):
            self._put("unfinished", self._grown(self._alert, episode))
        for event in self._faults.values():
            self._put("unfinished", event)
        self._report()

    def summary(self, *, stopped: bool) -> Summary:
        """What it came to."""
        return Summary(self._listener.seconds, self._scores, self._alerts, self._listener.lost, stopped)

    def _hear(self, heard: Score | Change | SensorChange | Recorded) -> None:
        if isinstance(heard, Score):
            self._scores += 1
            self._last_score = heard.value
            self.live.take(heard, self._clock.utc_now())
            self._ears.score(heard)
            if self._site and self._site.status and self._listener.heard_well:
                self._site.take(heard, *self._listener.last(), iso(self._clock.utc_now()))
        elif isinstance(heard, Change):
            self._changed(heard)
        elif isinstance(heard, SensorChange):
            self._sensed(heard)
        else:
            self._ears.recorded(heard)

    def _changed(self, change: Change) -> None:
        """An alert of the machine is raised or over."""
        if self._alert is None:
            raised, identity = Stamp.now(self._clock), uuid.uuid4().hex
            event = anomaly(identity, change.episode, self._post.origin, raised)
            clip = self._sounds.keep(raised, identity) if self._sounds else ""
            event = msgspec.structs.replace(event, threshold=self._post.rule.threshold, clip=clip)
            self._alerts += 1
        else:
            event = self._alert
        event = self._grown(event, change.episode)
        if change.episode.ended is not None:
            event = ended(event, change.episode.ended)
        self._alert = None if change.kind == "cleared" else event
        self._put(change.kind, event)

    def _grown(self, event: Event, episode: Episode) -> Event:
        """An alert with what is known of its episode by now."""
        return msgspec.structs.replace(
            event,
            peak=episode.peak,
            peak_s=episode.peak_seconds,
            nearest=episode.nearest,
            bands=self._listener.bands,
        )

    def _sensed(self, change: SensorChange) -> None:
        """The microphone begins or ends not to hear rightly."""
        if change.kind == "raised":
            seconds = (change.seconds, self._listener.seconds)
            stamp, identity = Stamp.now(self._clock), uuid.uuid4().hex
            event = fault(identity, change.fault, change.said, self._post.origin, stamp, seconds)
            self._faults[change.fault] = event
        elif change.fault in self._faults:
            event = ended(self._faults.pop(change.fault), change.seconds)
        else:
            return
        self._put(change.kind, event)

    def _put(self, transition: Transition, event: Event) -> None:
        if transition != "unfinished":
            progress.say(raised_line(event) if transition == "raised" else f"CLEAR {line(event)}")
            self._ears.change(transition, event)
        self._log.put(transition, event)

    def _live_on(self, now: float) -> None:
        """Feed the watchdog, four times as often as it wants to hear."""
        wanted = self._supervisor.watchdog_seconds
        if wanted and now - self._fed >= wanted / 4:
            self._supervisor.alive()
            self._fed = now

    def _report(self) -> None:
        """Say how things stand; where the status can't be written that is said once, and listening goes on."""
        now = self._reported = self._clock.monotonic()
        if self._site and (post := self._site.look(self._listener.sensor.level_dbfs)):
            self._listener.adopt(post)
            if self._shadow:
                self._shadow.adopt(post)
                self._shadow.look()  # it is to know these clips of the site, too
        found = self._status()
        self.live.tell(found)
        if now - self._said >= SAY_SECONDS:
            self._supervisor.say(status.headline(found))
            self._said = now
        try:
            status.write(self._folder, found)
            self._silent = False
        except StorageError as error:
            if not self._silent:
                progress.say(f"edge-asd: listening without a status: {error}")
            self._silent = True

    @property
    def _post(self) -> Post:
        return self._listener.post

    def _status(self) -> status.Status:
        sensor, post = self._listener.sensor, self._post
        return status.Status(
            version=__version__,
            device=post.origin.device,
            pid=os.getpid(),
            bundle=post.origin.bundle,
            machine=post.origin.machine,
            section=post.origin.section,
            since=self._since,
            updated=iso(self._clock.utc_now()),
            heard_seconds=round(self._listener.seconds, 3),
            scores=self._scores,
            last_score=self._last_score,
            threshold=post.rule.threshold,
            threshold_from=post.threshold_from,
            alert=self._alert is not None,
            faults=tuple(sensor.faults),
            sensor="; ".join(event.said for event in self._faults.values()),
            gated=sensor.gates,
            rms_dbfs=_rounded(sensor.rms_dbfs),
            peak_dbfs=_rounded(sensor.peak_dbfs),
            level_dbfs=_rounded(sensor.level_dbfs),
            lost_samples=self._listener.lost,
            synchronised=self._clock.synchronised(),
            site=post.site.made_utc if post.site else "",
            commissioning=self._commissioning(),
            storage=self._log.trouble,
            unwritten=self._log.unwritten,
            sinks=tuple(self._sinks()),
            shadow=self._shadow.digest if self._shadow else "",
            resident_mb=round(status.resident_mb(), 1),
        )

    def _commissioning(self) -> status.Commissioning | None:
        found = self._site.status if self._site else None
        if found and not self._listener.heard_well:
            return msgspec.structs.replace(found, said="waits until the microphone has heard well for 10 s")
        return found


def _rounded(level: float | None) -> float | None:
    return None if level is None else round(level, 1)
