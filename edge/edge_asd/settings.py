"""The tables of `device.toml`: what a device listens to, with which bundle, when it raises an alert, who is told.

    bundle = "fan.easd"
    section = "00"              # may be left out where the bundle has one section
    state = "/var/lib/edge-asd"

    [capture]
    device = "plughw:CARD=Device,DEV=0"

    [alarm]
    minimum_seconds = 2.0

    [sinks.mqtt]
    host = "broker.local"

Every other key has a default, and a sink without a table is off. What the program doesn't know it refuses: a key that
is misspelt would otherwise silently leave its default in force.
"""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

Rate = Annotated[int, Meta(ge=4000, le=384_000)]
Channels = Annotated[int, Meta(ge=1, le=64)]
Number = Annotated[float, Meta(gt=0, le=1e6)]
Seconds = Annotated[float, Meta(ge=0, le=86400)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(pattern=r"^[0-9A-Za-z_.-]{0,64}\Z")]

BY_NUMBER = re.compile(r"(hw|plughw|dsnoop|sysdefault|front):(CARD=)?\d")


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file: immutable, and strict about what it doesn't know."""


class ModelSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the network is run.

    Attributes:
        threads: of the interpreter.
        runtime: "litert", "tflite-runtime", or "" for whichever is installed.
    """

    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    runtime: Literal["", "litert", "tflite-runtime"] = ""


class CaptureSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the samples come from: a microphone, a command that writes S16_LE PCM to its standard output, or a file.

    Attributes:
        device: the ALSA name of a microphone, which `arecord` records; by the card's id, for numbers are dealt anew at
            every start.
        command: program and arguments in its place; no shell is between.
        rate, channels: that the device or the command gives, Hz and samples in a frame. A sound file says its own.
        wav: a sound file, which is heard as a microphone would hear it, or a folder of them, each a clip by itself.
        pace: "realtime" plays the file as a microphone would hear it, "fast" as fast as it can be scored.
        channel: the one to listen to, counted from 0; -1 mixes all down.
    """

    device: Annotated[str, Meta(max_length=200)] = ""
    command: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    rate: Rate = 16000
    channels: Channels = 1
    wav: Path | None = None
    pace: Literal["realtime", "fast"] = "realtime"
    channel: Annotated[int, Meta(ge=-1, le=63)] = -1

    def __post_init__(self) -> None:
        given = [name for name in ("device", "command", "wav") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"found {' and '.join(given) or 'none'} of device, command and wav, expected one of them")
        if self.command and not self.command[0]:
            raise ValueError("command: its first item is '', expected the name of a program")
        for name in (self.device, *self.command):
            if BY_NUMBER.match(name):
                raise ValueError(
                    f"found the card by its number in {name!r}, which is another card after the next start; "
                    "expected its id, such as plughw:CARD=Device,DEV=0 (`arecord -L` lists them)"
                )
        if not self.wav and self.channel >= self.channels:
            raise ValueError(f"channel: found {self.channel}, expected -1 or less than channels ({self.channels})")
        if not self.wav and self.pace != "realtime":
            raise ValueError(f"pace: found {self.pace!r}, but only a wav has a pace; remove it")
        if self.wav and (self.rate, self.channels) != (16000, 1):
            raise ValueError("rate and channels belong to a command, a wav says its own; remove them")


class AlarmSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When scores become an alert; see `verdict.AlarmRule`.

    Attributes:
        threshold: "site": what `edge-asd commission` found here, and where that never ran the bundle's own; "alarm" or
            "decision", which the bundle knows; or a number.
        release: share of the threshold below which an alert ends.
        minimum_seconds: scores must stay strange for so long.
        cooldown_seconds: after an alert has ended, none is raised for so long.
    """

    threshold: Literal["site", "alarm", "decision"] | Number = "site"
    release: Annotated[float, Meta(gt=0, le=1)] = 0.9
    minimum_seconds: Seconds = 1.0
    cooldown_seconds: Seconds = 60.0


class SensorSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the microphone doesn't hear rightly; see `sensor.SensorRule`.

    Attributes:
        silence_dbfs: below this level (RMS) for `silence_seconds` it hears nothing; no room is as quiet as that.
        silence_seconds, stuck_seconds, absent_seconds: so long, before it is said.
        clipping_share: of the samples of 10 s at full scale, above which nothing that is heard can be trusted; some are
            of a machine that breaks, which is loud.
        level_db: how far the level of some minutes may be from that at commissioning; 0 doesn't look.
        rate_share: how far the number of samples in a minute may be from what was promised; 0 doesn't look.
    """

    silence_dbfs: Annotated[float, Meta(ge=-150, le=0)] = -85.0
    silence_seconds: Seconds = 10.0
    stuck_seconds: Seconds = 1.0
    absent_seconds: Seconds = 10.0
    clipping_share: Annotated[float, Meta(gt=0, le=1)] = 0.02
    level_db: Annotated[float, Meta(ge=0, le=100)] = 12.0
    rate_share: Annotated[float, Meta(ge=0, le=1)] = 0.02


class EventSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of the past, in SQLite: the newest so many events, of so many days, in so many MB.

    Attributes:
        keep, keep_days, keep_mb: the oldest go first.
        waiting: messages that are kept for a sink that is down.
    """

    keep: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    keep_days: Annotated[int, Meta(ge=1, le=36500)] = 365
    keep_mb: Annotated[int, Meta(ge=1, le=100_000)] = 64
    waiting: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000


class ClipSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sound around an alert, and a picture of it, in the state folder.

    Attributes:
        keep_mb: in all, the oldest go first; 0 keeps none.
        before_seconds, after_seconds: that are kept around the moment at which an alert is raised.
        format: "flac" takes half the space of "wav".
    """

    keep_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 200
    before_seconds: Annotated[float, Meta(ge=1, le=120)] = 20.0
    after_seconds: Annotated[float, Meta(ge=0, le=120)] = 10.0
    format: Literal["flac", "wav"] = "flac"


class PageSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The page on the device, and its figures for Prometheus under /metrics.

    Attributes:
        listen: address and port; who can reach another than the device's own needs the token.
        token_file: holds the token, 16 characters or more.
    """

    listen: str = "127.0.0.1:8765"
    token_file: Path | None = None

    def __post_init__(self) -> None:
        host, colon, port = self.listen.rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
            raise ValueError(f"listen: found {self.listen!r}, expected address:port, such as 127.0.0.1:8765")
        if not self.loopback and self.token_file is None:
            raise ValueError(
                f"listen: found {self.listen!r}, which others can reach, and no token_file; "
                "expected one with a token that they must know, or an address of 127.0.0.1"
            )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def loopback(self) -> bool:
        """Whether nobody but this device can reach it."""
        host = self.address[0]
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False


class JsonLinesSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every message as a line of JSON at the end of a file; from `keep_mb` on it begins anew, and the old one stays."""

    path: Path
    keep_mb: Annotated[int, Meta(ge=1, le=100_000)] = 10


class MqttSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An MQTT broker: every message at QoS 1, the state now and then, and what Home Assistant needs to find it.

    Attributes:
        host, port: of the broker.
        tls: encrypt, and have the broker prove who it is.
        ca_file: by whose certificate; the system's if there is none.
        cert_file, key_file: by which we prove who we are.
        username, password_file: for the broker.
        topic: the first part of all topics; the device's name is the second.
        discovery: the prefix that Home Assistant listens to; "" tells it nothing.
        state_seconds: how often the state is published.
        keepalive: seconds of silence after which the broker takes us for gone.
    """

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    port: Port = 1883
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str = ""
    password_file: Path | None = None
    topic: Annotated[str, Meta(pattern=r"^[^#+\x00]{1,200}\Z")] = "edge-asd"
    discovery: Annotated[str, Meta(pattern=r"^[^#+\x00]{0,200}\Z")] = "homeassistant"
    state_seconds: Annotated[float, Meta(ge=0.1, le=86400)] = 10.0
    keepalive: Annotated[int, Meta(ge=5, le=3600)] = 60

    def __post_init__(self) -> None:
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError("ca_file, cert_file and key_file belong to TLS; set tls = true, or remove them")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("found one of cert_file and key_file, expected both or neither")


class WebhookSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A URL to which every message is posted as JSON.

    Attributes:
        url: http or https.
        token_file: what it holds is sent as `Authorization: Bearer ...`.
        timeout: seconds, for an answer.
    """

    url: str
    token_file: Path | None = None
    timeout: Annotated[float, Meta(gt=0, le=300)] = 10.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            shown = f"{parts.scheme}://{parts.hostname or ''}"  # a path may be a secret, too, and this goes into logs
            raise ValueError(f"url: found {shown!r}, expected http:// or https:// and a host, without a password")


class SinkSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told besides the database in the state folder; whoever has no table is not told."""

    json_lines: JsonLinesSettings | None = None
    mqtt: MqttSettings | None = None
    webhook: WebhookSettings | None = None


class DeviceConfig(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        bundle: path of the .easd file.
        section: whose normal clips the sound is held against; "" is the bundle's only one.
        state: folder for events, status, kept sounds, and what was learned on site.
        name: of this device, for whoever is told; "" is the host's.
        page: of the device; there is none without its table.
    """

    bundle: Path
    state: Path
    capture: CaptureSettings
    section: str = ""
    name: Name = ""
    model: ModelSettings = ModelSettings()
    alarm: AlarmSettings = AlarmSettings()
    sensor: SensorSettings = SensorSettings()
    events: EventSettings = EventSettings()
    clips: ClipSettings = ClipSettings()
    page: PageSettings | None = None
    sinks: SinkSettings = SinkSettings()

    @property
    def device(self) -> str:
        """What it is called: its name, or the host's without what no topic should hold."""
        return self.name or re.sub(r"[^0-9A-Za-z_.-]", "-", socket.gethostname())[:64] or "edge-asd"
