"""What a broker says: octets that claim to be MQTT, to the client as the sink has set it up."""

from __future__ import annotations

import socket
import struct
import traceback
from contextlib import suppress

from paho.mqtt.client import Client

from edge_asd.settings import MqttSettings
from edge_asd.sinks.mqtt import LONGEST_QUEUE, Mqtt
from fuzz import contract
from fuzz.doors import Door
from made_up_events import STATUS, message

_SETTINGS = MqttSettings(host="broker.local")


class _Still(Mqtt):
    """The sink without its threads: what they'd do is done here, in order."""

    def _prepare(self) -> Client:
        client = super()._prepare()
        client.loop_start = lambda: None  # type: ignore[method-assign]
        return client

    def _tell(self) -> None:
        return


def listen_to_broker(content: bytes) -> None:
    """A broker is connected to, says all this, and hangs up."""
    ours, theirs = socket.socketpair()
    with ours, theirs, contract.refusals():
        sink = _Still(_SETTINGS, "pi", lambda: STATUS)
        sink._teller.join()
        client = sink._client
        client._create_socket_connection = lambda: ours
        try:
            client.reconnect()
            theirs.sendall(content)
            theirs.shutdown(socket.SHUT_WR)
            _hear_out(client, len(content) + 50)
            _stands(sink)
        finally:
            client._sock_close()
            client._reset_sockets()


def _hear_out(client: Client, most: int) -> None:
    """As the client's own thread does it, until the connection ends."""
    for _ in range(most):
        try:
            client.loop_read()
            client.loop_write()
        except Exception as error:
            if any("/edge_asd/" in frame.filename for frame in traceback.extract_tb(error.__traceback__)):
                raise
            return  # the client's own, to what is no MQTT: it kills its thread, and the sink starts another
        if client._sock is None:
            return
    raise contract.Breach("goes on though nothing is said any more")


def _stands(sink: Mqtt) -> None:
    """It can say what is wrong, keeps no more than it may, and would tell again."""
    contract.fit_to_be_read(sink._trouble)
    if (waiting := len(sink._client._out_messages)) > LONGEST_QUEUE:
        raise contract.Breach(f"{waiting} publications wait")
    with suppress(ValueError):
        sink._publish("a/event", str(message(1)))


def _packet(kind: int, body: bytes = b"") -> bytes:
    return bytes((kind, len(body))) + body


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


_GREETING = _packet(0x20, b"\x00\x00")
_STATUS = _text("homeassistant/status")


def _seeds() -> list[bytes]:
    acknowledged = _packet(0x90, b"\x00\x01\x00") + _packet(0x40, b"\x00\x02") + _packet(0x40, b"\x00\x03")
    return [
        *(_packet(0x20, bytes((0, code))) for code in range(7)),
        _GREETING + acknowledged + _packet(0x30, _STATUS + b"online"),
        _GREETING + _packet(0x32, _STATUS + b"\x00\x05online") * 3,
        _GREETING + _packet(0x34, _STATUS + b"\x00\x05offline") + _packet(0x62, b"\x00\x05"),
        _GREETING + _packet(0x50, b"\x00\x02") + _packet(0x70, b"\x00\x02") + _packet(0xB0, b"\x00\x01"),
        _GREETING + _packet(0xC0) + _packet(0xD0) + _packet(0xE0) + _packet(0xF0),
        _GREETING + b"\x30\xff\xff\xff\x7f",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ]


DOORS = (
    Door(
        "mqtt",
        "MQTT, a broker's answers",
        listen_to_broker,
        _seeds,
        words=(
            _GREETING,
            _STATUS,
            b"online",
            b"offline",
            b"\x30",
            b"\x32",
            b"\x34",
            b"\x40\x02\x00\x02",
            b"\xff\xff\xff\x7f",
        ),
        longest=600,
    ),
)
