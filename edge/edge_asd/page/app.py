"""What the page and its script may ask for: routes to values. They change nothing, and no path given opens a file."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIEnvironment

import edge_asd
from edge_asd.errors import MissingRequirement, StorageError
from edge_asd.events import Event
from edge_asd.live import FLOOR_DB, FRAMES, STEP_DB, Live
from edge_asd.page.answer import Answer, json, recording, words
from edge_asd.page.guard import Guard
from edge_asd.status import Status

MOST_EVENTS = 200
SOME_EVENTS = 20
STALE_SECONDS = 60  # a status is written each second; after so long without one nobody listens any more

_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
_CLIP = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.+-]{0,199}", re.ASCII)
_OF_AN_EVENT = re.compile(r"/api/events/([0-9A-Za-z_.:-]{1,100})/(sound|picture)", re.ASCII)
_SOUNDS = ((".flac", "audio/flac"), (".wav", "audio/wav"))
_PICTURES = ((".png", "image/png"),)
_STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/static/page.css": ("page.css", "text/css; charset=utf-8"),
    "/static/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}
_OPEN = ("/static/page.css", "/static/icon.svg")  # whoever is asked for the token may see it nicely


class EventLog(Protocol):
    """The past, as the page reads it: from several threads, and while the daemon writes."""

    def newest(self, count: int) -> list[Event]:
        """The newest so many, the newest first. Raises: StorageError."""
        ...

    def event(self, id: str) -> Event | None:  # noqa: A002 - it is the event's own word for it
        """The one of that id; None where there is none, or no longer. Raises: StorageError."""
        ...


class BadQuery(Exception):
    """What stands behind the question mark can't be; its text says so to a person."""


class App:
    """The WSGI application."""

    def __init__(
        self,
        guard: Guard,
        live: Live,
        log: EventLog,
        clips: Path,
        *,
        bands_hz: Sequence[float],
        frame_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        """Read the page's own files, once and for all."""
        self._guard, self._live, self._log, self._clips, self._say = guard, live, log, clips, say
        folder = files("edge_asd.page") / "static"
        self._static = {
            path: Answer(HTTPStatus.OK, (folder / name).read_bytes(), kind) for path, (name, kind) in _STATIC.items()
        }
        self._bands = len(bands_hz)
        self._about = json(
            {
                "version": edge_asd.__version__,
                "bands_hz": [round(float(band), 2) for band in bands_hz],
                "floor_db": FLOOR_DB,
                "step_db": STEP_DB,
                "frames": FRAMES,
                "frame_seconds": frame_seconds,
            }
        )
        self._routes: dict[str, Callable[[dict[str, str]], Answer]] = {
            "/api/about": lambda _: self._about,
            "/api/status": lambda _: json(self._live.status),
            "/api/scores": self._scores,
            "/api/minutes": self._minutes,
            "/api/frames": self._frames,
            "/api/events": self._events,
            "/metrics": self._metrics,
            "/healthz": self._healthz,
        }
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        return self._answer(environ).send(environ, start_response)

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        path = environ.get("PATH_INFO", "/")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            said = "This page is only to be looked at; expected GET or HEAD."
            return words(HTTPStatus.METHOD_NOT_ALLOWED, said, (("Allow", "GET, HEAD"),))
        refusal = self._guard.refusal(environ)
        if refusal and not (refusal.status == HTTPStatus.UNAUTHORIZED and path in _OPEN):
            return refusal
        try:
            return self._found(path, environ)
        except BadQuery as bad:
            return words(HTTPStatus.BAD_REQUEST, str(bad))
        except (StorageError, MissingRequirement) as error:
            return words(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except Exception as error:  # a fault of ours; the daemon listens on, and says it once, not each second
            self._say_once(f"page: {path.split('?')[0][:60]!r}: {type(error).__name__}: {error}", type(error).__name__)
            return words(HTTPStatus.INTERNAL_SERVER_ERROR, "A fault in the program; the daemon's log names it.")

    def _found(self, path: str, environ: WSGIEnvironment) -> Answer:
        if path in self._static:
            return self._static[path]
        if path in self._routes:
            return self._routes[path](_query(environ))
        if match := _OF_AN_EVENT.fullmatch(path):
            return self._kept(match[1], match[2], environ.get("HTTP_RANGE", ""))
        return words(HTTPStatus.NOT_FOUND, "There is no such page here.")

    def _scores(self, query: dict[str, str]) -> Answer:
        told, points = self._live.points(_number(query, "since", 0))
        return json({"next": told, "points": [(round(point.utc, 2), _short(point.value)) for point in points]})

    def _minutes(self, _: dict[str, str]) -> Answer:
        return json({"minutes": [(m.utc, *map(_short, (m.least, m.mean, m.most))) for m in self._live.minutes()]})

    def _frames(self, query: dict[str, str]) -> Answer:
        told, octets = self._live.frames(_number(query, "since", 0))
        headers = (("X-Next", str(told)), ("X-Bands", str(self._bands)))
        return Answer(HTTPStatus.OK, octets, "application/octet-stream", headers)

    def _events(self, query: dict[str, str]) -> Answer:
        return json({"events": self._log.newest(min(_number(query, "count", SOME_EVENTS), MOST_EVENTS))[:MOST_EVENTS]})

    def _kept(self, identity: str, what: str, asked: str) -> Answer:
        event = self._log.event(identity)
        if event is None:
            return words(HTTPStatus.NOT_FOUND, "There is no such event, or no longer.")
        if _CLIP.fullmatch(event.clip):  # it comes from a database, which may have been written by another version
            for ending, kind in _SOUNDS if what == "sound" else _PICTURES:
                if answer := recording(self._clips / f"{event.clip}{ending}", kind, asked):
                    return answer
        return words(HTTPStatus.NOT_FOUND, f"The {what} of this event isn't kept, or no longer.")

    def _metrics(self, _: dict[str, str]) -> Answer:
        from edge_asd.sinks.metrics import render

        body, kind = render(self._live.status)
        return Answer(HTTPStatus.OK, body, kind)

    def _healthz(self, _: dict[str, str]) -> Answer:
        wrong = troubles(self._live.status, datetime.now(UTC))
        if wrong:
            return words(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(wrong))
        return words(HTTPStatus.OK, "ok")

    def _say_once(self, line: str, sort: str) -> None:
        with self._lock:
            if sort in self._said:
                return
            self._said.add(sort)
        self._say(line)


def troubles(status: Status, now: datetime) -> list[str]:
    """Why the device can't be relied on at this moment, in words; nothing where it can."""
    found = []
    age = (now - datetime.fromisoformat(status.updated)).total_seconds()
    if abs(age) > STALE_SECONDS:
        found.append(f"the newest status is {age:.0f} s old")
    if status.gated:
        found.append(f"can't hear: {status.sensor or ', '.join(status.faults)}")
    if status.storage:
        found.append(f"can't write: {status.storage}")
    return found


def _query(environ: WSGIEnvironment) -> dict[str, str]:
    try:
        return dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True, max_num_fields=8))
    except ValueError as error:
        raise BadQuery("Found a query of more than 8 parts.") from error


def _short(value: float) -> float:
    """Six digits are more than any eye sees, and half the octets."""
    return float(f"{value:.6g}")


def _number(query: dict[str, str], key: str, default: int) -> int:
    """A whole number of the query, of 15 digits at most."""
    if key not in query:
        return default
    if not _NUMBER.fullmatch(query[key]):
        raise BadQuery(f"{key}: found {query[key][:40]!r}, expected a whole number, 0 or more.")
    return int(query[key])
