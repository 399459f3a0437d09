"""A real MQTT broker on loopback, and who subscribes there."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from common import free_port, missing, until


class Broker:
    """A mosquitto of the test's own, at a free port of loopback."""

    def __init__(self, folder: Path, *options: str, anonymous: bool = True) -> None:
        if not (program := shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")):
            missing("mosquitto")
        self.port = free_port()
        self.folder = folder
        self.database = folder / "mosquitto.db"
        (folder / "m.conf").write_text(
            "\n".join(
                (
                    f"listener {self.port} 127.0.0.1",
                    f"allow_anonymous {str(anonymous).lower()}",
                    f"user {pwd.getpwuid(os.getuid()).pw_name}",  # as root it would become another user
                    "persistence true",
                    f"persistence_location {folder}/",
                    *options,
                    "",
                )
            )
        )
        self._command = [str(program), "-c", str(folder / "m.conf")]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

        def listens() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        until(listens)

    def save(self) -> None:
        """Have it write what it knows to the disk."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)
        until(self.database.exists)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Listener:
    """Who subscribes; its session outlives its connections and, as far as the broker keeps it, the broker."""

    def __init__(self, port: int, topic: str = "#") -> None:
        self.heard: list[MQTTMessage] = []
        self.connected = threading.Event()
        self._topic = topic
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = lambda *_: self.connected.clear()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, found: self.heard.append(found)
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(10)

    def _on_connect(self, client: Client, *_: Any) -> None:
        client.subscribe(self._topic, qos=1)
        self.connected.set()

    def say(self, topic: str, payload: str) -> None:
        self._client.publish(topic, payload, qos=1).wait_for_publish(5)

    def of(self, topic: str) -> list[MQTTMessage]:
        return [one for one in list(self.heard) if one.topic == topic]

    def last(self, topic: str) -> Any:
        found = self.of(topic)
        if not found:
            return None
        payload = found[-1].payload.decode()
        return json.loads(payload) if payload.startswith("{") else payload

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
