"""The commands of the operator's room."""

from __future__ import annotations

from edge_asd.cli import CommandLine
from edge_asd_tools.demo import demo
from edge_asd_tools.deploy import commands as deployment
from edge_asd_tools.synth.commands import synth


def register(line: CommandLine) -> None:
    """Add this room's commands. Their modules import what is heavy only when they are called."""
    deployment.register(line)
    line.app.command()(demo)
    line.group("data").command()(synth)
