"""`fleet.toml`: the devices of a fleet, in the order in which they get a release.

    at_once = 8                    # devices at a time, 1 to 64

    [defaults]                     # of the devices that don't say it themselves
    section = "00"
    board = "pi-4b"

    [[device]]
    host = "pi@shop-floor-7"       # as ssh finds it
    section = "01"                 # of the bundle; as --section, it counts where the device has no settings yet
    board = "pi-zero-2w"           # as --board; the device's own word where nothing says it

All but `host` may be left out, and anything else is refused.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edge_asd import config
from edge_asd.errors import ConfigError, UsageError
from edge_asd_tools.deploy import boards
from edge_asd_tools.deploy.boards import Table
from edge_asd_tools.deploy.ssh import Ssh

LARGEST_FILE = 1 << 20
MOST_DEVICES = 10_000
MOST_AT_ONCE = 64  # each is an ssh of its own, with three pipes

Name = Annotated[str, Meta(min_length=1, max_length=320)]


class Defaults(Table, frozen=True):
    """What devices needn't say."""

    section: Name | None = None
    board: Name | None = None


class Entry(Table, frozen=True):
    """One device: as ssh finds it, what it listens to, what it is."""

    host: Name
    section: Name | None = None
    board: Name | None = None


class File(Table, frozen=True):
    """The file as it is."""

    device: Annotated[tuple[Entry, ...], Meta(min_length=1, max_length=MOST_DEVICES)]
    defaults: Defaults = Defaults()
    at_once: Annotated[int, Meta(ge=1, le=MOST_AT_ONCE)] = 8


@dataclass(frozen=True)
class Fleet:
    """The devices, each with all that the file says of it, and how many of them are seen to at a time."""

    devices: tuple[Entry, ...]
    at_once: int


def read(path: Path) -> Fleet:
    """The fleet that a file lists.

    Raises:
        ConfigError: no such file, not TOML, a key that is missing, unknown or out of range, a host or a board that
            can't be, a device twice.
    """
    found = _document(path)
    try:
        file = msgspec.convert(found, File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error), found)}.") from error
    given = file.defaults
    devices = [Entry(one.host, one.section or given.section, one.board or given.board) for one in file.device]
    _check(path, devices)
    return Fleet(tuple(devices), file.at_once)


def _document(path: Path) -> dict[str, Any]:
    text = config.read(path, "fleet.toml", LARGEST_FILE)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}; mend it there.") from error


def _check(path: Path, devices: list[Entry]) -> None:
    """What a type doesn't say."""
    known = frozenset(boards.names())
    first: dict[str, str] = {}
    for device in devices:
        try:
            Ssh(device.host)
        except UsageError as error:
            raise ConfigError(f"{path}: host = {error}") from error
        if device.board is not None and device.board not in known:
            raise ConfigError(
                f"{path}: {device.host}: there is no board {device.board!r}; boards are {', '.join(sorted(known))}."
            )
        place = device.host.rpartition("@")[2].lower()  # by whatever account, it is the same device
        if place in first:
            raise ConfigError(
                f"{path}: {device.host} is there twice"
                f"{'' if first[place] == device.host else f', first as {first[place]}'}; take one of the two out."
            )
        first[place] = device.host


def _explain(problem: str, found: dict[str, Any]) -> str:
    """The sentence of msgspec with the device that it is about, and what is known where a key isn't."""
    sentence, _, place = problem.partition(" - at `$")
    sentence = sentence[:1].lower() + sentence[1:].replace(" | null", "")  # which TOML hasn't
    place = place.strip("`.")
    table: type[Table] = Defaults if place.startswith("defaults") else File
    if one := re.match(r"device\[(\d+)\]", place):
        table, number = Entry, int(one[1])
        device = found["device"][number]
        host = device.get("host", "") if isinstance(device, dict) else ""
        place = f"[[device]] number {number + 1}{f', {host!r}' if host else ''}{place[one.end() :].replace('.', ': ')}"
    if "unknown field" in sentence:
        sentence += f"; known are {', '.join(field.name for field in msgspec.structs.fields(table))}"
    if "required field" in sentence:
        sentence += '; a fleet has devices, each of them a [[device]] with host = "pi@shop-floor-7"'
    return f"{place}: {sentence}" if place else sentence
