"""The one command line, `edge-asd`: each room of the house declares its commands, this collects them.

A room is an entry point of the group `edge_asd.rooms`: a function that takes the `CommandLine` and adds to it. Rooms
import nothing heavy until one of their commands is called, so the device starts fast and without PyTorch on its disk.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Annotated, NoReturn

import typer

from edge_asd import __version__, logs
from edge_asd.ending import guarded
from edge_asd.errors import MissingRequirement

GROUPS = {
    "data": "Data sets: make, fetch and check them.",
    "bundle": "Bundles (.easd): look into them, verify them, sign them.",
    "release": "On a device: the steps of a deployment, which `edge-asd deploy` calls there.",
}


class CommandLine:
    """What a room adds its commands to."""

    def __init__(self) -> None:
        self.app = typer.Typer(
            name="edge-asd",
            help="Anomalous-sound detection that trains on a workstation and listens on a Raspberry Pi.",
            no_args_is_help=True,
            add_completion=False,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
        )
        self._groups: dict[str, typer.Typer] = {}

    def group(self, name: str) -> typer.Typer:
        """The group of commands `edge-asd NAME ...`, shared by all rooms."""
        if name not in self._groups:
            self._groups[name] = typer.Typer(help=GROUPS[name], no_args_is_help=True, rich_markup_mode=None)
            self.app.add_typer(self._groups[name], name=name)
        return self._groups[name]


def elsewhere(target: str, command: str, *options: str) -> NoReturn:
    """Call a command on a device that SSH finds: the operator's room knows how, by an entry point.

    Raises:
        MissingRequirement: it isn't installed here, as on a device it isn't.
    """
    for way in entry_points(group="edge_asd.remote"):
        sys.exit(way.load()(target, command, options))
    raise MissingRequirement(
        f"{target}: another device is asked from a workstation, and what does that isn't installed here; "
        "on the device itself leave it out."
    )


def build() -> typer.Typer:
    """The command line with every room's commands."""
    line = CommandLine()
    line.app.callback()(_options)
    for room in sorted(entry_points(group="edge_asd.rooms"), key=lambda room: room.name):
        room.load()(line)
    return line.app


def main() -> None:
    """Run `edge-asd`."""

    def called() -> None:
        build()()

    guarded(called)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edge-asd {__version__}")
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")] = False,
) -> None:
    logs.start(verbose=verbose)
