"""The page as a stranger in the network meets it: also where no line of ours answers."""

from __future__ import annotations

import ast
import inspect
import socket
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from edge_asd.live import Live
from edge_asd.page import PageServer, guard
from edge_asd.page.answer import SAFETY
from edge_asd.settings import DeviceConfig, PageSettings
from edge_asd.status import resident_mb
from edge_asd_tools.deploy import boards
from made_up_events import EVENT, STATUS

TOKEN = "0123456789abcdef-token"  # noqa: S105 - of these tests alone


class OneEvent:
    """A past of one event."""

    def newest(self, count: int) -> list[object]:
        return [EVENT][:count]

    def event(self, id: str) -> object:  # noqa: A002
        return EVENT


def page(folder: Path, **settings: object) -> PageServer:
    wanted = PageSettings(**{"listen": "127.0.0.1:0", **settings})  # type: ignore[arg-type]
    return PageServer(wanted, Live(STATUS), OneEvent(), folder, bands_hz=[1.0], say=lambda _: None)  # type: ignore[arg-type]


def with_token(folder: Path) -> Path:
    path = folder / "token"
    path.write_text(f"{TOKEN}\n")
    return path


def octets(server: PageServer, request: bytes) -> bytes:
    """What comes back to octets, until it hangs up."""
    found = b""
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(1 << 16):
            found += more
    return found


ASK = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nbroken\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", 413),
        ((b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000)[: 16 << 10], 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"HEAD / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 200),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n", 403),
        (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
        (b"GET /api/scores?since=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 200),
    ],
    ids=lambda found: str(found) if isinstance(found, int) else found[:4].decode().strip(),
)
def test_what_the_server_answers_by_itself_is_as_harmless(tmp_path: Path, request_: bytes, status: int) -> None:
    with page(tmp_path) as server:
        answer = octets(server, request_)
    if not answer.startswith(b"HTTP/1."):  # HTTP/0.9, which has neither status nor headers, isn't answered as such
        pytest.fail(f"an answer without a status: {answer[:40]!r}")
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    if request_ != b"GET /\r\n\r\n":
        assert int(lines[0].split()[1]) == status
    for name, value in SAFETY:
        assert headers[name.lower()] == value
    assert headers["server"] == "edge-asd"
    assert b"waitress" not in answer
    assert b"Traceback" not in body


def test_without_the_token_no_answer_says_anything(tmp_path: Path) -> None:
    with page(tmp_path, token_file=with_token(tmp_path)) as server:
        for path in (b"/api/status", b"/api/frames", b"/metrics", b"/healthz", b"/static/page.js", b"/api/events"):
            answer = octets(server, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert b"fan" not in answer.partition(b"\r\n\r\n")[2]


def test_nothing_is_to_be_reached_from_elsewhere_unless_it_is_asked_for() -> None:
    assert PageSettings().loopback
    [of_the_page] = [field for field in msgspec.structs.fields(DeviceConfig) if field.name == "page"]
    assert of_the_page.default is None
    for name in boards.names():  # what a first device.toml is made of
        assert boards.read(name).page.loopback, name


def test_tokens_are_compared_in_constant_time() -> None:
    """What knows a token compares it by `hmac.compare_digest` and by nothing else."""
    tree = ast.parse(inspect.getsource(guard))
    secret = {"token", "_token", "_worth", "bearer", "given"}

    def names(node: ast.AST) -> set[str]:
        found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        return found | {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}

    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and "compare_digest" in names(node.func)]
    assert len(calls) == 2
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and names(node) & secret:
            assert all(isinstance(one, ast.Lt) for one in node.ops), ast.unparse(node)  # its length, when it is read


def test_a_request_that_trickles_in_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or twenty of these would keep everybody else away from the page for ever."""
    monkeypatch.setattr("edge_asd.page.server.PATIENCE", 3)
    with page(tmp_path) as server, socket.create_connection(server.address, timeout=1) as connection:
        began = time.monotonic()
        connection.sendall(ASK)
        connection.settimeout(0.2)
        while time.monotonic() < began + 20:
            try:
                connection.sendall(b"X-More: y\r\n")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() < began + 12
        assert octets(server, ASK + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_who_asks_without_end_and_never_reads_takes_little_memory(tmp_path: Path) -> None:
    """Requests one behind the other, as many as a connection takes, on every connection there is."""
    with page(tmp_path) as server:
        memory, idle = resident_mb(), list[socket.socket]()
        try:
            for _ in range(18):
                connection = socket.create_connection(server.address, timeout=2)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                idle.append(connection)
                connection.settimeout(0.2)
                with suppress(OSError):
                    connection.sendall(b"GET /static/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
            time.sleep(1)
            assert resident_mb() < memory + 60  # 14 were seen
        finally:
            for connection in idle:
                connection.close()
