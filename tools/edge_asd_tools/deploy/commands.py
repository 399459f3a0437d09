"""`edge-asd deploy` and what belongs to it: the commands. Whatever takes long to import is imported inside."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asd.cli import CommandLine
from edge_asd.errors import EdgeAsdError, UsageError

if TYPE_CHECKING:
    from edge_asd.transaction import Report
    from edge_asd_tools.deploy.device import Device, Order, Outcome


class Pace(StrEnum):
    """How fast a sound file is played, as it is typed."""

    REALTIME = "realtime"
    FAST = "fast"


Target = Annotated[str | None, typer.Argument(metavar="USER@HOST", help="As ssh finds it, its configuration included.")]
To = Annotated[Path | None, typer.Option(metavar="DIR", help="A folder that stands for the device's /.")]
Deaf = Annotated[bool, typer.Option("--accept-deaf", help="Done though the microphone isn't heard yet.")]


def register(line: CommandLine) -> None:
    """Add the commands."""
    for command in (deploy, promote, drop, undeploy, logs):
        line.app.command()(command)


def deploy(
    bundle: Annotated[Path | None, typer.Argument(metavar="BUNDLE", help="The bundle, .easd.")] = None,
    target: Target = None,
    *,
    to: To = None,
    fleet: Annotated[Path | None, typer.Option(metavar="FILE", help="Many devices: fleet.toml lists them.")] = None,
    wave: Annotated[
        str | None, typer.Option(metavar="1,5,25%", help="How many of them first, and next; then the rest.")
    ] = None,
    board: Annotated[str | None, typer.Option(help="A name in firmware_configs; the device's own word.")] = None,
    section: Annotated[str | None, typer.Option(help="What the device listens to, of the bundle's sections.")] = None,
    wav: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --to: a sound file in place of the microphone.")
    ] = None,
    pace: Annotated[Pace | None, typer.Option(help="Of the sound file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, change nothing.")] = False,
    shadow: Annotated[bool, typer.Option("--shadow", help="Let it score beside the running one.")] = False,
    accept_deaf: Deaf = False,
    allow_older: Annotated[
        bool, typer.Option("--allow-older", help="A signed bundle may be older than the one that runs.")
    ] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the previous release.")] = False,
    json: Annotated[bool, typer.Option("--json", help="With --fleet: the table, on standard output.")] = False,
) -> None:
    """Install or update a device: runtime, bundle, settings, service, as one transaction that the device runs itself.

    The new release scores its golden clip, starts and scores a window before it stays; otherwise the old one comes back
    by itself. The device needs SSH, Python and sudo without a password, and no network. --board and --section make the
    first device.toml; later deployments leave that file alone.

    Example: edge-asd deploy fan.easd pi@shop-floor-7 --section 00

    Many devices: edge-asd deploy fan.easd --fleet fleet.toml --wave 1,5,25%

    Go back: edge-asd deploy pi@shop-floor-7 --rollback

    On this machine: edge-asd deploy fan.easd --to device --section 00
    """
    from edge_asd import progress
    from edge_asd_tools.deploy import fleet_commands
    from edge_asd_tools.deploy.device import LocalDevice, Order
    from edge_asd_tools.deploy.first_config import Wishes

    wishes = Wishes(section, wav, pace.value if pace else None)
    named = bundle and bundle.suffix != ".easd" and not bundle.exists() and str(bundle)
    if target is None and named and (rollback or "@" in named):
        bundle, target = None, named
    if fleet:
        if bundle is None or target or to or board or wishes != Wishes() or (rollback and (shadow or dry_run)):
            raise UsageError(
                f"--fleet: takes the bundle, also with --rollback, which takes it back where it runs; devices, their "
                f"section and board are in {fleet}."
            )
        order = Order(bundle, None, wishes, shadow, accept_deaf, allow_older)
        fleet_commands.deploy(fleet, wave, order, rollback=rollback, dry_run=dry_run, json=json)
        return
    if wave or json:
        raise UsageError(f"--{'wave' if wave else 'json'}: belongs to --fleet fleet.toml; one device is no fleet.")
    device = _device(target, to)
    for wrong, why in (
        (accept_deaf and to, "--accept-deaf: belongs to a device; a stand-in has no microphone."),
        (wav and target, "--wav: belongs to --to DIR; a device hears its microphone, or what its device.toml says."),
        (wav and not wav.is_file(), f"--wav: there is no file {wav}; give the path of a WAV or FLAC file."),
    ):
        if wrong:
            raise UsageError(why)
    if rollback:
        if bundle or board or dry_run or shadow or wishes != Wishes():
            raise UsageError("--rollback goes to the release that is kept there; it takes the device and nothing else.")
        outcome = device.rollback(Order(accept_deaf=accept_deaf), _telling(device))
        progress.say(f"{outcome.release} runs again; the same command once more goes forward.")
        return
    if bundle is None:
        raise UsageError(
            "say which bundle: edge-asd deploy fan.easd pi@shop-floor-7, or --to DIR; or --rollback to go back."
        )
    order = Order(bundle, board, wishes, shadow, accept_deaf, allow_older)
    if dry_run:
        for change in device.plan(order) or ["change nothing: it runs already"]:
            progress.say(f"{'would':<10}{change}")
        return
    _say_outcome(device, order, device.deploy(order, _telling(device)))
    if isinstance(device, LocalDevice):
        progress.say(f"Settings    {device.config_path}")
        progress.say(f"Listen with {device.how_to_listen()}")


def promote(target: Target = None, *, to: To = None, accept_deaf: Deaf = False) -> None:
    """Let the bundle that is tried beside the running one take over: `edge-asd deploy --shadow` began that.

    What both scored is said first; `edge-asd shadow USER@HOST` says it without a change.

    Example: edge-asd promote pi@shop-floor-7
    """
    from edge_asd import progress
    from edge_asd_tools.deploy.device import Order

    device = _device(target, to)
    _say_comparison(target, to)
    outcome = device.promote(Order(accept_deaf=accept_deaf), _telling(device))
    progress.say(f"{outcome.release} runs. Back: edge-asd deploy {target or f'--to {to}'} --rollback")


def drop(target: Target = None, *, to: To = None) -> None:
    """End the trial of a bundle; the running one goes on.

    Example: edge-asd drop pi@shop-floor-7
    """
    from edge_asd import progress
    from edge_asd_tools.deploy.device import Order

    device = _device(target, to)
    _say_comparison(target, to)
    outcome = device.drop(Order(), _telling(device))
    progress.say(f"{outcome.release} runs alone again.")


def undeploy(
    target: Target = None,
    *,
    to: To = None,
    remove_data: Annotated[
        bool | None,
        typer.Option("--remove-data/--keep-data", help="Settings, events, what was learned on site; asked by default."),
    ] = None,
) -> None:
    """Remove edge-asd from a device: service, releases, runtimes; and the site's data, or not.

    Example: edge-asd undeploy pi@shop-floor-7
    """
    from edge_asd import progress

    device = _device(target, to)
    if remove_data is None:
        if not sys.stdin.isatty():
            raise UsageError("say whether the site's settings and events go, too: --remove-data or --keep-data.")
        question = f"Remove the settings, events and what was learned on {device.name}, too?"
        remove_data = typer.confirm(question, default=False, err=True)
    gone = device.undeploy(data=remove_data)
    for folder in gone:
        _telling(device)("remove", folder)
    progress.say(f"{device.name}: {'edge-asd is gone' if gone else 'nothing was deployed there'}.")


def logs(
    target: Annotated[str, typer.Argument(metavar="USER@HOST", help="As ssh finds it.")],
    lines: Annotated[int, typer.Option(min=1, max=100_000, help="So many, the newest.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
) -> None:
    """What the daemon of a device said: its journal.

    Example: edge-asd logs pi@shop-floor-7 --follow
    """
    from edge_asd_tools.deploy import remote

    words = ["journalctl", "--unit", "edge-asd", "--no-pager", "--lines", str(lines), *(["--follow"] if follow else [])]
    sys.exit(remote.run(target, words))


def _device(target: str | None, to: Path | None) -> Device:
    """The device that was named. Raises: UsageError, where none or two were."""
    from edge_asd_tools.deploy.device import LocalDevice
    from edge_asd_tools.deploy.remote_device import RemoteDevice
    from edge_asd_tools.deploy.ssh import Ssh

    if target and to:
        raise UsageError(f"say either {target} or --to {to}.")
    if to:
        return LocalDevice(to)
    if not target:
        raise UsageError("say where to: a device, such as pi@shop-floor-7, or a folder of this machine with --to DIR.")
    return RemoteDevice(Ssh(target))


def _telling(device: Device) -> Report:
    """Say each step, and keep it."""
    from edge_asd import progress
    from edge_asd_tools.deploy import deploy_log

    def tell(step: str, outcome: str) -> None:
        deploy_log.note(device.name, step, outcome)
        if step != "done":  # said in words of ours
            progress.say(f"{step:<10}{outcome}")

    return tell


def _say_outcome(device: Device, order: Order, outcome: Outcome) -> None:
    from edge_asd import progress
    from edge_asd_tools.deploy.device import LocalDevice

    here = "" if isinstance(device, LocalDevice) else f" on {device.name}"
    if order.shadow:
        said = "is tried beside the one that runs" if outcome.changed else "is tried or runs already"
        progress.say(
            f"{outcome.release} {said}{here}. Compare: edge-asd shadow {device.name}; then promote or drop it."
        )
    else:
        progress.say(f"{outcome.release} {'runs' if outcome.changed else 'ran already: nothing was changed'}{here}.")


def _say_comparison(target: str | None, to: Path | None) -> None:
    """What both bundles scored; that there is nothing to say yet hinders nobody."""
    from edge_asd import progress
    from edge_asd_tools.deploy import remote

    if target:
        try:
            # What was compared is written now and then; a reload has it written at once.
            remote.run(target, ["sh", "-c", "systemctl reload edge-asd && sleep 2"])
            remote.ask(target, "shadow")
        except EdgeAsdError as error:
            progress.say(f"edge-asd: nothing to compare: {error}")
        return
    from edge_asd import shadow_commands
    from edge_asd.errors import CheckFailed
    from edge_asd.release_tree import Tree

    try:
        shadow_commands.shadow(state=Tree(to or Path()).state)
    except CheckFailed as error:
        progress.say(f"edge-asd: {error}")
