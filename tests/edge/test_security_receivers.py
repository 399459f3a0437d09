"""A broker or a web address that means harm: it gets what was meant for it, and no memory, time or secret of ours."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from common import missing, until
from edge_asd.settings import MqttSettings, WebhookSettings
from edge_asd.sinks.courier import SinkDown
from edge_asd.sinks.mqtt import Mqtt
from edge_asd.sinks.webhook import Webhook
from edge_asd.status import resident_mb
from made_up_events import STATUS, message

NEVER = threading.Event()
CONNACK, PINGRESP = b"\x20\x02\x00\x00", b"\xd0\x00"


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serves one connection after the other, in a thread; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ending = threading.Event()

        def work() -> None:
            while not ending.is_set():
                with suppress(OSError):
                    connection, _ = listening.accept()
                    connection.settimeout(10)
                    with connection, suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield int(listening.getsockname()[1])
        ending.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(15)


def subscribes(connection: socket.socket) -> bool:
    """Let it connect; whether it subscribes to anything then."""
    connection.recv(1 << 16)
    connection.sendall(CONNACK)
    connection.settimeout(1)
    heard = b""
    with suppress(OSError):
        while b"homeassistant/status" not in heard and (more := connection.recv(1 << 16)):
            heard += more
    return b"homeassistant/status" in heard


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"\x30\xff\xff\xff\x7f" + bytes(64 << 20), "sends a packet of 268435455 bytes, more than 65536"),
        ((b"\x34\x08\x00\x01a%cx" % 0) * 3, "sends a message at a QoS that nobody subscribed with"),
    ],
    ids=["a packet of 256 MB", "messages that are kept"],
)
def test_a_broker_that_sends_what_nobody_asked_for(sent: bytes, says: str) -> None:
    """Of 256 MB in memory a daemon that may have 300 would die, again and again, and be deaf meanwhile."""
    asked: list[bool] = []

    def serve(connection: socket.socket) -> None:
        asked.append(subscribes(connection))
        if len(asked) == 1:
            connection.settimeout(10)
            connection.sendall(sent)
        until(lambda: connection.recv(1 << 16) == b"")

    memory = resident_mb()
    with server(serve) as port:
        sink = Mqtt(MqttSettings(host="127.0.0.1", port=port), "pi", lambda: STATUS)
        try:
            until(lambda: says in sink.trouble, 15)
            assert "homeassistant/status" in sink.trouble
            until(lambda: len(asked) > 1, 15)
        finally:
            sink.close()
    assert asked[:2] == [True, False]  # what others publish keeps no alert from going out
    assert resident_mb() < memory + 30


@pytest.mark.parametrize(
    ("line", "apart"),
    [(b"X-More: y\r\n", 0.1), (b"HTTP/1.1 100 Continue\r\n\r\n", 0.0), (b"x", 0.1)],
    ids=["headers without end", "continue without end", "a status without end"],
)
def test_an_answer_that_never_begins_is_given_up(line: bytes, apart: float) -> None:
    first = b"HTTP/1.1 500 No\r\n" if line.startswith(b"X") else b""

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(first)
        while True:
            connection.sendall(line)
            time.sleep(apart)

    with server(serve) as port:
        sink, began = Webhook(WebhookSettings(url=f"http://127.0.0.1:{port}/", timeout=1)), time.monotonic()
        with pytest.raises(SinkDown):
            sink.deliver(message(1), NEVER)
        assert time.monotonic() - began < 5


def test_an_answer_of_headers_alone_is_bounded() -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"y" * (64 << 20))

    memory = resident_mb()
    with server(serve) as port, pytest.raises(SinkDown, match="not HTTP"):
        Webhook(WebhookSettings(url=f"http://127.0.0.1:{port}/", timeout=5)).deliver(message(1), NEVER)
    assert resident_mb() < memory + 20


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and one for elsewhere, each its own authority."""
    if not shutil.which("openssl"):
        missing("openssl")
    folder = tmp_path_factory.mktemp("papers")
    for name, whom in (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:elsewhere.example")):
        words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        words += ["-subj", f"/CN={name}", "-addext", f"subjectAltName={whom}"]
        words += ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


@pytest.mark.parametrize(
    ("shows", "trusts", "says"),
    [
        ("here", "here", ""),
        ("here", "elsewhere", "its certificate is not trusted"),
        ("elsewhere", "elsewhere", "its certificate is not trusted"),
    ],
)
def test_a_web_address_proves_who_it_is(
    papers: Path, monkeypatch: pytest.MonkeyPatch, shows: str, trusts: str, says: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(papers / f"{trusts}.crt"))
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers / f"{shows}.crt", papers / f"{shows}.key")
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as safe:
            while not b"".join(heard).endswith(b"}"):  # headers and message may come one after the other
                heard.append(safe.recv(1 << 16))
            safe.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with server(serve) as port:
        sink = Webhook(WebhookSettings(url=f"https://127.0.0.1:{port}/", timeout=5))
        if says:
            with pytest.raises(SinkDown, match=says):
                sink.deliver(message(1), NEVER)
            assert heard == []
        else:
            sink.deliver(message(1), NEVER)
            assert b"".join(heard).startswith(b"POST / ")


def test_no_older_tls_is_spoken() -> None:
    assert ssl.create_default_context().minimum_version >= ssl.TLSVersion.TLSv1_2
