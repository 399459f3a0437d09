"""`device.toml`: what this device listens to, with which bundle, and when it raises an alert.

    bundle = "fan.easd"
    section = "00"              # may be left out where the bundle has one section
    state = "/var/lib/edge-asd"

    [capture]
    command = ["arecord", "-q", "-D", "plughw:1", "-f", "S16_LE", "-r", "16000", "-c", "1", "-t", "raw"]

    [alarm]
    threshold = "alarm"

Every other key has a default. What the program doesn't know it refuses: a key that is misspelt would otherwise
silently leave its default in force.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge_asd.errors import ConfigError

LARGEST_CONFIG = 64 << 10  # bytes

Rate = Annotated[int, Meta(ge=4000, le=384_000)]
Channels = Annotated[int, Meta(ge=1, le=64)]
Number = Annotated[float, Meta(gt=0, le=1e6)]


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
    """Where the samples come from: a command that writes S16_LE PCM to its standard output, or a sound file.

    Attributes:
        command: program and arguments; no shell is between.
        rate, channels: of the command's PCM, Hz and samples in a frame. A sound file says its own.
        wav: the sound file.
        pace: "realtime" plays the file as a microphone would hear it, "fast" as fast as it can be scored.
        channel: the one to listen to, counted from 0; -1 mixes all down.
    """

    command: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    rate: Rate = 16000
    channels: Channels = 1
    wav: Path | None = None
    pace: Literal["realtime", "fast"] = "realtime"
    channel: Annotated[int, Meta(ge=-1, le=63)] = -1

    def __post_init__(self) -> None:
        if bool(self.command) == (self.wav is not None):
            found = "both" if self.command else "neither"
            raise ValueError(f"found {found} of command and wav, expected one of them")
        if self.command and not self.command[0]:
            raise ValueError("command: its first item is '', expected the name of a program")
        if self.command and self.channel >= self.channels:
            raise ValueError(f"channel: found {self.channel}, expected -1 or less than channels ({self.channels})")
        if self.command and self.pace != "realtime":
            raise ValueError(f"pace: found {self.pace!r}, but only a wav has a pace; remove it")
        if self.wav and (self.rate, self.channels) != (16000, 1):
            raise ValueError("rate and channels belong to a command, a wav says its own; remove them")


class AlarmSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When scores become an alert; see `verdict.AlarmRule`.

    Attributes:
        threshold: "alarm" or "decision", which the bundle knows, or a number.
        release: share of the threshold below which an alert ends.
        minimum_seconds: scores must stay strange for so long.
    """

    threshold: Literal["alarm", "decision"] | Number = "alarm"
    release: Annotated[float, Meta(gt=0, le=1)] = 0.9
    minimum_seconds: Annotated[float, Meta(ge=0, le=86400)] = 1.0


class EventSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of the past: the newest so many events."""

    keep: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000


class DeviceConfig(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        bundle: path of the .easd file.
        section: whose normal clips the sound is held against; "" is the bundle's only one.
        state: folder for events and status.
    """

    bundle: Path
    state: Path
    capture: CaptureSettings
    section: str = ""
    model: ModelSettings = ModelSettings()
    alarm: AlarmSettings = AlarmSettings()
    events: EventSettings = EventSettings()


_TABLES: dict[str, type[Settings]] = {
    "": DeviceConfig,
    "model": ModelSettings,
    "capture": CaptureSettings,
    "alarm": AlarmSettings,
    "events": EventSettings,
}
_ALLOWED = {
    "model.runtime": 'allowed are "", "litert" and "tflite-runtime"',
    "capture.pace": 'allowed are "realtime" and "fast"',
    "alarm.threshold": 'allowed are "alarm", "decision" and a number above 0',
}


def load(path: Path) -> DeviceConfig:
    """Read a device's configuration; relative paths in it start at the file's folder.

    Raises:
        ConfigError: no such file, not TOML, or a key that is missing, unknown, of the wrong type or out of range.
    """
    found = _read(path)

    def absolute(wanted: type, value: object) -> Path:
        if wanted is not Path or not isinstance(value, str) or not value:
            raise ValueError("Expected a path")
        return path.parent.absolute() / value

    try:
        return msgspec.convert(found, DeviceConfig, dec_hook=absolute)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error), found)}.") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_CONFIG + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); give the path of a device.toml.") from error
    if len(content) > LARGEST_CONFIG:
        raise ConfigError(f"{path}: larger than {LARGEST_CONFIG >> 10} KiB; is it the right file?")
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}.") from error


def _explain(problem: str, found: dict[str, Any]) -> str:
    """The sentence of msgspec, the key first, and after it the value that was found and what is allowed."""
    sentence, _, place = problem.partition(" - at `$.")
    key = place.rstrip("`")
    sentence = sentence[:1].lower() + sentence[1:]
    parts = [f"{key}: {sentence}" if key else sentence]
    value = _at(key, found)
    if "unknown field" in sentence:
        if key in _TABLES:
            parts.append(f"known are {', '.join(field.name for field in msgspec.structs.fields(_TABLES[key]))}")
    elif not isinstance(value, dict) and not sentence.startswith(("invalid enum value", "object")):
        parts.append(f"found {value!r}")
    if key in _ALLOWED:
        parts.append(_ALLOWED[key])
    return "; ".join(parts)


def _at(key: str, found: dict[str, Any]) -> object:
    """The value at a key path such as `model.threads`; the innermost one that is there."""
    value: Any = found
    for name in key.replace("[", ".").split("."):
        if not isinstance(value, dict) or name not in value:
            return value
        value = value[name]
    return value
