"""Reads `device.toml` into its `settings`, or says what is wrong: file, line, key, what was found, what is allowed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from edge_asd.errors import ConfigError
from edge_asd.settings import (
    AlarmSettings,
    CaptureSettings,
    ClipSettings,
    DeviceConfig,
    EventSettings,
    JsonLinesSettings,
    ModelSettings,
    MqttSettings,
    PageSettings,
    SensorSettings,
    Settings,
    SinkSettings,
    WebhookSettings,
)

LARGEST_CONFIG = 64 << 10  # bytes
LARGEST_SECRET = 4 << 10

_TABLES: dict[str, type[Settings]] = {
    "": DeviceConfig,
    "model": ModelSettings,
    "capture": CaptureSettings,
    "alarm": AlarmSettings,
    "sensor": SensorSettings,
    "events": EventSettings,
    "clips": ClipSettings,
    "page": PageSettings,
    "sinks": SinkSettings,
    "sinks.json_lines": JsonLinesSettings,
    "sinks.mqtt": MqttSettings,
    "sinks.webhook": WebhookSettings,
}
_ALLOWED = {
    "model.runtime": 'allowed are "", "litert" and "tflite-runtime"',
    "capture.pace": 'allowed are "realtime" and "fast"',
    "clips.format": 'allowed are "flac" and "wav"',
    "alarm.threshold": 'allowed are "site", "alarm", "decision" and a number above 0',
}


def load(path: Path) -> DeviceConfig:
    """Read a device's configuration; relative paths in it start at the file's folder.

    Raises:
        ConfigError: no such file, not TOML, or a key that is missing, unknown, of the wrong type or out of range.
    """
    return parse(read(path, "device.toml", LARGEST_CONFIG), path)


def parse(text: str, path: Path) -> DeviceConfig:
    """The text of a device's configuration that lies at `path`, here or on a device. Raises: ConfigError, as `load`."""
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of more digits than Python takes
        raise ConfigError(f"{path}: is not TOML: {error}.") from error

    def absolute(wanted: type, value: object) -> Path:
        if wanted is not Path or not isinstance(value, str) or not value:
            raise ValueError("Expected a path")
        return path.parent.absolute() / value

    try:
        return msgspec.convert(found, DeviceConfig, dec_hook=absolute)
    except msgspec.ValidationError as error:
        problem, key = _explain(str(error), found)
        line = _line_of(key, text)
        raise ConfigError(f"{path}{f', line {line}' if line else ''}: {problem}.") from error


def secret(path: Path) -> str:
    """A password or a token from its file, which holds nothing else. Raises: ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_SECRET + 1)
        found = content.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read as a password or token ({error}); mend its permissions.") from error
    if not found or len(content) > LARGEST_SECRET or not found.isprintable():
        raise ConfigError(f"{path}: expected one line with a password or token, found {len(content)} bytes.")
    return found


def read(path: Path, kind: str, largest: int) -> str:
    """The text of a configuration file of a kind, such as device.toml, and of so many bytes at most.

    Raises:
        ConfigError: it can't be read, or isn't one by its size or its encoding.
    """
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); give the path of a {kind}.") from error
    if len(content) > largest:
        raise ConfigError(f"{path}: larger than {largest >> 10} KiB; is it the right file?")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}.") from error


def _explain(problem: str, found: dict[str, Any]) -> tuple[str, str]:
    """The sentence of msgspec, the key first, and after it the value that was found and what is allowed; and the key.

    The key of an unknown field is its own, not its table's.
    """
    sentence, _, place = problem.partition(" - at `$.")
    key = place.rstrip("`")
    sentence = sentence[:1].lower() + sentence[1:]
    parts = [f"{key}: {sentence}" if key else sentence]
    value, culprit = _at(key, found), key
    if unknown := re.search("unknown field `([^`]*)`", sentence):
        culprit = f"{key}.{unknown[1]}".lstrip(".")
        if key in _TABLES:
            parts.append(f"known are {', '.join(field.name for field in msgspec.structs.fields(_TABLES[key]))}")
    elif of_the_table := re.match(r"(\w+): found", sentence):
        culprit = f"{key}.{of_the_table[1]}"
    elif not isinstance(value, dict) and not sentence.startswith(("invalid enum value", "object")):
        parts.append(f"found {value!r}")
    if key in _ALLOWED:
        parts.append(_ALLOWED[key])
    return "; ".join(parts), culprit


def _line_of(key: str, text: str) -> int:
    """In which line of a TOML file a key is set, or its table begins; 0 where neither is to be seen."""
    wanted, table, line_of_table = re.sub(r"\[.*", "", key), "", 0
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):  # blanks without end would cost hours below
        if header := re.match(r"\[([^\[\]]+)\]", line):
            table = re.sub(r"[\s\"']", "", header[1])
            if wanted == table or wanted.startswith(f"{table}."):
                line_of_table = number
        elif (setting := re.match(r"[^=#\[]+=", line)) and f"{table}.{setting[0][:-1].strip()}".lstrip(".") == wanted:
            return number
    return line_of_table


def _at(key: str, found: dict[str, Any]) -> object:
    """The value at a key path such as `model.threads`; the innermost one that is there."""
    value: Any = found
    for name in key.replace("[", ".").split("."):
        if not isinstance(value, dict) or name not in value:
            return value
        value = value[name]
    return value
