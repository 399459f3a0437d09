"""What a board is, and what its first device.toml starts from: `firmware_configs/<board>.toml`."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

import edge_asd_tools
from edge_asd.errors import ConfigError, UsageError
from edge_asd.settings import AlarmSettings, ClipSettings, EventSettings, ModelSettings, PageSettings

LARGEST_FILE = 64 << 10

WheelPlatform = Annotated[str, Meta(pattern=r"^manylinux(_2_[0-9]{1,2}|2014)_(aarch64|x86_64)$")]
PythonVersion = Annotated[str, Meta(pattern=r"^3\.[0-9]{1,2}$")]
Count = Annotated[int, Meta(ge=1)]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file: immutable, and strict about what it doesn't know."""


class Facts(Table, frozen=True):
    """What the board is.

    Attributes:
        name: the file's, without its ending.
        title: for people.
        wheel_platform: platform tags of the wheels that run on it, best first.
        python: the versions that its system images come with.
        memory_mb: at least.
        cores: at least.
        models: how such a board calls itself (`/proc/device-tree/model`), up to its revision.
    """

    name: str
    title: str
    wheel_platform: Annotated[tuple[WheelPlatform, ...], Meta(min_length=1)]
    python: Annotated[tuple[PythonVersion, ...], Meta(min_length=1)]
    memory_mb: Annotated[int, Meta(ge=64)]
    cores: Count
    models: tuple[str, ...] = ()


class Microphone(Table, frozen=True):
    """The microphone that the board starts with: its ALSA name, its rate in Hz and its channels."""

    device: Annotated[str, Meta(min_length=1)]
    rate: Count
    channels: Count


class Board(Table, frozen=True):
    """One board."""

    board: Facts
    model: ModelSettings
    capture: Microphone
    alarm: AlarmSettings
    events: EventSettings
    clips: ClipSettings
    page: PageSettings


def names(folder: Path | None = None) -> list[str]:
    """The boards that there are a file for, sorted. Raises: ConfigError where the files are missing altogether."""
    found = sorted(path.stem for path in (folder or configs_folder()).glob("*.toml"))
    if not found:
        raise ConfigError(f"{folder or configs_folder()}: holds no board; install edge-asd again.")
    return found


def read(name: str, folder: Path | None = None) -> Board:
    """The board of this name.

    Raises:
        UsageError: there is none of this name.
        ConfigError: its file is not TOML, or a key is missing, unknown or out of range.
    """
    known = names(folder)
    if name not in known:  # a name, and never a path
        raise UsageError(f"there is no board {name!r}; boards are {', '.join(known)}.")
    path = (folder or configs_folder()) / f"{name}.toml"
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE)
    try:
        board = msgspec.toml.decode(content, type=Board)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: is not a board ({error}); mend it there.") from error
    if board.board.name != name:
        raise ConfigError(f"{path}: is called {board.board.name!r} inside; a board's name is its file's.")
    return board


def this_machine() -> str:
    """The board that stands for the machine we are on."""
    return of_model("", platform.machine())


def of_model(model: str, machine: str) -> str:
    """The name of the board that calls itself so, or of one that stands for all with such a processor."""
    boards = [read(name) for name in names()] if model else []
    found = [board.board.name for board in boards if any(model.startswith(one) for one in board.board.models)]
    return (found or ["x86-64" if machine in {"x86_64", "AMD64"} else "generic-aarch64"])[0]


def configs_folder() -> Path:
    """`firmware_configs`: within the package where it is installed from a wheel, else in the source checkout."""
    package = Path(edge_asd_tools.__file__).parent
    inside = package / "firmware_configs"
    return inside if inside.is_dir() else package.parents[1] / "firmware_configs"
