"""The wiring of the device: source -> listener -> events -> whoever is told, and a status for those who ask."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import msgspec

from edge_asd import left_over, progress, site, status
from edge_asd.capture import AudioSource, source_of
from edge_asd.clock import Clock, SystemClock
from edge_asd.duty import Duty, Ears, Summary
from edge_asd.errors import EdgeAsdError
from edge_asd.keeper import Keeper
from edge_asd.kept_sounds import FOLDER as SOUNDS
from edge_asd.kept_sounds import SoundKeeper
from edge_asd.notify import Supervisor
from edge_asd.outputs import Outputs
from edge_asd.post import Opened, Post
from edge_asd.settings import DeviceConfig
from edge_asd.shadow_work import ShadowWork
from edge_asd.site_work import SiteWork
from edge_asd.store import FILE_NAME

RELOADED = {"alarm", "sensor", "sinks"}  # tables that SIGHUP puts in force; the others wait for the next start


@dataclass
class Asked:
    """What signals ask for."""

    stop: threading.Event = field(default_factory=threading.Event)
    reload: threading.Event = field(default_factory=threading.Event)


def run(
    config: DeviceConfig,
    *,
    clock: Clock | None = None,
    ears: Ears = Ears(),  # noqa: B008 - immutable
    reread: Callable[[], DeviceConfig] | None = None,
    shadow: Path | None = None,
    until: Callable[[], bool] = lambda: False,
) -> Summary:
    """Listen until the recording ends, or SIGTERM or SIGINT comes.

    Args:
        config: what to listen to, and how.
        clock: the system's unless a test brings another.
        ears: who is told of what in this process.
        reread: gives the configuration anew on SIGHUP; without it that signal changes no setting.
        shadow: of a bundle that scores beside, which may or may not be there; looked for now and on SIGHUP.
        until: asked after every block; it ends when that says so.

    Raises:
        ConfigError: the bundle doesn't have the section. An output that can't be had is said, and left out.
        BundleError, MissingRequirement: the bundle or the source can't be read or run here.
        CaptureError: a sound file gave up.
        StorageError: another daemon listens with the state folder.
    """
    clock = clock or SystemClock()
    with _signals() as asked, ExitStack() as stack:
        opened = Opened(config)
        settings, known = _Settings(config, opened), site.fingerprint(config.state)
        post = settings.post()
        _say_what_listens(post)
        source = source_of(config.capture, post.detector.front_end.sample_rate)
        stack.enter_context(status.alone(config.state))
        left_over.clear(config.state)
        log = stack.enter_context(Keeper(config.state / FILE_NAME, config.events))
        front_end = post.detector.front_end
        sounds = stack.enter_context(SoundKeeper(config.state / SOUNDS, config.clips, front_end))
        beside = None
        if shadow:
            patient = config.capture.pace == "fast"
            beside = ShadowWork(shadow, config.state, post, settings.in_force, clock, patient=patient)
            stack.callback(beside.end)
        supervisor = Supervisor()
        outputs = Outputs(config, log, lambda: duty.live.status)
        duty = Duty(
            post,
            log,
            config.state,
            clock=clock,
            ears=ears,
            sounds=sounds,
            site=SiteWork(config.state, post, settings.post, clock, known),
            shadow=beside,
            sinks=outputs.status,
            supervisor=supervisor,
            paced=config.capture.pace == "realtime",
            source_samples=config.capture.rate * config.capture.channels / front_end.sample_rate,
        )
        stack.enter_context(outputs)
        if config.page:
            from edge_asd.page import PageServer

            try:
                page = PageServer(
                    config.page,
                    duty.live,
                    log,
                    config.state / SOUNDS,
                    bands_hz=front_end.band_edges[1:-1].tolist(),
                    frame_seconds=front_end.hop / front_end.sample_rate,
                )
                stack.enter_context(page)
            except (EdgeAsdError, ImportError) as error:  # an address that is taken, a token: no reason to be deaf
                progress.say(f"edge-asd: listening without a page: {error}")
        supervisor.ready(status.headline(duty.live.status))

        def between() -> None:
            if asked.reload.is_set():
                asked.reload.clear()
                if reread and (changed := settings.reread(reread)):
                    duty.adopt(settings.post())
                    outputs.change(changed.sinks)
                if beside:
                    beside.look()
            if until():
                asked.stop.set()

        summary = listen(source, duty, asked.stop, between)
        supervisor.stopping()
        return summary


def listen(
    source: AudioSource, duty: Duty, stop: threading.Event, between: Callable[[], None] = lambda: None
) -> Summary:
    """Hand every block of a source to the one on duty, until the source ends or `stop` is set."""
    try:
        with source:
            for block in source:
                duty.take(block)
                between()
                if stop.is_set():
                    break
    finally:
        duty.end()
    return duty.summary(stopped=stop.is_set())


class _Settings:
    """The configuration that is in force."""

    def __init__(self, config: DeviceConfig, opened: Opened) -> None:
        self._config = config
        self._opened = opened

    def in_force(self) -> DeviceConfig:
        return self._config

    def post(self) -> Post:
        return self._opened.post(self._config)

    def reread(self, reread: Callable[[], DeviceConfig]) -> DeviceConfig | None:
        """Take what can be taken of a new configuration, and say what can't; None where there is none."""
        try:
            new = reread()
        except EdgeAsdError as error:
            progress.say(f"edge-asd: the settings stay as they are: {error}")
            return None
        names = [field.name for field in msgspec.structs.fields(DeviceConfig)]
        changed = {name for name in names if getattr(new, name) != getattr(self._config, name)}
        if waiting := sorted(changed - RELOADED):
            progress.say(f"edge-asd: {', '.join(waiting)}: changed, and in force after the next start")
        taken = {name: getattr(new, name) for name in RELOADED}
        self._config = msgspec.structs.replace(self._config, **taken)
        progress.say(f"settings read again: {', '.join(sorted(changed & RELOADED)) or 'nothing'} changed")
        return self._config


def _say_what_listens(post: Post) -> None:
    origin, rule = post.origin, post.rule
    progress.say(
        f"{origin.machine} {origin.section}: listening with bundle {origin.bundle}, "
        f"threshold {rule.threshold:.4g} from {post.threshold_from}"
    )


@contextmanager
def _signals() -> Iterator[Asked]:
    """What SIGTERM, SIGINT and SIGHUP ask for; what they did before they do again afterwards."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may ask for signals
        yield asked
        return

    def ask(number: int, frame: FrameType | None) -> None:
        (asked.reload if number == signal.SIGHUP else asked.stop).set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield asked
    finally:
        for number, action in before.items():
            signal.signal(number, action)
