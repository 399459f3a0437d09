"""`edge-asd shadow`: how a bundle on trial scores beside the one that runs."""

from __future__ import annotations

import typer

from edge_asd import json_lines
from edge_asd.cli import CommandLine
from edge_asd.errors import CheckFailed
from edge_asd.options import Config, Device, Json, State, ask, state_folder
from edge_asd.plain import plain


def register(line: CommandLine) -> None:
    """Add it."""
    line.app.command()(shadow)


def shadow(device: Device = None, *, state: State = None, config: Config = None, json: Json = False) -> None:
    """How a shadow, a bundle on trial, scores beside the one that runs: alerts, scores, ranks, where they disagree.

    What is shown is at most ten minutes old, and stays when the shadow ends. Exit code 1 where there never was one.

    Example: edge-asd shadow --state /var/lib/edge-asd
    """
    if device:
        ask(device, "shadow", state or config, json=json)
    from edge_asd import shadow_file, status

    folder = state_folder(state, config)
    record = shadow_file.read(folder)
    if record is None:
        raise CheckFailed(
            f"{folder}: no shadow ever scored with this state folder; give one to `edge-asd run --shadow`."
        )
    from edge_asd import shadow_standing

    now = status.read(folder)
    lasts = now is not None and now.shadow == record.shadow.bundle and status.alive(folder)
    found = shadow_standing.standing(record, lasts=lasts)
    if json:
        json_lines.tell(found)
    else:
        for text in shadow_standing.lines(found):
            typer.echo(plain(text))
