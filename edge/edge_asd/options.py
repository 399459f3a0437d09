"""Options that several commands take, and what they mean."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from edge_asd.cli import elsewhere
from edge_asd.errors import UsageError


class Interpreter(StrEnum):
    """The TFLite interpreters, as they are typed."""

    LITERT = "litert"
    TFLITE_RUNTIME = "tflite-runtime"


Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]
Device = Annotated[
    str | None, typer.Argument(metavar="[USER@HOST]", help="A device that ssh finds; this machine by default.")
]
State = Annotated[Path | None, typer.Option(help="State folder of the daemon.")]
Config = Annotated[Path | None, typer.Option(help="The device.toml that names the state folder.")]


def ask(device: str, command: str, named: Path | None, *options: str, json: bool) -> NoReturn:
    """Call a command of another device, with its own settings. Raises: UsageError, where files of here were named."""
    if named:
        raise UsageError(f"{named}: {device} has files of its own; leave it out.")
    elsewhere(device, command, *options, *(["--json"] if json else []))


def state_folder(state: Path | None, config: Path | None) -> Path:
    """The folder that was named, by itself or by a configuration. Raises: UsageError, ConfigError."""
    if state and not config:
        return state
    if config and not state:
        from edge_asd import config as settings

        return settings.load(config).state
    raise UsageError("say either --state FOLDER or --config device.toml.")
