"""`edge-asd deploy`: the command. Whatever takes long to import is imported inside."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asd.errors import UsageError

if TYPE_CHECKING:
    from edge_asd_tools.deploy.device import LocalDevice
    from edge_asd_tools.deploy.first_config import Wishes


class Pace(StrEnum):
    """How fast a sound file is played, as it is typed."""

    REALTIME = "realtime"
    FAST = "fast"


def deploy(
    bundle: Annotated[Path | None, typer.Argument(metavar="BUNDLE", help="The bundle, .easd.")] = None,
    target: Annotated[str | None, typer.Argument(metavar="USER@HOST", help="Not in this version; use --to.")] = None,
    to: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder that stands for the device's /.")] = None,
    board: Annotated[str | None, typer.Option(help="A name in firmware_configs; this machine's by default.")] = None,
    section: Annotated[str | None, typer.Option(help="What the device listens to, of the bundle's sections.")] = None,
    wav: Annotated[Path | None, typer.Option(metavar="FILE", help="A sound file in place of the microphone.")] = None,
    pace: Annotated[Pace | None, typer.Option(help="Of the sound file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, change nothing.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the previous release.")] = False,
) -> None:
    """Install or update a device: bundle, runtime and settings, as one transaction.

    The new release scores its golden clip and runs its daemon before it stays; otherwise the old one comes back by
    itself. --board, --section, --wav and --pace make the first device.toml; later deployments leave that file alone.

    Example: edge-asd deploy fan.easd --to device --section 00

    Go back: edge-asd deploy --to device --rollback
    """
    from edge_asd import progress
    from edge_asd_tools.deploy.device import LocalDevice
    from edge_asd_tools.deploy.first_config import Wishes

    device = LocalDevice(_stand_in(bundle, target, to))
    wishes = Wishes(section, wav, pace.value if pace else None)
    if rollback:
        if bundle or board or dry_run or wishes != Wishes():
            raise UsageError("--rollback goes to the release that is kept there; it takes --to and nothing else.")
        deployed = device.rollback(_tell)
        progress.say(f"{deployed.current} runs again; the same command once more goes forward to {deployed.previous}.")
        return
    if bundle is None:
        raise UsageError("say which bundle: edge-asd deploy fan.easd --to DIR; or --rollback for the previous one.")
    first_config = _first_config(device, bundle, board, wishes)
    if dry_run:
        for change in device.plan(bundle, first_config) or ["change nothing: it runs already"]:
            _tell("would", change)
        return
    deployed = device.activate(bundle, first_config, _tell)
    progress.say(f"{deployed.current} {'runs' if deployed.changed else 'ran already: nothing was changed'}.")
    progress.say(f"Settings    {device.config_path}")
    progress.say(f"Listen with {device.how_to_listen()}")


def _stand_in(bundle: Path | None, target: str | None, to: Path | None) -> Path:
    """The folder to deploy to. Raises: UsageError, where it is a device on the network."""
    host = target or (str(bundle) if bundle and "@" in bundle.name and not bundle.exists() else None)
    if host:
        raise UsageError(
            f"{host}: deployment over SSH is not in this version; deploy to a folder with --to DIR, "
            "which on the device itself, as root, is --to /."
        )
    if to is None:
        raise UsageError("say where to: edge-asd deploy fan.easd --to DIR.")
    return to


def _first_config(device: LocalDevice, bundle: Path, board: str | None, wishes: Wishes) -> str | None:
    """The text of a first device.toml, or None where the site has its settings. Raises: UsageError."""
    from edge_asd import bundle as bundles
    from edge_asd import progress
    from edge_asd_tools.deploy import boards, first_config

    chosen = boards.read(board or boards.this_machine())
    if wishes.wav and not wishes.wav.is_file():
        raise UsageError(f"--wav: there is no file {wishes.wav}; give the path of a WAV or FLAC file.")
    site = device.settings()
    if site is None:
        return first_config.compose(chosen, wishes, bundles.read(bundle).manifest.sections)
    first_config.hold_against(site, wishes, device.config_path)
    if board:
        progress.say(
            f"--board changes nothing here: {device.config_path} is the site's own since its first deployment."
        )
    return None


def _tell(step: str, outcome: str) -> None:
    from edge_asd import progress

    progress.say(f"{step:<10}{outcome}")
