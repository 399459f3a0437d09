"""The page's server, asked as anything on the network may ask it: over a real socket, by octets where need be."""

from __future__ import annotations

import http.client
import json
import logging
import math
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from common import until
from edge_asd.errors import ConfigError, StorageError
from edge_asd.events import Band, Event
from edge_asd.front_end import FrontEnd
from edge_asd.live import FRAMES, Live
from edge_asd.page import PageServer
from edge_asd.page.app import troubles
from edge_asd.page.guard import Guard
from edge_asd.scoring import Score
from edge_asd.settings import PageSettings
from edge_asd.status import Status, resident_mb

TOKEN = "0123456789abcdef-token"  # noqa: S105 - of these tests alone
BANDS = FrontEnd().band_edges[1:-1]
SOUND = bytes(range(256)) * 40
BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
Answer = tuple[int, dict[str, str], bytes]


def a_status(**changes: Any) -> Status:
    status = Status(
        version="0.1.0",
        device="pi",
        pid=1,
        bundle="0" * 16,
        machine="fan",
        section="00",
        since="2026-03-01T12:00:00Z",
        updated=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        heard_seconds=10.0,
        scores=3,
        last_score=1.5,
        threshold=2.0,
        alert=False,
        lost_samples=0,
        resident_mb=60.0,
    )
    return msgspec.structs.replace(status, **changes)


def an_event(number: int = 0, **changes: Any) -> Event:
    event = Event(
        id=f"{number:032x}",
        kind="anomaly",
        machine="fan",
        section="00",
        bundle="0" * 16,
        began_utc="2026-03-01T12:00:00Z",
        raised_utc="2026-03-01T12:00:02Z",
        began_s=0.0,
        raised_s=2.0,
        ended_s=9.0,
        peak=3.0,
        threshold=2.0,
        bands=(Band(1200.0, 1600.0, 9.0),),
        clip=f"strange-{number}",
    )
    return msgspec.structs.replace(event, **changes)


class Log:
    """The past, in a list."""

    def __init__(self, *events: Event) -> None:
        self.events, self.asked, self.broken = list(events), list[int](), False

    def newest(self, count: int) -> list[Event]:
        if self.broken:
            raise StorageError("events.db: is full")
        self.asked.append(count)
        return self.events[:count]

    def event(self, id: str) -> Event | None:  # noqa: A002
        return next((event for event in self.events if event.id == id), None)


class Site:
    """A page that is served, and what it shows."""

    def __init__(self, clips: Path, settings: PageSettings) -> None:
        self.live, self.clips, self.said = Live(a_status()), clips, list[str]()
        self.log = Log(*(an_event(number) for number in range(300)))
        self.page = PageServer(settings, self.live, self.log, clips, bands_hz=BANDS, say=self.said.append)

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """A request as it is, path and all; `Host` as a header `host`."""
        connection = http.client.HTTPConnection(*self.page.address, timeout=10)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.putrequest(method, path, skip_host="host" in names, skip_accept_encoding=True)
            for name, value in names.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def octets(self, request: bytes) -> bytes:
        """What comes back to octets that needn't be HTTP."""
        found = b""
        with socket.create_connection(self.page.address, timeout=10) as connection, suppress(OSError):
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(1 << 16):
                found += more
        return found

    def json(self, path: str) -> Any:
        status, headers, body = self.ask(path)
        assert (status, headers["content-type"]) == (200, "application/json")
        return json.loads(body)


@contextmanager
def served(clips: Path, **settings: Any) -> Iterator[Site]:
    site = Site(clips, PageSettings(**{"listen": "127.0.0.1:0", **settings}))
    with site.page:
        yield site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "strange-0.flac").write_bytes(SOUND)
    (clips / "strange-0.png").write_bytes(b"\x89PNG")
    (clips / "strange-1.wav").write_bytes(SOUND[:100])
    (tmp_path / "secret.flac").write_bytes(b"secret")
    with served(clips) as site:
        yield site
    assert site.said == [f"page: http://127.0.0.1:{site.page.address[1]}/"]


def token_file(folder: Path, token: str = TOKEN) -> Path:
    path = folder / "token"
    path.write_text(f"{token}\n")
    return path


# ---- what it shows


def test_the_page_and_all_it_needs_is_there_and_small(site: Site) -> None:
    status, headers, page = site.ask("/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    needed = re.findall(rb'(?:src|href)="([^"]*)"', page)
    assert sorted(needed) == [b"/static/icon.svg", b"/static/page.css", b"/static/page.js"]
    parts = [page]
    for path in needed:
        status, headers, part = site.ask(path.decode())
        assert status == 200
        assert headers["content-type"].split(";")[0] in ("image/svg+xml", "text/css", "text/javascript")
        parts.append(part)
    assert sum(map(len, parts)) < 40_000
    assert not re.search(rb"innerHTML|insertAdjacent|document\.write|\beval\b| style=| on\w+=", b"".join(parts))


def test_every_answer_is_harmless_to_a_browser(site: Site) -> None:
    for path in ("/", "/static/page.js", "/api/status", "/api/frames", f"/api/events/{0:032x}/sound", "/nothing"):
        _, headers, _ = site.ask(path)
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["server"] == "edge-asd"


def test_status_is_the_newest(site: Site) -> None:
    site.live.tell(a_status(alert=True, device="<b>"))
    found = site.json("/api/status")
    assert (found["alert"], found["device"], found["threshold"]) == (True, "<b>", 2.0)


def test_scores_come_once(site: Site) -> None:
    for index in range(5):
        score = Score(seconds=float(index), value=index / 3, nearest="")
        site.live.take(score, BEGAN + timedelta(seconds=0.256 * index))
    found = site.json("/api/scores")
    assert found["next"] == 5
    assert found["points"][1] == [round(BEGAN.timestamp() + 0.256, 2), 0.333333]
    assert len(site.json("/api/scores?since=3")["points"]) == 2
    assert site.json("/api/scores?since=5") == {"next": 5, "points": []}
    assert site.json("/api/scores?since=999999999999999") == {"next": 5, "points": []}


def test_a_score_that_is_no_number_is_still_json(site: Site) -> None:
    site.live.take(Score(seconds=0.0, value=math.nan, nearest=""), BEGAN)
    assert site.json("/api/scores")["points"][0][1] is None


def test_minutes_are_those_that_are_over(site: Site) -> None:
    for second, value in ((0, 1.0), (30, 3.0), (60, 9.0)):
        site.live.take(Score(seconds=0.0, value=value, nearest=""), BEGAN + timedelta(seconds=second))
    assert site.json("/api/minutes") == {"minutes": [[BEGAN.timestamp(), 1.0, 2.0, 3.0]]}


def test_frames_are_octets_low_bands_first(site: Site) -> None:
    site.live.show(np.stack([np.linspace(-80, -16.5, 128), np.full(128, 0.0)]).astype(np.float32))
    status, headers, body = site.ask("/api/frames")
    assert (status, headers["x-next"], headers["x-bands"]) == (200, "2", "128")
    assert body == bytes(range(128)) + bytes([160]) * 128
    assert site.ask("/api/frames?since=1")[2] == bytes([160]) * 128
    assert site.ask("/api/frames?since=7")[1]["x-next"] == "2"


def test_the_bands_are_slaneys(site: Site) -> None:
    about = site.json("/api/about")
    bands = about["bands_hz"]
    assert (len(bands), about["floor_db"], about["step_db"], about["frames"]) == (128, -80.0, 0.5, FRAMES)
    assert about["frame_seconds"] == 0.032
    assert all(low < high for low, high in pairwise(bands))
    for band in (0, 17, 60, 127):  # the FFT bin in which a filter is largest is the one nearest to where it peaks
        loudest = int(np.argmax(FrontEnd().mel_filters[:, band])) * 16000 / 1024
        assert abs(loudest - bands[band]) <= 16000 / 1024


def test_events_are_the_newest_and_at_most_two_hundred(site: Site) -> None:
    found = site.json("/api/events")["events"]
    assert len(found) == 20
    assert found[0]["id"] == an_event(0).id
    assert found[0]["bands"] == [{"low_hz": 1200.0, "high_hz": 1600.0, "deviation_db": 9.0}]
    assert len(site.json("/api/events?count=3")["events"]) == 3
    assert len(site.json("/api/events?count=100000000")["events"]) == 200
    assert max(site.log.asked) == 200


def test_a_database_that_fails_is_said_and_nothing_else_fails(site: Site) -> None:
    site.log.broken = True
    status, _, said = site.ask("/api/events")
    assert (status, said) == (503, b"events.db: is full\n")
    assert site.ask("/api/status")[0] == 200


def test_prometheus_gets_its_figures(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = ModuleType("edge_asd.sinks.metrics")
    made_up.__dict__["render"] = lambda status: (f"score {status.last_score}\n".encode(), "text/plain; version=0.0.4")
    package = ModuleType("edge_asd.sinks")
    package.__dict__["metrics"] = made_up
    monkeypatch.setitem(sys.modules, "edge_asd.sinks", package)
    monkeypatch.setitem(sys.modules, "edge_asd.sinks.metrics", made_up)
    status, headers, body = site.ask("/metrics")
    assert (status, headers["content-type"], body) == (200, "text/plain; version=0.0.4", b"score 1.5\n")


def test_health_is_a_word_or_a_reason(site: Site) -> None:
    assert site.ask("/healthz")[::2] == (200, b"ok\n")
    site.live.tell(a_status(gated=True, sensor="it hears nothing"))
    assert site.ask("/healthz")[::2] == (503, b"can't hear: it hears nothing\n")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, []),
        ({"updated": "2026-03-01T11:58:00Z"}, ["the newest status is 120 s old"]),
        ({"gated": True, "faults": ("silent", "level")}, ["can't hear: silent, level"]),
        ({"storage": "the disk is full"}, ["can't write: the disk is full"]),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], reason: list[str]) -> None:
    assert troubles(a_status(**{"updated": "2026-03-01T12:00:00Z", **changes}), BEGAN) == reason


def test_a_fault_of_ours_is_said_once(tmp_path: Path) -> None:
    def broken(count: int) -> list[Event]:
        raise KeyError("surprise")

    with served(tmp_path) as site:
        site.log.newest = broken  # type: ignore[method-assign]
        for _ in range(5):
            status, _, body = site.ask("/api/events")
            assert status == 500
            assert b"surprise" not in body
        assert site.ask("/api/status")[0] == 200
        assert site.said[1:] == ["page: '/api/events': KeyError: 'surprise'"]


# ---- what may be asked


@pytest.mark.parametrize(
    "query",
    ["since=x", "since=-1", "since=", "since=1.5", "since=1e3", "since=1234567890123456", "since=%D9%A1", "since=0x10"],
)
def test_a_number_that_is_none_is_refused_in_words(site: Site, query: str) -> None:
    for path in ("scores", "frames"):
        status, _, said = site.ask(f"/api/{path}?{query}")
        assert status == 400
        assert said.startswith(b"since: found")
        assert b"expected a whole number" in said


def test_a_query_has_few_parts(site: Site) -> None:
    status, _, said = site.ask("/api/events?" + "&".join(f"a{n}=1" for n in range(50)))
    assert (status, said) == (400, b"Found a query of more than 8 parts.\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "NONSENSE"])
def test_it_is_only_to_be_looked_at(site: Site, method: str) -> None:
    status, headers, _ = site.ask("/api/status", method=method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_the_body(site: Site) -> None:
    for path in ("/", "/api/about", f"/api/events/{0:032x}/sound", "/nothing"):
        status, headers, body = site.ask(path, method="HEAD")
        got = site.ask(path)
        assert (status, headers["content-length"], body) == (got[0], str(len(got[2])), b"")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/static/",
        "/static/server.py",
        "/static/index.html",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/page.js%00.png",
        "//static/page.js/../../../../etc/passwd",
        "/api/events/",
        f"/api/events/{0:032x}",
        f"/api/events/{0:032x}/sound/",
        f"/api/events/{0:032x}/secret",
        "/api/events/../sound",
        "/api/events/%2e%2e/sound",
        "/api/events/..%2f..%2fsecret/sound",
        f"/api/events/{'a' * 5000}/sound",
        f"/api/events/{0:032x}%0a/sound",
    ],
)
def test_no_path_opens_what_it_should_not(site: Site, path: str) -> None:
    status, _, body = site.ask(path)
    assert status == 404
    assert b"secret" not in body
    assert b"import" not in body


@pytest.mark.parametrize(
    "clip", ["../secret", "/etc/hostname", "..", "", ".hidden", "a/b", "a\\b", "a\0b", "a\n", "x" * 300, "é", "link"]
)
def test_no_name_of_a_clip_leads_out_of_its_folder(site: Site, clip: str) -> None:
    (site.clips / "link.flac").symlink_to(site.clips.parent / "secret.flac")
    site.log.events.insert(0, an_event(999, clip=clip))
    for what in ("sound", "picture"):
        status, _, said = site.ask(f"/api/events/{999:032x}/{what}")
        assert (status, said) == (404, f"The {what} of this event isn't kept, or no longer.\n".encode())


def test_what_is_no_file_is_no_sound(site: Site) -> None:
    (site.clips / "strange-7.flac").mkdir()
    os.mkfifo(site.clips / "strange-8.flac")
    for number in (7, 8):
        assert site.ask(f"/api/events/{number:032x}/sound")[0] == 404


def test_octets_that_are_no_http_break_nothing(site: Site) -> None:
    for octets in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"\0" * 1000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: \xff\xfe\r\n\r\n",
    ):
        assert not site.octets(octets).startswith(b"HTTP/1.1 5")
    assert site.ask("/api/status")[0] == 200


@pytest.mark.parametrize("line", ["GET http://[ HTTP/1.1", "GET / HTTP/1.1\r\nContent-Length: " + "1" * 5000])
def test_what_only_a_library_can_not_read_is_a_bad_request(site: Site, line: str, caplog: Any) -> None:
    assert site.octets(f"{line}\r\nHost: localhost\r\n\r\n".encode()).startswith(b"HTTP/1.1 400 ")
    assert not caplog.records, "a traceback for each such request would fill the log"


# ---- sounds and pictures


def test_a_sound_and_its_picture(site: Site) -> None:
    status, headers, body = site.ask(f"/api/events/{0:032x}/sound")
    assert (status, headers["content-type"], headers["accept-ranges"]) == (200, "audio/flac", "bytes")
    assert headers["content-disposition"] == 'inline; filename="strange-0.flac"'
    assert body == SOUND
    assert site.ask(f"/api/events/{1:032x}/sound")[1]["content-type"] == "audio/wav"
    status, headers, body = site.ask(f"/api/events/{0:032x}/picture")
    assert (status, headers["content-type"], body) == (200, "image/png", b"\x89PNG")


def test_a_sound_that_is_gone_is_said_to_be(site: Site) -> None:
    assert site.ask(f"/api/events/{2:032x}/sound")[::2] == (
        404,
        b"The sound of this event isn't kept, or no longer.\n",
    )
    assert site.ask("/api/events/no-such-one/sound")[::2] == (404, b"There is no such event, or no longer.\n")


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-", 0, 10240),
        ("bytes=0-1", 0, 2),
        ("bytes=100-199", 100, 200),
        ("bytes=10000-99999", 10000, 10240),
        ("bytes=-100", 10140, 10240),
        ("bytes=-99999", 0, 10240),
    ],
)
def test_a_phone_gets_the_stretch_it_asks_for(site: Site, asked: str, begin: int, end: int) -> None:
    status, headers, body = site.ask(f"/api/events/{0:032x}/sound", range=asked)
    assert status == 206
    assert headers["content-range"] == f"bytes {begin}-{end - 1}/10240"
    assert headers["content-length"] == str(end - begin)
    assert body == SOUND[begin:end]


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_a_stretch_that_is_not_there_is_refused(site: Site, asked: str) -> None:
    status, headers, _ = site.ask(f"/api/events/{0:032x}/sound", range=asked)
    assert (status, headers["content-range"]) == (416, "bytes */10240")


@pytest.mark.parametrize("asked", ["bytes=-", "bytes=5-2", "bytes=0-1,5-6", "lines=1-2", "bytes=a-b", "", "bytes=1"])
def test_a_range_that_says_nothing_gets_all(site: Site, asked: str) -> None:
    status, _, body = site.ask(f"/api/events/{0:032x}/sound", range=asked)
    assert (status, body) == (200, SOUND)


def test_no_folder_of_clips_is_no_fault(tmp_path: Path) -> None:
    with served(tmp_path / "nothing") as site:
        assert site.ask(f"/api/events/{0:032x}/sound")[0] == 404


# ---- who may look


@pytest.mark.parametrize("host", ["localhost", "localhost:8765", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:80"])
def test_loopback_is_asked_for_by_its_names(site: Site, host: str) -> None:
    assert site.ask("/api/status", host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::2]", "a"])
def test_a_name_from_elsewhere_does_not_lead_here(site: Site, host: str) -> None:
    for path in ("/", "/api/status", "/static/page.js", "/healthz"):
        assert site.ask(path, host=host)[0] == 403


def test_no_name_at_all_does_not_lead_here(site: Site) -> None:
    assert site.octets(b"GET /api/status HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 403 ")


@pytest.fixture(params=["127.0.0.1:0", "0.0.0.0:0"])
def locked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with served(tmp_path, listen=request.param, token_file=token_file(tmp_path)) as site:
        yield site


def test_without_the_token_nothing_is_shown(locked: Site) -> None:
    for path in ("/", "/static/page.js", "/nothing"):
        status, headers, body = locked.ask(path)
        assert (status, headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert b'name="token"' in body
    for path in ("/api/status", "/metrics", "/healthz", f"/api/events/{0:032x}/sound"):
        status, headers, body = locked.ask(path)
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="edge-asd"')
        assert b"<" not in body
    assert locked.ask("/static/page.css")[0] == 200  # what the form looks like is no secret


def test_a_program_shows_the_token(locked: Site) -> None:
    assert locked.ask("/api/status", authorization=f"Bearer {TOKEN}")[0] == 200
    assert locked.ask("/api/status", authorization=f"bearer  {TOKEN} ")[0] == 200
    for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"):
        assert locked.ask("/api/status", authorization=wrong)[0] == 401


def test_a_person_gives_it_once(locked: Site) -> None:
    status, headers, _ = locked.ask(f"/?token={TOKEN}&count=5")
    assert (status, headers["location"]) == (303, "/?count=5")
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert attributes == ["Path=/", "Max-Age=2592000", "HttpOnly", "SameSite=Strict"]
    assert TOKEN not in headers["set-cookie"]
    assert locked.ask("/", cookie=f"other=1; {cookie}")[0] == 200
    assert locked.ask("/api/status", cookie=cookie)[0] == 200
    for wrong in (cookie + "0", cookie[:-1], f"x{cookie}", cookie.partition("=")[0], f"a={TOKEN}", ";;=;"):
        assert locked.ask("/api/status", cookie=wrong)[0] == 401


@pytest.mark.parametrize("path", ["//evil.example/", "/%2fevil.example", "/%5cevil.example", "/%0d%0aSet-Cookie:a=b"])
def test_the_token_leads_nowhere_else(locked: Site, path: str) -> None:
    status, headers, _ = locked.ask(f"{path}?token={TOKEN}")
    assert status == 303
    assert re.match(r"/[^/\\]", headers["location"])
    assert headers["set-cookie"].startswith("edge-asd-")


def test_the_cookie_outlives_the_daemon_but_not_the_token(tmp_path: Path) -> None:
    with served(tmp_path, token_file=token_file(tmp_path)) as site:
        cookie = site.ask(f"/?token={TOKEN}")[1]["set-cookie"].partition(";")[0]
    with served(tmp_path, token_file=token_file(tmp_path)) as site:
        assert site.ask("/api/status", cookie=cookie)[0] == 200
    with served(tmp_path, token_file=token_file(tmp_path, "another-" + TOKEN)) as site:
        for _ in range(20):  # a page that is still open asks each second, and must not lock its reader out
            assert site.ask("/api/status", cookie=cookie)[0] == 401
        assert site.ask(f"/?token=another-{TOKEN}")[0] == 303


def test_a_token_with_letters_of_any_language(tmp_path: Path) -> None:
    token = "schlüsselbund-für-alle"  # noqa: S105 - of this test alone
    with served(tmp_path, token_file=token_file(tmp_path, token)) as site:
        assert site.ask("/?token=schl%C3%BCsselbund-f%C3%BCr-alle")[0] == 303
        assert site.ask("/", authorization=f"Bearer {token}".encode().decode("latin-1"))[0] == 200


def test_guessing_ends_after_ten(locked: Site) -> None:
    cookie = locked.ask(f"/?token={TOKEN}")[1]["set-cookie"].partition(";")[0]
    assert [locked.ask(f"/?token=wrong{n}")[0] for n in range(10)] == [401] * 10
    status, headers, said = locked.ask("/?token=wrong")
    assert status == 429
    assert 1 <= int(headers["retry-after"]) <= 60
    assert said.startswith(b"There were 10 wrong tokens within a minute")
    assert locked.ask("/api/status", authorization=f"Bearer {TOKEN}")[0] == 429
    assert locked.ask("/api/status", cookie=cookie)[0] == 200  # who was let in before looks on
    assert locked.ask("/")[0] == 401


def test_guessing_is_forgiven_after_a_minute_and_counted_by_address(tmp_path: Path) -> None:
    now = [0.0]
    guard = Guard(PageSettings(token_file=token_file(tmp_path)), now=lambda: now[0])

    def status(token: str, address: str = "10.0.0.1") -> int:
        environ = {"HTTP_HOST": "localhost", "REMOTE_ADDR": address, "HTTP_AUTHORIZATION": f"Bearer {token}"}
        refusal = guard.refusal(environ)
        return 200 if refusal is None else refusal.status.value

    assert [status("wrong") for _ in range(12)] == [401] * 10 + [429] * 2
    assert status(TOKEN) == 429
    assert status(TOKEN, "10.0.0.2") == 200
    now[0] = 59.9
    assert status(TOKEN) == 429
    now[0] = 60.0
    assert status(TOKEN) == 200
    for number in range(1000):
        status("wrong", f"10.1.{number // 256}.{number % 256}")
    assert len(guard._wrong) <= 256


@pytest.mark.parametrize("token", ["short", "15-characters-x"])
def test_a_short_token_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(ConfigError, match=f"found {len(token)} characters, expected a token of at least 16"):
        Site(tmp_path, PageSettings(token_file=token_file(tmp_path, token)))


def test_a_token_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        Site(tmp_path, PageSettings(listen="0.0.0.0:0", token_file=tmp_path / "none"))


# ---- beginning, crowds and the end


def test_a_port_that_is_taken_is_refused(site: Site, tmp_path: Path) -> None:
    taken = f"127.0.0.1:{site.page.address[1]}"
    with (
        pytest.raises(ConfigError, match=f"page.listen: can't listen at {taken} .*in use"),
        served(tmp_path, listen=taken),
    ):
        pass


@pytest.mark.parametrize("listen", ["192.0.2.1:0", "no-such-host.invalid:0"])
def test_an_address_of_somebody_else_is_refused(tmp_path: Path, listen: str) -> None:
    with (
        pytest.raises(ConfigError, match=r"page\.listen: can't listen at"),
        served(tmp_path, listen=listen, token_file=token_file(tmp_path)),
    ):
        pass


def test_localhost_is_one_address(tmp_path: Path) -> None:
    with served(tmp_path, listen="localhost:0") as site:
        assert site.page.address[0] in ("127.0.0.1", "::1")
        assert site.ask("/api/status")[0] == 200


def test_the_port_is_free_again_at_once_and_no_thread_stays(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with served(tmp_path) as site:
        port = site.page.address[1]
        with socket.create_connection(site.page.address):  # one that is still open, and says nothing
            began = time.monotonic()
            site.page.__exit__(None, None, None)
            assert time.monotonic() - began < 5
    until(lambda: set(threading.enumerate()) <= before)  # waitress takes leave of a thread before it ends
    with served(tmp_path, listen=f"127.0.0.1:{port}") as again:
        assert again.ask("/api/status")[0] == 200


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_fifty_at_once_are_served_with_two_threads(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    class Watch:
        most_threads: ClassVar[int] = 0

    def look(_: int) -> list[int]:
        found = []
        for path in ("/", "/api/scores", "/api/frames", "/api/events?count=200", f"/api/events/{0:032x}/sound"):
            found.append(site.ask(path)[0])
            ours = [one for one in threading.enumerate() if one.name.startswith(("page", "waitress"))]
            Watch.most_threads = max(Watch.most_threads, len(ours))
        return found

    for index in range(3600):
        site.live.take(Score(seconds=0.0, value=float(index), nearest=""), BEGAN)
    site.live.show(np.zeros((FRAMES, 128), np.float32))
    with caplog.at_level(logging.DEBUG), ThreadPoolExecutor(50) as crowd:
        list(crowd.map(look, range(50)))
        files, memory = open_files(), resident_mb()
        assert all(found == [200] * 5 for found in crowd.map(look, range(200)))
    assert Watch.most_threads <= 3 + 1  # the loop and its two, and whoever of a test before is about to end
    assert open_files() <= files + 30
    assert resident_mb() < memory + 30
    assert not [record for record in caplog.records if record.name.startswith("waitress")]


def test_who_does_not_read_holds_no_thread(site: Site) -> None:
    (site.clips / "strange-3.flac").write_bytes(bytes(30_000_000))
    memory, idle = resident_mb(), list[socket.socket]()
    try:
        for _ in range(6):
            connection = socket.create_connection(site.page.address)
            connection.sendall(f"GET /api/events/{3:032x}/sound HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            idle.append(connection)
        for _ in range(20):
            assert site.ask("/api/status")[0] == 200
        assert resident_mb() < memory + 20
    finally:
        for connection in idle:
            connection.close()


def test_who_says_nothing_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asd.page.server.PATIENCE", 3)
    with served(tmp_path) as site:
        silent = [socket.create_connection(site.page.address, timeout=20) for _ in range(40)]
        try:
            waited: Callable[[], Answer] = lambda: site.ask("/api/status")  # noqa: E731
            assert waited()[0] == 200  # after those who came first were hung up on
        finally:
            for connection in silent:
                connection.close()
