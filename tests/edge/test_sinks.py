"""The courier, with a log in memory and receivers that follow a script; the file and the web address as they are."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from common import free_port, until
from edge_asd.errors import ConfigError, MissingRequirement, StorageError
from edge_asd.events import Message
from edge_asd.keeper import Keeper
from edge_asd.outputs import Outputs
from edge_asd.settings import (
    CaptureSettings,
    DeviceConfig,
    EventSettings,
    JsonLinesSettings,
    MqttSettings,
    SinkSettings,
    WebhookSettings,
)
from edge_asd.sinks import Courier, Refused, SinkDown, open_sink
from edge_asd.sinks.json_lines_file import JsonLinesFile, rotated
from edge_asd.sinks.webhook import LARGEST_ANSWER, Webhook
from edge_asd.status import Status
from made_up_events import STATUS, message

NEVER = threading.Event()


def status() -> Status:
    return STATUS


class FakeLog:
    """As the real one behaves, in memory; `broken` makes all that touches its disk fail."""

    def __init__(self, count: int = 0) -> None:
        self._news = threading.Condition()
        self.messages = [message(number) for number in range(1, count + 1)]
        self.cursors: dict[str, int] = {}
        self.dropped = 0
        self.broken = False
        self.failures: list[str] = []  # of single calls to come

    def put(self, *more: Message) -> None:
        with self._news:
            self.messages += more
            self._news.notify_all()

    def _touch(self, what: str) -> None:
        if self.broken or what in self.failures:
            if what in self.failures:
                self.failures.remove(what)
            raise StorageError("events.sqlite: can't be used (disk full); free space.")

    def after(self, sequence: int, count: int) -> list[Message]:
        self._touch("after")
        return [one for one in self.messages if one.sequence > sequence][:count]

    def cursor(self, sink: str) -> int:
        self._touch("cursor")
        return self.cursors.get(sink, 0)

    def advance(self, sink: str, sequence: int) -> None:
        self._touch("advance")
        self.cursors[sink] = sequence

    def waiting(self, sink: str) -> int:
        self._touch("waiting")
        return sum(one.sequence > self.cursors.get(sink, 0) for one in self.messages)

    def missed(self, sink: str) -> int:
        self._touch("missed")
        return self.dropped

    def wait_for_message(self, after: int, timeout: float) -> bool:
        with self._news:
            return self._news.wait_for(lambda: any(one.sequence > after for one in self.messages), timeout)


class Scripted:
    """A receiver that answers each attempt with the next of its script, and takes everything after it."""

    name = "scripted"

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.attempts: list[int] = []
        self.taken: list[int] = []
        self.closed = False
        self.trouble = ""

    def deliver(self, message: Message, stop: threading.Event) -> None:
        self.attempts.append(message.sequence)
        if self.script and (answer := self.script.pop(0)):
            raise answer
        self.taken.append(message.sequence)

    def close(self) -> None:
        self.closed = True


def test_all_messages_go_out_in_order_and_the_log_knows_it() -> None:
    log, sink, said = FakeLog(20), Scripted(), []
    courier = Courier(sink, log, say=said.append)
    until(lambda: log.cursors.get("scripted") == 20)
    log.put(message(21), message(25))
    until(lambda: log.cursors.get("scripted") == 25)
    courier.close()
    assert sink.taken == [*range(1, 22), 25]
    assert sink.closed
    assert not said
    assert (courier.status.waiting, courier.status.missed, courier.status.trouble) == (0, 0, "")


def test_an_outage_is_said_once_the_pauses_grow_and_its_end_is_said_once() -> None:
    log, sink = FakeLog(12), Scripted(*[SinkDown("nothing listens there")] * 12)
    said: list[str] = []
    pauses: list[float] = []
    troubles: list[str] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        until(lambda: courier_of)
        troubles.append(courier_of[0].status.trouble)

    courier_of: list[Courier] = []
    courier_of.append(Courier(sink, log, say=said.append, wait=wait))
    until(lambda: len(said) == 2)
    courier_of[0].close()
    assert sink.taken == list(range(1, 13))
    assert sink.attempts == [1] * 12 + list(range(1, 13))
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert set(troubles) == {"nothing listens there"}
    assert "nothing listens there" in said[0]
    assert "again, 12 messages went out" in said[1]
    assert courier_of[0].status.trouble == ""


def test_a_sink_may_ask_to_be_asked_again_soon() -> None:
    pauses: list[float] = []
    log, sink = FakeLog(1), Scripted(*[SinkDown("away", again_after=1.0)] * 5)
    courier = Courier(sink, log, say=lambda _: None, wait=pauses.append)
    until(lambda: sink.taken)
    courier.close()
    assert pauses == [1.0] * 5


def test_another_reason_is_said_and_an_unforeseen_one_ends_nothing() -> None:
    log, said = FakeLog(2), list[str]()
    sink = Scripted(SinkDown("one"), SinkDown("two"), SinkDown("one"), ZeroDivisionError("oops"))
    courier = Courier(sink, log, say=said.append, wait=lambda _: None)
    until(lambda: len(said) == 4)
    courier.close()
    assert ["one" in said[0], "two" in said[1], "oops" in said[2]] == [True] * 3
    assert sink.taken == [1, 2]


def test_what_is_refused_for_good_is_passed_over_and_counted() -> None:
    log, said = FakeLog(3), list[str]()
    sink = Scripted(None, Refused("answered 400"))
    log.dropped = 5
    courier = Courier(sink, log, say=said.append)
    until(lambda: log.cursors.get("scripted") == 3)
    courier.close()
    assert sink.taken == [1, 3]
    assert courier.status.missed == 6
    assert len(said) == 1
    assert "message 2" in said[0]
    assert "answered 400" in said[0]


def test_a_full_disk_is_waited_for_and_nothing_is_sent_twice() -> None:
    log, sink, said = FakeLog(5), Scripted(), list[str]()
    log.failures = ["advance", "advance", "after", "cursor", "advance", "waiting", "missed"]
    courier = Courier(sink, log, say=said.append, wait=lambda _: None)
    until(lambda: log.cursors.get("scripted") == 5)
    until(lambda: len(said) == 2)
    courier.close()
    assert sink.taken == [1, 2, 3, 4, 5], "what the log can't be told of must not go out again"
    assert "disk full" in said[0]


def test_close_ends_a_long_pause_and_leaves_the_rest_for_the_next_run() -> None:
    log, sink = FakeLog(3), Scripted(*[SinkDown("away")] * 99)
    courier = Courier(sink, log, say=lambda _: None)
    until(lambda: len(sink.attempts) == 2)  # in a pause of 2 s now
    began = time.monotonic()
    courier.close(patience=5)
    assert time.monotonic() - began < 1
    assert courier.status.waiting == 3
    assert sink.closed


def test_close_lets_what_waits_go_out_first() -> None:
    log, sink = FakeLog(), Scripted()
    courier = Courier(sink, log)
    log.put(*(message(number) for number in range(1, 50)))
    courier.close(patience=5)
    assert len(sink.taken) == 49


def test_close_does_not_wait_for_a_receiver_that_hangs() -> None:
    class Hanging(Scripted):
        def deliver(self, message: Message, stop: threading.Event) -> None:
            stop.wait(60)
            raise SinkDown("stopping")

    sink, said = Hanging(), list[str]()
    courier = Courier(sink, FakeLog(1), say=said.append)
    began = time.monotonic()
    courier.close(patience=0.1)
    assert time.monotonic() - began < 2
    assert sink.closed
    assert not said


def test_what_a_sink_knows_of_its_connection_is_shown_and_if_it_lasts_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_asd.sinks.courier.LASTING_SECONDS", 2.0)
    monkeypatch.setattr("edge_asd.sinks.courier.IDLE_SECONDS", 0.05)
    sink, said = Scripted(), list[str]()
    sink.trouble = "wrong password"
    courier = Courier(sink, FakeLog(), say=said.append)
    until(lambda: courier.status.trouble == "wrong password")
    assert not said
    until(lambda: said)
    sink.trouble = ""
    until(lambda: len(said) == 2)
    assert courier.status.trouble == ""
    sink.trouble = "a moment"
    until(lambda: courier.status.trouble)
    sink.trouble = ""
    until(lambda: not courier.status.trouble)
    courier.close()
    assert said == ["scripted: wrong password; what waits for it is kept, and tried again.", "scripted: works again."]


def test_a_log_that_was_begun_anew_is_followed() -> None:
    log, sink = FakeLog(5), Scripted()
    courier = Courier(sink, log)
    until(lambda: log.cursors.get("scripted") == 5)
    log.messages, log.cursors = [], {}
    log.put(message(1, said="anew"))
    until(lambda: sink.taken == [1, 2, 3, 4, 5, 1])
    courier.close()


# The file.


def lines(path: Path) -> list[int]:
    return [json.loads(line)["sequence"] for line in path.read_text().splitlines()]


def test_a_line_holds_the_message(tmp_path: Path) -> None:
    sink = JsonLinesFile(JsonLinesSettings(path=tmp_path / "events.jsonl"))
    sink.deliver(message(7), NEVER)
    sink.close()
    [line] = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert line.startswith(b'{"sequence":7,"transition":"raised","event":{"id":"e7",')
    assert msgspec.json.decode(line, type=Message) == message(7)


def test_a_line_that_a_power_cut_tore_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"sequence":1}\n{"sequ')
    sink = JsonLinesFile(JsonLinesSettings(path=path))
    sink.deliver(message(2), NEVER)
    sink.close()
    first, torn, second = path.read_text().splitlines()
    assert (first, torn) == ('{"sequence":1}', '{"sequ')
    assert json.loads(second)["sequence"] == 2


def test_what_was_written_before_a_kill_is_not_written_again(tmp_path: Path) -> None:
    """The note that it had been told was lost."""
    path = tmp_path / "events.jsonl"
    for numbers in ((1, 2), (2, 3, 4), (4,)):
        sink = JsonLinesFile(JsonLinesSettings(path=path))
        for number in numbers:
            sink.deliver(message(number), NEVER)
        sink.close()
    assert lines(path) == [1, 2, 3, 4]


def test_the_file_begins_anew_when_it_is_full_and_one_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonLinesFile(JsonLinesSettings(path=path, keep_mb=1))
    for number in range(1, 12):
        sink.deliver(message(number, said="x" * 200_000), NEVER)
    sink.close()
    assert lines(rotated(path)) == [5, 6, 7, 8]
    assert lines(path) == [9, 10, 11]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1"]
    assert max(one.stat().st_size for one in tmp_path.iterdir()) <= 1_000_000


def test_rotation_by_somebody_else_and_deletion_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonLinesFile(JsonLinesSettings(path=path))
    sink.deliver(message(1), NEVER)
    path.rename(tmp_path / "theirs")
    sink.deliver(message(2), NEVER)
    assert (lines(tmp_path / "theirs"), lines(path)) == ([1], [2])
    path.unlink()
    sink.deliver(message(3), NEVER)
    sink.close()
    assert lines(path) == [3]


def test_a_folder_that_is_gone_is_said_and_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    path = folder / "events.jsonl"
    sink = JsonLinesFile(JsonLinesSettings(path=path))
    sink.deliver(message(1), NEVER)
    path.unlink()
    folder.rmdir()
    for _ in range(2):
        with pytest.raises(SinkDown, match="No such file or directory"):
            sink.deliver(message(2), NEVER)
    assert not folder.exists()
    folder.mkdir()
    sink.deliver(message(2), NEVER)
    sink.close()
    assert lines(path) == [2]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonLinesFile(JsonLinesSettings(path=path))
    sink.deliver(message(1), NEVER)
    write = os.write

    def full(handle: int, content: bytes) -> int:
        if len(content) > 20:
            return write(handle, bytes(content[:20]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", lambda handle, content: full(handle, content if len(content) > 400 else b""))
    with pytest.raises(SinkDown, match="No space left"):
        sink.deliver(message(2), NEVER)
    monkeypatch.undo()
    sink.deliver(message(2), NEVER)
    sink.close()
    assert lines(path) == [1, 2]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SinkDown, match="no ordinary file"):
        JsonLinesFile(JsonLinesSettings(path=tmp_path / "pipe")).deliver(message(1), NEVER)
    with pytest.raises(SinkDown, match="Is a directory"):
        JsonLinesFile(JsonLinesSettings(path=tmp_path)).deliver(message(1), NEVER)


# The web address.


class Receiver:
    """A real HTTP server; answers with the script's codes, then with 204."""

    def __init__(self, port: int = 0) -> None:
        outer = self
        self.script: list[int] = []
        self.requests: list[tuple[str, dict[str, str], Message]] = []
        self.answer = b""
        self.delay = 0.0

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                decoded = msgspec.json.decode(content, type=Message)
                outer.requests.append((self.path, dict(self.headers.items()), decoded))
                time.sleep(outer.delay)
                code = outer.script.pop(0) if outer.script else 204
                try:
                    self.send_response(code)
                    if 300 <= code < 400:
                        self.send_header("Location", "http://elsewhere.invalid/take?secret")
                    self.end_headers()
                    self.wfile.write(outer.answer)
                except OSError:
                    pass  # it hung up

            def do_GET(self) -> None:
                outer.requests.append(("GET", {}, message(0)))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alerts?key=1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


def test_a_message_is_posted_with_its_token_and_its_key(receiver: Receiver, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    sink = Webhook(WebhookSettings(url=receiver.url, token_file=token))
    sink.deliver(message(3), NEVER)
    token.write_text("second\n")
    sink.deliver(message(4), NEVER)
    (path, headers, found), (_, later, _) = receiver.requests
    assert path == "/alerts?key=1"
    assert found == message(3)
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == "e3-3"
    assert headers["Authorization"] == "Bearer first"
    assert later["Authorization"] == "Bearer second"
    token.unlink()
    with pytest.raises(SinkDown, match="token"):
        sink.deliver(message(5), NEVER)
    with pytest.raises(ConfigError, match="token"):
        Webhook(WebhookSettings(url=receiver.url, token_file=token))


@pytest.mark.parametrize("code", [400, 410, 413, 422])
def test_an_answer_that_refuses_for_good(receiver: Receiver, code: int) -> None:
    receiver.script, receiver.answer = [code], b"no such\x00 field\n"
    with pytest.raises(Refused, match=f"{code} .*no such  field"):
        Webhook(WebhookSettings(url=receiver.url)).deliver(message(1), NEVER)


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 599])
def test_an_answer_that_may_pass(receiver: Receiver, code: int) -> None:
    receiver.script = [code]
    sink = Webhook(WebhookSettings(url=receiver.url))
    with pytest.raises(SinkDown, match=str(code)):
        sink.deliver(message(1), NEVER)
    sink.deliver(message(1), NEVER)
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(receiver: Receiver, code: int) -> None:
    receiver.script = [code]
    with pytest.raises(SinkDown, match=r"redirection to http://elsewhere\.invalid, .* `url`") as caught:
        Webhook(WebhookSettings(url=receiver.url)).deliver(message(1), NEVER)
    assert "secret" not in str(caught.value)
    assert len(receiver.requests) == 1


def test_a_huge_answer_is_not_read_to_its_end(receiver: Receiver) -> None:
    receiver.answer, receiver.script = b"x" * 50_000_000, [200, 500]
    sink = Webhook(WebhookSettings(url=receiver.url))
    sink.deliver(message(1), NEVER)
    with pytest.raises(SinkDown) as caught:
        sink.deliver(message(1), NEVER)
    assert len(str(caught.value)) < 400 < LARGEST_ANSWER


def test_a_slow_receiver_is_given_up(receiver: Receiver) -> None:
    receiver.delay = 1.0
    began = time.monotonic()
    with pytest.raises(SinkDown, match="no answer in time"):
        Webhook(WebhookSettings(url=receiver.url, timeout=0.2)).deliver(message(1), NEVER)
    assert time.monotonic() - began < 0.9


def test_an_answer_that_trickles_is_accepted_by_its_status() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                try:
                    for _ in range(100):
                        connection.sendall(b"x")
                        time.sleep(0.05)
                except OSError:
                    pass  # it hung up

        thread = threading.Thread(target=trickle)
        thread.start()
        began = time.monotonic()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        Webhook(WebhookSettings(url=url, timeout=0.5)).deliver(message(1), NEVER)
        assert time.monotonic() - began < 2
        thread.join()


def test_what_is_no_http_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            for answer in (b"SSH-2.0-OpenSSH_9.2\r\n", b""):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=greet)
        thread.start()
        sink = Webhook(WebhookSettings(url=f"http://127.0.0.1:{server.getsockname()[1]}/"))
        with pytest.raises(SinkDown, match="not HTTP"):
            sink.deliver(message(1), NEVER)
        with pytest.raises(SinkDown, match="closed the connection"):
            sink.deliver(message(1), NEVER)
        thread.join()


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".invalid"])
def test_a_host_that_can_not_be_is_said(host: str) -> None:
    with pytest.raises(SinkDown, match=r"can't be reached|not known"):
        Webhook(WebhookSettings(url=f"http://{host}/")).deliver(message(1), NEVER)


def test_of_the_environments_proxies_only_that_for_https_is_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    Webhook(WebhookSettings(url=receiver.url)).deliver(message(1), NEVER)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SinkDown, match="nothing listens there"):
        Webhook(WebhookSettings(url="https://receiver.invalid/")).deliver(message(1), NEVER)


def test_a_receiver_that_comes_up_later_gets_everything_in_order() -> None:
    said: list[str] = []
    port = free_port()
    sink = Webhook(WebhookSettings(url=f"http://127.0.0.1:{port}/alerts?key=1"))
    log = FakeLog(10)
    courier = Courier(sink, log, say=said.append, wait=lambda _: time.sleep(0.02))
    until(lambda: "nothing listens there" in courier.status.trouble)
    assert courier.status.waiting == 10
    receiver = Receiver(port)
    try:
        receiver.script = [204, 500, 204, 429, 503, 204, 400]
        until(lambda: len(said) > 3 and "went out" in said[-1])
        courier.close()
        accepted = [found.sequence for _, _, found in receiver.requests]
        assert accepted == [1, 2, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10]
        assert courier.status.missed == 1, "the one that was answered 400"
    finally:
        receiver.close()


# All of them.


def test_sinks_are_opened_in_order_and_only_if_configured(tmp_path: Path) -> None:
    def opened(settings: SinkSettings) -> list[str]:
        capture = CaptureSettings(device="default")
        config = DeviceConfig(bundle=tmp_path / "fan.easd", state=tmp_path, capture=capture, sinks=settings)
        with Keeper(tmp_path / "events.sqlite", EventSettings()) as log, Outputs(config, log, status) as outputs:
            return [sink.name for sink in outputs.status()]

    assert opened(SinkSettings()) == []
    settings = SinkSettings(
        json_lines=JsonLinesSettings(path=tmp_path / "a"), webhook=WebhookSettings(url="http://127.0.0.1:1/")
    )
    assert opened(settings) == ["json_lines", "webhook"]


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    monkeypatch.delitem(sys.modules, "edge_asd.sinks.mqtt_client", raising=False)  # of a test before
    with pytest.raises(MissingRequirement, match="paho"):
        open_sink(MqttSettings(host="127.0.0.1"), "pi", status)
