"""The MQTT sink against a real broker, which is killed, restarted, encrypted and protected by a password."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from paho.mqtt.client import Client

import made_up_events
from brokers import Broker, Listener
from common import missing, until
from edge_asd.errors import ConfigError
from edge_asd.events import Message
from edge_asd.settings import MqttSettings
from edge_asd.sinks import Courier, SinkDown
from edge_asd.sinks.home_assistant import discovery, identifier
from edge_asd.sinks.mqtt import Mqtt
from edge_asd.sinks.reasons import why_unreachable
from edge_asd.status import Commissioning, Status
from made_up_events import message

NEVER = threading.Event()
STATUS = replace(made_up_events.STATUS, version="0.1.0", device="pi", level_dbfs=-31.5)

# The client library leaves the socket of a handshake that failed to be closed by its end as an object.
HALF_OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as running:
        yield running


@contextmanager
def sink_for(broker: Broker, state: Callable[[], Status] = lambda: STATUS, **settings: Any) -> Iterator[Mqtt]:
    values = {"host": "127.0.0.1", "port": broker.port, "keepalive": 5, **settings}
    sink = Mqtt(MqttSettings(**values), "pi", state)
    try:
        yield sink
    finally:
        sink.close()


def trouble(sink: Mqtt, like: str) -> None:
    """The sink says so, within a moment."""
    found = ""

    def says_so() -> bool:
        nonlocal found
        try:
            sink.deliver(message(1), NEVER)
        except SinkDown as down:
            found = str(down)
        return re.search(like, found) is not None

    try:
        until(says_so, 8)
    except AssertionError:
        pytest.fail(f"expected {like!r}, found {found!r}")


def test_a_message_is_there_when_deliver_returns(broker: Broker) -> None:
    with Listener(broker.port) as listener, sink_for(broker, topic="plant/hall 2/") as sink:
        for number in (1, 2, 3):
            sink.deliver(message(number), NEVER)
        until(lambda: len(listener.of("plant/hall 2/pi/event")) == 3)
        found = listener.of("plant/hall 2/pi/event")
    assert [msgspec.json.decode(one.payload, type=Message) for one in found] == [message(n) for n in (1, 2, 3)]
    assert [(one.qos, one.retain) for one in found] == [(1, False)] * 3


def test_availability_is_retained_and_a_clean_end_says_offline(broker: Broker) -> None:
    with sink_for(broker) as sink:
        sink.deliver(message(1), NEVER)
        with Listener(broker.port) as listener:
            until(lambda: listener.of("edge-asd/pi/availability"))
            [found] = listener.of("edge-asd/pi/availability")
            assert (found.payload, found.retain) == (b"online", True)
            assert not listener.of("edge-asd/pi/event"), "an alert must not be retained"
            sink.close()
            until(lambda: listener.last("edge-asd/pi/availability") == "offline")
    with Listener(broker.port, "edge-asd/pi/availability") as later:
        until(lambda: later.heard)
        assert [(one.payload, one.retain) for one in later.heard[-1:]] == [(b"offline", True)]


def test_the_last_will_speaks_for_a_daemon_that_was_killed(broker: Broker) -> None:
    program = f"""
        import time, threading
        from edge_asd.settings import MqttSettings
        from edge_asd.sinks.mqtt import Mqtt
        from edge_asd.status import Status
        status = Status(pid=1, bundle="0", machine="fan", section="00", since="", updated="", heard_seconds=0.0,
                        scores=0, last_score=None, threshold=1.0, alert=False, lost_samples=0, resident_mb=1.0)
        sink = Mqtt(MqttSettings(host="127.0.0.1", port={broker.port}), "pi", lambda: status)
        time.sleep(60)
    """
    with (
        Listener(broker.port, "edge-asd/pi/availability") as listener,
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)]) as process,
    ):
        try:
            until(lambda: listener.last("edge-asd/pi/availability") == "online", 15)
        finally:
            process.kill()
        until(lambda: listener.last("edge-asd/pi/availability") == "offline")


def test_the_state_is_told_at_once_when_it_changes(broker: Broker) -> None:
    now = [STATUS]
    with Listener(broker.port) as listener, sink_for(broker, lambda: now[0], state_seconds=3600.0):
        until(lambda: listener.last("edge-asd/pi/state"))
        first = listener.last("edge-asd/pi/state")
        assert (first["alert"], first["score"], first["threshold"]) == (False, 0.5, 1.0)
        assert (first["microphone_ok"], first["faults"], first["commissioning"]) == (True, [], None)
        time.sleep(0.3)
        told = len(listener.of("edge-asd/pi/state"))
        now[0] = msgspec.structs.replace(STATUS, last_score=0.6, scores=2)
        time.sleep(0.6)
        assert len(listener.of("edge-asd/pi/state")) == told, "a score alone waits for its time"
        now[0] = msgspec.structs.replace(STATUS, alert=True, last_score=1.5)
        until(lambda: listener.last("edge-asd/pi/state")["alert"] is True, 2)
        now[0] = msgspec.structs.replace(STATUS, faults=("silent",), sensor="hears nothing", last_score=None)
        until(lambda: listener.last("edge-asd/pi/state")["faults"] == ["silent"], 2)
        assert listener.last("edge-asd/pi/state")["score"] is None
        now[0] = msgspec.structs.replace(STATUS, commissioning=Commissioning(phase="learning", done=0.25))
        until(lambda: listener.last("edge-asd/pi/state")["commissioning"] == {"phase": "learning", "done": 0.25}, 2)
    with Listener(broker.port, "edge-asd/pi/state") as later:
        until(lambda: later.heard)
        assert later.heard[-1].retain


def test_the_state_is_told_every_so_often(broker: Broker) -> None:
    with Listener(broker.port) as listener, sink_for(broker, state_seconds=0.2):
        until(lambda: len(listener.of("edge-asd/pi/state")) >= 4, 5)


def test_discovery_is_retained_and_sent_again_when_home_assistant_starts(broker: Broker) -> None:
    topic = "homeassistant/device/edge_asd_pi/config"
    with sink_for(broker) as sink:
        sink.deliver(message(1), NEVER)
        with Listener(broker.port) as listener:
            until(lambda: listener.of(topic))
            assert listener.of(topic)[0].retain
            listener.say("homeassistant/status", "offline")
            listener.say("homeassistant/status", "online")
            until(lambda: len(listener.of(topic)) == 2)
            assert listener.of(topic)[0].payload == listener.of(topic)[1].payload
            found = listener.last(topic)
            until(lambda: listener.last("edge-asd/pi/state"))
            state = listener.last("edge-asd/pi/state")
    assert found["availability_topic"] == "edge-asd/pi/availability"
    assert found["state_topic"] == "edge-asd/pi/state"
    assert found["cmps"]["event"]["state_topic"] == "edge-asd/pi/event"
    assert found["dev"]["ids"] == ["edge_asd_pi"]
    shown = {
        name: rendered(entity["value_template"], state)
        for name, entity in found["cmps"].items()
        if entity["p"] != "event"
    }
    assert shown == {"anomaly": "OFF", "microphone": "OFF", "score": "0.5", "threshold": "1.0", "level": "-31.5"}


def test_without_a_prefix_nothing_is_discovered(broker: Broker) -> None:
    with Listener(broker.port) as listener, sink_for(broker, discovery="") as sink:
        sink.deliver(message(1), NEVER)
        until(lambda: listener.of("edge-asd/pi/event"))
        assert {one.topic for one in listener.heard} <= {f"edge-asd/pi/{x}" for x in ("event", "state", "availability")}


def rendered(template: str, value: object) -> str:
    """As Home Assistant would, whose templates are Jinja's."""
    from jinja2 import Environment

    return Environment(autoescape=False).from_string(template).render(value_json=value)  # noqa: S701


def test_discovery_describes_what_a_person_wants_to_see() -> None:
    topics = {"prefix": "homeassistant", "availability": "a", "state": "s", "event": "e"}
    [(topic, payload)] = discovery("hall-2.pi", "fan", "00", "0.1.0", **topics).items()
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic)
    found = json.loads(payload)
    entities = found["cmps"]
    assert found["o"]["name"] == "edge-asd"
    assert (found["dev"]["name"], found["dev"]["sw"]) == ("hall-2.pi", "0.1.0")
    kinds = {name: (one["p"], one.get("device_class")) for name, one in entities.items()}
    assert kinds["anomaly"] == kinds["microphone"] == ("binary_sensor", "problem")
    assert kinds["score"] == ("sensor", None)
    assert entities["level"]["unit_of_measurement"] == "dB"
    ids = [one["unique_id"] for one in entities.values()]
    assert len(set(ids)) == len(ids)
    [(_, updated)] = discovery("hall-2.pi", "pump", "01", "9.9.9", **topics).items()
    assert [one["unique_id"] for one in json.loads(updated)["cmps"].values()] == ids, "they outlive an update"
    assert identifier("a") != identifier("b")

    strange = {"alert": True, "microphone_ok": False, "score": None, "threshold": 1.0, "level_dbfs": None}
    shown = {name: rendered(one["value_template"], strange) for name, one in entities.items() if name != "event"}
    assert shown == {"anomaly": "ON", "microphone": "ON", "score": "None", "threshold": "1.0", "level": "None"}
    event = json.loads(rendered(entities["event"]["value_template"], json.loads(msgspec.json.encode(message(7)))))
    assert event["event_type"] == "raised"
    assert (event["sequence"], event["peak"]) == (7, None)
    assert set(entities["event"]["event_types"]) == {"raised", "cleared", "unfinished"}


class Backlog:
    """A log in memory."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._messages: list[Message] = []
        self.at = 0

    def put(self, one: Message) -> None:
        with self._news:
            self._messages.append(one)
            self._news.notify_all()

    def after(self, sequence: int, count: int) -> list[Message]:
        return [one for one in self._messages if one.sequence > sequence][:count]

    def cursor(self, sink: str) -> int:
        return self.at

    def advance(self, sink: str, sequence: int) -> None:
        self.at = sequence

    def waiting(self, sink: str) -> int:
        return len(self._messages) - self.at

    def missed(self, sink: str) -> int:
        return 0

    def wait_for_message(self, after: int, timeout: float) -> bool:
        with self._news:
            return self._news.wait_for(lambda: bool(self._messages) and self._messages[-1].sequence > after, timeout)


def test_nothing_is_lost_while_the_broker_is_killed_twice(tmp_path: Path) -> None:
    """Counted are two things.

    What our process sends, as the client library logs it: each message once without the DUP flag, every further time
    with it. And what a subscriber hears: every sequence, in order, if it passes over what isn't larger than the last;
    it hears no more repetitions than were sent with DUP, by us or, as their own flag shows, by the broker.
    """
    count = 200
    sends: list[tuple[str, str]] = []  # DUP flag and the message's number with the client library

    def log(_client: Client, _data: Any, _level: int, line: str) -> None:
        if found := re.match(r"Sending PUBLISH \(d(\d), q1, r0, m(\d+)\), 'b?'?edge-asd/pi/event", line):
            sends.append((found[1], found[2]))

    backlog, said = Backlog(), list[str]()
    with (
        Broker(tmp_path, "autosave_interval 1", "autosave_on_changes true") as broker,
        Listener(broker.port, "edge-asd/pi/event") as listener,
        sink_for(broker) as sink,
    ):
        sink._client.on_log = log
        sink._client.reconnect_delay_set(3, 3)  # so long it says that the connection was lost
        broker.save()  # a kill forgets what isn't on the disk: the subscriber's session must be
        courier = Courier(sink, backlog, say=said.append)

        def put() -> None:
            for number in range(1, count + 1):
                backlog.put(message(number))
                time.sleep(0.005)

        putting = threading.Thread(target=put)
        putting.start()
        for reached in (count // 4, count // 2):
            until(lambda reached=reached: listener.connected.is_set() and len(listener.heard) >= reached)
            broker.kill()
            until(lambda: "lost" in courier.status.trouble)
            broker.start()
        until(lambda: backlog.at == count, 15)
        putting.join()
        until(lambda: listener.last("edge-asd/pi/event")["sequence"] == count)
        until(lambda: courier.status.waiting == 0)
        courier.close()
        heard = [(json.loads(one.payload)["sequence"], one.dup) for one in listener.heard]

    fresh = [number for dup, number in sends if dup == "0"]
    again = [number for dup, number in sends if dup == "1"]
    assert len(fresh) == len(set(fresh)), "each is published once"
    assert len(set(fresh) | set(again)) == count
    last, passed, repetitions = 0, [], 0
    for sequence, dup in heard:
        if sequence > last:
            passed.append(sequence)
            last = sequence
        elif not dup:
            repetitions += 1
    assert passed == list(range(1, count + 1))
    assert repetitions <= len(again)
    assert 2 <= len(said) <= 8, said
    assert "went out" in said[-1]


def test_a_message_that_waits_for_its_acknowledgement_is_not_published_again(broker: Broker) -> None:
    with sink_for(broker) as sink:
        sink.deliver(message(1), NEVER)
        published: list[str] = []
        publish = sink._client.publish

        def counted(topic: str, *rest: Any, **more: Any) -> Any:
            published.append(topic)
            return publish(topic, *rest, **more)

        sink._client.publish = counted  # type: ignore[method-assign]
        assert broker._process is not None
        broker._process.send_signal(signal.SIGSTOP)  # takes what it is sent, and never answers
        try:
            stop = threading.Event()
            threading.Timer(0.3, stop.set).start()
            with pytest.raises(SinkDown, match="stopping"):
                sink.deliver(message(2), stop)
        finally:
            broker._process.send_signal(signal.SIGCONT)
        sink.deliver(message(2), NEVER)
        assert published.count("edge-asd/pi/event") == 1


def test_a_broker_that_comes_up_later_is_found(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    with sink_for(broker) as sink:
        trouble(sink, r"nothing listens there \(connection refused\)")
        with broker, Listener(broker.port) as listener:
            until(lambda: sink._connected)
            sink.deliver(message(1), NEVER)
            until(lambda: listener.of("edge-asd/pi/event"))
            sink.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_who_speaks_no_mqtt_is_survived(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    answers = (b"\x20\x00", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x02\x00\x00\x30\x03\x00\x09\xff")
    with socket.create_server(("127.0.0.1", broker.port)) as server, ExitStack() as stack:

        def answer() -> None:
            for one in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(one)
                    connection.settimeout(2)
                    try:
                        while connection.recv(4096):
                            pass
                    except OSError:
                        pass  # it hung up

        thread = threading.Thread(target=answer)
        thread.start()
        sink = stack.enter_context(sink_for(broker))
        thread.join(15)
        assert not thread.is_alive(), "it gave up connecting"
        server.close()
        with broker:
            until(lambda: sink._connected)
            sink.deliver(message(1), NEVER)
            sink.close()


def test_a_broker_that_is_away_shows_before_there_is_anything_to_tell(broker: Broker) -> None:
    with sink_for(broker) as sink:
        courier = Courier(sink, Backlog(), say=lambda _: None)
        until(lambda: sink._connected)
        sink._client.reconnect_delay_set(3, 3)  # so long it says that the connection was lost
        assert courier.status.trouble == ""
        broker.kill()
        until(lambda: "the connection was lost" in courier.status.trouble)
        until(lambda: "nothing listens there" in courier.status.trouble)
        broker.start()
        until(lambda: courier.status.trouble == "")
        courier.close()


@pytest.mark.slow
def test_a_broker_that_gives_no_sign_of_life_is_left_after_twice_the_keepalive(broker: Broker) -> None:
    with sink_for(broker, keepalive=5, state_seconds=0.5) as sink:
        until(lambda: sink._connected)
        assert broker._process is not None
        broker._process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: "gives no sign of life" in sink.trouble, 15)
        finally:
            broker._process.send_signal(signal.SIGCONT)
        until(lambda: sink._connected)
        sink.deliver(message(1), NEVER)


# Who is who.


def test_a_password_is_needed_and_a_wrong_one_is_said(tmp_path: Path) -> None:
    if not shutil.which("mosquitto_passwd"):
        missing("mosquitto_passwd")
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "pi", "right"], check=True, capture_output=True)
    (tmp_path / "right").write_text("right\n")
    (tmp_path / "wrong").write_text("wrong\n")
    with Broker(tmp_path, f"password_file {passwords}", anonymous=False) as broker:
        with sink_for(broker, username="pi", password_file=tmp_path / "right") as sink:
            sink.deliver(message(1), NEVER)
        for settings in ({"username": "pi", "password_file": tmp_path / "wrong"}, {"username": "pi"}, {}):
            with sink_for(broker, **settings) as sink:
                trouble(sink, r"the broker refuses \(Not authorized\); mend username and password_file")
    with (
        pytest.raises(ConfigError, match="nowhere"),
        sink_for(broker, username="pi", password_file=tmp_path / "nowhere"),
    ):
        pass


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certification authorities, a broker's certificate for 127.0.0.1 and one for elsewhere, a client's."""
    if not shutil.which("openssl"):
        missing("openssl")
    folder = tmp_path_factory.mktemp("papers")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        openssl(
            "req", "-x509", *key, "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt"
        )
    for name, san in (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:elsewhere.invalid"), ("client", "DNS:pi")):
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "san").write_text(f"subjectAltName={san}\n")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
    openssl("ec", "-in", "client.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key")
    return folder


def tls(papers: Path, name: str) -> tuple[str, ...]:
    return (f"cafile {papers}/ca.crt", f"certfile {papers}/{name}.crt", f"keyfile {papers}/{name}.key")


@HALF_OPEN
def test_tls_with_the_right_authority_and_the_wrong_one(tmp_path: Path, papers: Path) -> None:
    with Broker(tmp_path, *tls(papers, "here")) as broker:
        with sink_for(broker, tls=True, ca_file=papers / "ca.crt") as sink:
            sink.deliver(message(1), NEVER)
        with sink_for(broker, tls=True, ca_file=papers / "other.crt") as sink:
            trouble(sink, "its certificate is not trusted")
        with sink_for(broker, tls=True) as sink:
            trouble(sink, "its certificate is not trusted")
        with sink_for(broker) as sink:
            trouble(sink, "hung up without a word; .* expect no TLS")


@HALF_OPEN
def test_tls_with_the_certificate_of_another_host(tmp_path: Path, papers: Path) -> None:
    with (
        Broker(tmp_path, *tls(papers, "elsewhere")) as broker,
        sink_for(broker, tls=True, ca_file=papers / "ca.crt") as sink,
    ):
        trouble(sink, r"not trusted \(IP address mismatch")


@HALF_OPEN
def test_tls_where_the_broker_speaks_none(broker: Broker, papers: Path) -> None:
    with sink_for(broker, tls=True, ca_file=papers / "ca.crt") as sink:
        trouble(sink, "TLS failed|closed the connection")


def test_tls_with_a_certificate_of_our_own(tmp_path: Path, papers: Path) -> None:
    ours = {"tls": True, "ca_file": papers / "ca.crt", "cert_file": papers / "client.crt"}
    with Broker(tmp_path, *tls(papers, "here"), "require_certificate true") as broker:
        with sink_for(broker, **ours, key_file=papers / "client.key") as sink:
            sink.deliver(message(1), NEVER)
        with (
            pytest.raises(ConfigError, match="without a password"),
            sink_for(broker, **ours, key_file=papers / "locked.key"),
        ):
            pass


def test_files_that_are_no_certificates_are_said(papers: Path) -> None:
    for ca_file in (papers / "nowhere.crt", papers / "san"):
        with pytest.raises(ConfigError, match=r"(?s)can't be used for TLS"):
            Mqtt(MqttSettings(host="127.0.0.1", tls=True, ca_file=ca_file), "pi", lambda: STATUS)


def test_a_host_that_can_not_be_and_one_that_is_not_known_are_said() -> None:
    with pytest.raises(ConfigError, match="host's name"):
        Mqtt(MqttSettings(host="a..b"), "pi", lambda: STATUS)
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert "broker.local:1883: the host's name is not known" in why_unreachable(unknown, "broker.local:1883")
