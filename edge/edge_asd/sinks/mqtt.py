"""Every message to an MQTT broker, and how things stand, for whoever subscribes; Home Assistant finds it by itself.

| topic                         | content                                  | QoS | retained |
|-------------------------------|------------------------------------------|-----|----------|
| TOPIC/DEVICE/event            | a message as JSON                        | 1   | no       |
| TOPIC/DEVICE/state            | how things stand, as JSON                | 0   | yes      |
| TOPIC/DEVICE/availability     | "online", or "offline" (the last will)   | 1   | yes      |
| DISCOVERY/device/.../config   | see `home_assistant`                     | 1   | yes      |

QoS 1 is "at least once". Within the life of this sink a message is published once, and repeated only by the client
library, with the DUP flag, where the connection was lost before the broker's acknowledgement; where the daemon ends or
its settings change before that, the next sink publishes it again. A receiver tells repetitions by the message's
`sequence`, which counts up for ever: what isn't larger than the last one it has seen is a repetition.

Brokers know a client by its id, and drop an older connection of the same id: it is the device's name, so that a
connection which nobody closed says "offline" before the next one says "online", and not after it. Two devices of one
name would therefore throw each other out.
"""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from edge_asd.config import secret
from edge_asd.errors import ConfigError, MissingRequirement
from edge_asd.events import Message
from edge_asd.settings import MqttSettings
from edge_asd.sinks.courier import SinkDown
from edge_asd.sinks.home_assistant import OFFLINE, ONLINE, discovery
from edge_asd.sinks.mqtt_state import encode
from edge_asd.sinks.reasons import why_unreachable
from edge_asd.status import Status

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo
    from paho.mqtt.reasoncodes import ReasonCode

    from edge_asd.sinks.mqtt_client import BoundedClient

LOOK_SECONDS = 0.25  # so often the status is looked at for a change
AGAIN_SECONDS = 1.0  # after which the courier asks again; that costs nothing, the client reconnects by itself
SILENCE_SECONDS = 15.0  # without an acknowledgement, after which it is said
OFFLINE_SECONDS = 2.0  # that `close` waits for the acknowledgement of "offline", and for the network's thread
LONGEST_QUEUE = 100  # publications that wait for the broker; there are no more than a handful
KEEP_ALIVE_TIMEOUT = 141  # of MQTT 5, as the client names it for MQTT 3.1.1, too
WRONG_CREDENTIALS = (4, 5, 134, 135)  # in CONNACK, of MQTT 3.1.1 and of its names in MQTT 5


class Mqtt:
    """The broker: a connection that is held and, when lost, made again after 1 to 120 s."""

    name = "mqtt"

    def __init__(self, settings: MqttSettings, device: str, state: Callable[[], Status]) -> None:
        """Begin to connect, in the background.

        Raises:
            ConfigError: the password or a certificate can't be read, or the host is no host's name.
            MissingRequirement: paho-mqtt isn't installed.
        """
        self._settings = settings
        self._device = device
        self._state = state
        self._topic = f"{settings.topic.rstrip('/')}/{device}"
        self._where = f"{settings.host}:{settings.port}"
        self._trouble = f"{self._where}: not connected yet"
        self._connected = False
        self._explained = False  # why this connection ended
        self._wary = False  # the broker sent once what nobody asked for
        self._tried = threading.Event()  # to connect, whatever came of it
        self._closing = threading.Event()
        self._fresh = threading.Event()  # the state shall be told at once
        self._pending: tuple[int, MQTTMessageInfo] | None = None  # the message that was published last, by sequence
        self._announced: dict[str, MQTTMessageInfo] = {}
        self._told: MQTTMessageInfo | None = None  # the state as it was published last
        self._client = self._prepare()
        self._client.loop_start()
        self._teller = threading.Thread(target=self._tell, name="mqtt-state", daemon=True)
        self._teller.start()

    def deliver(self, message: Message, stop: threading.Event) -> None:
        """Publish it, or go on waiting for the acknowledgement if it was published before. Raises: SinkDown."""
        if self._pending is None or self._pending[0] != message.sequence:
            self._await_first(stop)
            if not self._connected:
                raise SinkDown(self._trouble, again_after=AGAIN_SECONDS)
            info = self._publish(f"{self._topic}/event", msgspec.json.encode(message))
            if info.rc:
                raise SinkDown(f"{self._where}: too many publications wait for the broker")
            self._pending = (message.sequence, info)
        info = self._pending[1]
        patience = time.monotonic() + SILENCE_SECONDS
        while not info.is_published():
            if stop.is_set():
                raise SinkDown("stopping")
            if not self._connected:
                raise SinkDown(self._trouble, again_after=AGAIN_SECONDS)
            if time.monotonic() > patience:
                raise SinkDown(f"{self._where}: does not acknowledge what it is sent", again_after=AGAIN_SECONDS)
            info.wait_for_publish(0.2)
        self._pending = None

    @property
    def trouble(self) -> str:
        """Why there is no connection; "" where there is one, or the first attempt hasn't come out yet."""
        return self._trouble if self._tried.is_set() and not self._connected else ""

    def _await_first(self, stop: threading.Event) -> None:
        """Until the first attempt to connect has come out: at every start it takes a moment. Raises: SinkDown."""
        patience = time.monotonic() + SILENCE_SECONDS
        while not self._tried.wait(0.1) and time.monotonic() < patience:
            if stop.is_set():
                raise SinkDown("stopping")

    def close(self) -> None:
        """Say "offline", and disconnect."""
        self._closing.set()
        self._fresh.set()
        self._teller.join(OFFLINE_SECONDS)
        if self._connected:
            with suppress(ValueError, RuntimeError):
                self._publish(f"{self._topic}/availability", OFFLINE, retain=True).wait_for_publish(OFFLINE_SECONDS)
        self._client.disconnect()
        # The network's thread may hang in a connection that nobody answers; it dies with the process.
        end = threading.Thread(target=self._client.loop_stop, name="mqtt-end", daemon=True)
        end.start()
        end.join(OFFLINE_SECONDS)

    def _prepare(self) -> BoundedClient:
        """Raises: ConfigError, MissingRequirement."""
        try:
            from paho.mqtt.enums import CallbackAPIVersion

            from edge_asd.sinks.mqtt_client import BoundedClient
        except ModuleNotFoundError as error:
            raise MissingRequirement(
                f"sinks.mqtt needs {error.name}, which isn't installed here; install it with: pip install paho-mqtt"
            ) from error

        settings = self._settings
        try:
            settings.host.encode("idna")  # the network's thread would die of it
        except UnicodeError as error:
            raise ConfigError(
                f"sinks.mqtt: host: found {settings.host!r}, expected a host's name ({error})."
            ) from error
        client = BoundedClient(CallbackAPIVersion.VERSION2, client_id=f"edge-asd-{self._device}", clean_session=True)
        if settings.username:
            password = secret(settings.password_file) if settings.password_file else None
            client.username_pw_set(settings.username, password)
        if settings.tls:
            client.tls_set_context(_tls(settings))
        client.will_set(f"{self._topic}/availability", OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(1, 120)
        client.max_queued_messages_set(LONGEST_QUEUE)
        client.on_pre_connect = self._on_pre_connect
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.connect_async(settings.host, settings.port, settings.keepalive)
        return client

    def _publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> MQTTMessageInfo:
        """Hand it to the client, which then has it and repeats it if need be; only with a full queue it hasn't."""
        from paho.mqtt.enums import MQTTErrorCode

        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            # The connection was lost a moment ago: the client will send it on the next one, but never takes this code
            # back, and `is_published` would raise for ever.
            info.rc = MQTTErrorCode.MQTT_ERR_SUCCESS
        return info

    def _announce(self, topic: str, payload: bytes | str) -> None:
        """Publish something retained, unless the client sends the same as of before the connection was lost."""
        last = self._announced.get(topic)
        if last is None or last.rc or last.is_published():
            self._announced[topic] = self._publish(topic, payload, retain=True)

    def _discover(self) -> None:
        prefix = self._settings.discovery.rstrip("/")
        if prefix:
            now = self._state()
            for topic, payload in discovery(
                self._device,
                now.machine,
                now.section,
                now.version,
                prefix=prefix,
                availability=f"{self._topic}/availability",
                state=f"{self._topic}/state",
                event=f"{self._topic}/event",
            ).items():
                self._announce(topic, payload)

    # The network's thread calls these.

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            self._trouble = f"{self._where}: the broker refuses ({reason})"
            if reason.value in WRONG_CREDENTIALS:
                self._trouble += "; mend username and password_file, or what the broker allows this user"
            self._explained = True
            self._tried.set()
            return
        if self._closing.is_set():
            client.disconnect()
            return
        # Not where more came once than anybody asked for: what others publish must not keep alerts from going out.
        if (prefix := self._settings.discovery.rstrip("/")) and not self._wary:
            client.subscribe(f"{prefix}/status", qos=0)
        self._announce(f"{self._topic}/availability", ONLINE)
        self._discover()
        self._connected = True
        self._tried.set()
        self._fresh.set()

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        error = sys.exc_info()[1]  # the client calls this while it handles it, and doesn't hand it on
        self._trouble = why_unreachable(error or OSError("no reason given"), self._where)
        self._connected = False
        self._tried.set()

    def _on_pre_connect(self, _client: Client, _data: Any) -> None:
        self._explained = False

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        """Called twice for a broker that fell silent, and after a refusal: the first reason counts."""
        if not self._explained:
            if excess := self._client.excess:
                self._wary, self._client.excess = True, ""
                why = f"{excess}; see what is published under {self._settings.discovery}/status"
            elif reason.value == KEEP_ALIVE_TIMEOUT:
                why = "gives no sign of life"
            elif self._connected:
                why = "the connection was lost"
            else:
                why = "hung up without a word; does it speak MQTT on this port, and expect no TLS?"
            self._trouble = f"{self._where}: {why}"
        self._explained = True
        self._connected = False
        self._tried.set()

    def _on_message(self, _client: Client, _data: Any, message: Any) -> None:
        """Home Assistant has started: it is told anew."""
        if message.payload == ONLINE.encode():
            self._discover()

    def _tell(self) -> None:
        """Publish the state every `state_seconds`, and at once when what people look at has changed."""
        seen: object = None
        due = 0.0
        while not self._closing.is_set():
            self._fresh.wait(min(LOOK_SECONDS, self._settings.state_seconds))
            self._client.loop_start()  # does nothing unless an answer that is no MQTT killed the network's thread
            status = self._state()
            look = (status.alert, status.faults, status.gated, status.commissioning is not None)
            now = time.monotonic()
            if self._fresh.is_set() or look != seen or now >= due:
                self._fresh.clear()
                if self._connected and not self._busy():
                    self._told = self._client.publish(f"{self._topic}/state", encode(status), qos=0, retain=True)
                    seen, due = look, now + self._settings.state_seconds

    def _busy(self) -> bool:
        """The last state is still on its way: on a line that is stuck they must not pile up."""
        return self._told is not None and not self._told.rc and not self._told.is_published()


def _tls(settings: MqttSettings) -> ssl.SSLContext:
    """Raises: ConfigError."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file:
            # A key with a password would otherwise be asked for at the terminal.
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except (OSError, ValueError) as error:
        files = ", ".join(str(path) for path in (settings.ca_file, settings.cert_file, settings.key_file) if path)
        raise ConfigError(
            f"sinks.mqtt: {files}: can't be used for TLS ({error}); expected certificates in PEM format, "
            "and a key without a password."
        ) from error
    return context
