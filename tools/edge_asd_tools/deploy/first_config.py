"""The first device.toml of a site: what its board starts with, and what the command said."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import tomli_w

from edge_asd import progress
from edge_asd.errors import UsageError
from edge_asd.settings import DeviceConfig
from edge_asd_tools.deploy.boards import Board

Pace = Literal["realtime", "fast"]

_HEADER = """\
# This device's settings, written by its first deployment from the board {board}.
# They are the site's from now on: no deployment changes this file again. Relative paths start at its folder.

"""


@dataclass(frozen=True)
class Wishes:
    """What the command says of the site; None where it says nothing.

    Attributes:
        section: whose normal clips the sound is held against.
        wav: a sound file in place of the microphone.
        pace: of that file.
    """

    section: str | None = None
    wav: Path | None = None
    pace: Pace | None = None


def compose(board: Board, wishes: Wishes, sections: Collection[str]) -> str:
    """The text of a first device.toml.

    Args:
        board: what it starts with.
        wishes: what the command says.
        sections: those of the bundle.

    Raises:
        UsageError: the bundle has no such section, or several and none was named; or a pace of no sound file.
    """
    capture: dict[str, object] = msgspec.to_builtins(board.capture)
    if wishes.pace and not wishes.wav:
        raise UsageError("--pace: belongs to --wav, a microphone has its own pace; say --wav too or leave it out.")
    if wishes.wav:
        capture = {"wav": str(wishes.wav.resolve()), "pace": wishes.pace or "realtime"}
    document = {
        "bundle": "../../opt/edge-asd/current/bundle.easd",
        "section": _section(wishes.section, sections),
        "state": "../../var/lib/edge-asd",
        "model": msgspec.to_builtins(board.model),
        "capture": capture,
        **{table: msgspec.to_builtins(getattr(board, table)) for table in ("alarm", "events", "clips")},
    }
    if not wishes.wav:  # of what hears a recording there may be several on one machine, and the port is one
        document["page"] = {"listen": board.page.listen}
    return _HEADER.format(board=board.board.name) + tomli_w.dumps(document)


def hold_against(site: DeviceConfig, wishes: Wishes, board: str | None, path: Path) -> None:
    """Refuse wishes that a site's settings already answer otherwise: better than to leave them out in silence.

    Of a board only the wheels still count, which is said.

    Raises:
        UsageError: naming the option, and where to mend the settings.
    """
    wav = wishes.wav.resolve() if wishes.wav else None
    for option, wanted, found in (
        ("--section", wishes.section, site.section),
        ("--wav", wav, site.capture.wav),
        ("--pace", wishes.pace, site.capture.pace),
    ):
        if wanted is not None and wanted != found:
            raise UsageError(
                f"{option}: found {str(wanted)!r}, the site's settings say {str(found or '')!r} and no deployment "
                f"changes them; edit {path} or leave {option} out."
            )
    if board:
        progress.say(f"--board changes nothing in {path}, which is the site's own since its first deployment.")


def _section(wanted: str | None, sections: Collection[str]) -> str:
    known = ", ".join(sorted(sections))
    if wanted is None and len(sections) == 1:
        return next(iter(sections))
    if wanted is None:
        raise UsageError(f"the bundle has sections {known}; say with --section which one this device listens to.")
    if wanted not in sections:
        raise UsageError(f"--section: found {wanted!r}, the bundle has {known}.")
    return wanted
