"""Requests to the page: octets through the server's own parser, and whole requests to what answers them."""

from __future__ import annotations

import logging
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from http import HTTPStatus
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from wsgiref.types import StartResponse, WSGIEnvironment

from edge_asd.events import Event
from edge_asd.live import Live
from edge_asd.page import PageServer
from edge_asd.page.answer import SAFETY
from edge_asd.settings import PageSettings
from edge_asd.sinks import metrics
from fuzz import contract
from fuzz.doors import Door, folder
from made_up_events import EVENT, STATUS

TOKEN = "0123456789abcdef-token"  # noqa: S105 - of these pages alone
_MOST_PIECES = 64  # of an answer that is a file
_KNOWN = {
    HTTPStatus.OK,
    HTTPStatus.PARTIAL_CONTENT,
    HTTPStatus.SEE_OTHER,
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,  # /healthz, where what it was told is old
}
_OF_THE_SERVER = {  # what the server's own parser refuses with
    HTTPStatus.CONTINUE,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    HTTPStatus.NOT_IMPLEMENTED,
}
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) [ -~]+\r\n")


class _Log:
    """Some events, and where their sounds are."""

    def newest(self, count: int) -> list[Event]:
        return [EVENT][:count]

    def event(self, id: str) -> Event | None:  # noqa: A002 - it is the event's own word for it
        return {"a": EVENT_WITH_SOUND, "b": EVENT}.get(id)


EVENT_WITH_SOUND = Event(**{**{name: getattr(EVENT, name) for name in EVENT.__struct_fields__}, "clip": "strange"})


class _Fault(logging.Handler):
    """The server says that something was raised which nobody foresaw."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            raise record.exc_info[1]
        raise contract.Breach(record.getMessage())


_FAULT = _Fault(logging.ERROR)


class _Checked:
    """The application between the server and us: what it answers is held against what it promises."""

    def __init__(self, app: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        begun = []

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            begun.append((status, headers))
            return start_response(status, headers, *rest)

        with contract.opening_only(_clips()):
            answered = self._app(environ, start)
        [(status, headers)] = begun
        if HTTPStatus(int(status[:3])) not in _KNOWN:
            raise contract.Breach(f"answered {status}")
        if missing := set(SAFETY) - set(headers):
            raise contract.Breach(f"answered without {missing}")
        if bad := [one for header in headers for one in header if not (one.isascii() and one.isprintable())]:
            raise contract.Breach(f"answered with the headers {bad}")
        return answered


@cache
def _clips() -> Path:
    clips = folder() / "sounds"
    clips.mkdir()
    (clips / "strange.flac").write_bytes(bytes(range(256)))
    (folder() / "outside.flac").write_bytes(b"secret")
    return clips


@cache
def _pages() -> tuple[PageServer, PageServer]:
    """One on loopback for everybody, one that wants the token; their servers' threads get nothing to do."""
    token = folder() / "token"
    token.write_text(TOKEN)
    live = Live(STATUS)
    stack, pages = ExitStack(), []
    for file in (None, token):
        settings = PageSettings(listen="127.0.0.1:0", token_file=file)
        page = PageServer(settings, live, _Log(), _clips(), bands_hz=(100.0, 200.0), say=_fault)
        page._app = _Checked(page._app)
        with stack:
            pages.append(page.__enter__())
            stack.pop_all()
    metrics.render(STATUS)  # what is imported at the first request is imported now
    return pages[0], pages[1]


def _fault(line: str) -> None:
    if not line.startswith("page: http://"):
        raise contract.Breach(line)


def request(content: bytes) -> None:
    """Octets to the server, the first of which says whether the page wants a token."""
    with contract.refusals():
        said = _ask(_pages()[content[:1] == b"T"], content[1:])
        if said:
            _fit(said)


def _fit(said: bytes) -> None:
    """The octets of an answer begin with a status that we know and, at its end, with what keeps it harmless."""
    found = _STATUS_LINE.match(said)
    if not found or HTTPStatus(int(found[1])) not in _KNOWN | _OF_THE_SERVER:
        raise contract.Breach(f"answered {said[:100]!r}")
    head, end, _ = said.partition(b"\r\n\r\n")
    bare = not all(f"\r\n{name}: {value}".encode() in head for name, value in SAFETY)
    if bare and end and found[1] != b"100":
        raise contract.Breach(f"answered {head!r}")


def _ask(page: PageServer, content: bytes) -> bytes:
    """What a connection over which all this comes at once is answered; the connection is the server's own."""
    server, waiting, log = page._server, deque[Any](), logging.getLogger("waitress")
    log.addHandler(_FAULT)
    ours, theirs = socket.socketpair()
    server.add_task, server.pull_trigger = waiting.append, lambda: None
    with ours, theirs:
        theirs.setblocking(False)
        channel = server.channel_class(server, ours, ("127.0.0.1", 9), server.adj, map={})
        try:
            channel.received(content)
            while waiting:
                waiting.popleft().service()
            channel.handle_write()
            try:
                return theirs.recv(1 << 20)
            except BlockingIOError:
                return b""
        finally:
            channel.handle_close()
            log.removeHandler(_FAULT)


def answer(content: bytes) -> None:
    """A request without the server: a first octet as above, then method, path, query and headers, a line each."""
    method, path, query, *headers = (*content[1:].decode("latin-1").split("\n"), "", "")
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.file_wrapper": _pieces,
        "wsgi.input": BytesIO(),
    }
    for line in headers:
        name, colon, value = line.partition(":")
        if colon:
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value.strip()
    with contract.refusals():
        answered = _pages()[content[:1] == b"T"]._app(environ, lambda *_: lambda _: None)
        b"".join(answered)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        yield from islice(iter(lambda: file.read(4096), b""), _MOST_PIECES)


_PATHS = ("/", "/api/status", "/api/scores?since=1", "/api/events?count=3", "/metrics", "/healthz", "/static/page.js")
_SOUND = "/api/events/a/sound"


def _requests() -> list[bytes]:
    host = "Host: localhost:8765\r\n"
    requests = [f"-GET {path} HTTP/1.1\r\n{host}\r\n" for path in _PATHS]
    requests += [
        f"-GET {_SOUND} HTTP/1.1\r\n{host}Range: bytes=3-9\r\n\r\n",
        f"-HEAD {_SOUND} HTTP/1.0\r\nConnection: keep-alive\r\n{host}\r\n",
        f"-GET http://localhost/%2e%2e/x%00 HTTP/1.1\r\n{host}\r\nGET //a HTTP/1.1\r\n{host}\r\n",
        f"-POST /api/status HTTP/1.1\r\n{host}Content-Length: 3\r\n\r\nabc",
        f"-POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        f"TGET /?token={TOKEN}&a=b HTTP/1.1\r\n\r\n",
        f"TGET /api/about HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
        "TGET /metrics HTTP/1.1\r\nCookie: edge-asd-0=a; b=c\r\n\r\n",
        "TGET /\xe9?token=\xe9 HTTP/1.1\r\n\r\n",
    ]
    return [one.encode("latin-1") for one in requests]


def _answers() -> list[bytes]:
    found = []
    for path in (*_PATHS, _SOUND, "/api/events/b/picture"):
        place, _, query = path.partition("?")
        found.append(f"-GET\n{place}\n{query}\nHost: 127.0.0.1\nRange: bytes=-5".encode())
    found.append(f"TGET\n/a\ntoken={TOKEN}&b=%ff".encode())
    found.append(f"TGET\n/\n\nAuthorization: Bearer {TOKEN}\nCookie: a=b".encode())
    return [*found, b"TGET\n/\ntoken=\xe9", b"-PUT\n/"]


_WORDS = (
    *(b"Host: ", b"Range: bytes=", b"Cookie: ", b"Authorization: Bearer ", b"token=", b"since=", b"count=", b"sound"),
    *(b"/api/events/a/", b"picture", b"%2e%2e%2f", b"/../", b"%00", b"\r\n\r\n", b"HTTP/1.1", TOKEN.encode(), b"HEAD "),
)

DOORS = (
    Door(
        "page",
        "page, octets",
        request,
        _requests,
        words=(
            *(
                *_WORDS,
                b"Content-Length: ",
                b"Transfer-Encoding: chunked\r\n",
                b"Expect: 100-continue\r\n",
                b"0\r\n\r\n",
            ),
            *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"GET ", b"POST ", b"http://", b"\r\n "),
        ),
        longest=1500,
        weight=0.5,
    ),
    Door("page-request", "page, requests", answer, _answers, words=_WORDS, longest=600, weight=0.5),
)
