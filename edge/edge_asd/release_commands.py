"""`edge-asd release`: what a workstation calls on a device, and a person there may as well, by sudo."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asd import json_lines
from edge_asd.cli import CommandLine
from edge_asd.errors import UsageError

if TYPE_CHECKING:
    from edge_asd.release import Deployed
    from edge_asd.service import Service

Root = Annotated[Path, typer.Option(metavar="DIR", help="The device's /; another folder is a stand-in for one.")]
Bundle = Annotated[Path, typer.Option("--bundle", "-b", help="The bundle, .easd; its signature lies beside it.")]
Deaf = Annotated[bool, typer.Option("--accept-deaf", help="Commit though the microphone isn't heard yet.")]
Older = Annotated[bool, typer.Option("--allow-older", help="The bundle may be older than the one that runs.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]

DEVICE = Path("/")


def register(line: CommandLine) -> None:
    """Add the group."""
    group = line.group("release")
    group.command("activate")(activate)
    group.command("shadow")(shadow)
    group.command("promote")(promote)
    group.command("drop")(drop)
    group.command("rollback")(rollback)
    group.command("status")(status)


def activate(
    bundle: Bundle,
    *,
    environment: Annotated[Path, typer.Option(help="The virtual environment that it is to run in; this one.")] = Path(
        sys.prefix
    ),
    first_config: Annotated[Path | None, typer.Option(help="A device.toml for a device that has none.")] = None,
    root: Root = DEVICE,
    accept_deaf: Deaf = False,
    allow_older: Older = False,
    json: Json = False,
) -> None:
    """Let a bundle take over, as one transaction: it runs at the end and has scored, or all is as it was.

    Example: edge-asd release activate --bundle fan.easd
    """
    from edge_asd import release
    from edge_asd.release import Provision

    given = Provision(environment, _text(first_config), allow_older)
    tell = _telling(json=json)
    _outcome(release.activate(root, bundle, given, service=_service(root, accept_deaf=accept_deaf), report=tell), tell)


def shadow(bundle: Bundle, *, root: Root = DEVICE, allow_older: Older = False, json: Json = False) -> None:
    """Let a bundle score beside the one that runs; `edge-asd shadow` compares them.

    Example: edge-asd release shadow --bundle new.easd
    """
    from edge_asd import release
    from edge_asd.release import Provision

    tell = _telling(json=json)
    given = Provision(Path(sys.prefix), allow_older=allow_older)
    _outcome(release.shadow(root, bundle, given, service=_service(root), report=tell), tell)


def promote(root: Root = DEVICE, accept_deaf: Deaf = False, json: Json = False) -> None:
    """Let the bundle that is tried take over.

    Example: edge-asd release promote
    """
    from edge_asd import release

    tell = _telling(json=json)
    _outcome(release.promote(root, service=_service(root, accept_deaf=accept_deaf), report=tell), tell)


def drop(root: Root = DEVICE, json: Json = False) -> None:
    """End the trial of a bundle.

    Example: edge-asd release drop
    """
    from edge_asd import release

    tell = _telling(json=json)
    _outcome(release.drop(root, service=_service(root), report=tell), tell)


def rollback(root: Root = DEVICE, accept_deaf: Deaf = False, json: Json = False) -> None:
    """Go back to the release before; once more goes forward again.

    Example: edge-asd release rollback
    """
    from edge_asd import release

    tell = _telling(json=json)
    _outcome(release.rollback(root, service=_service(root, accept_deaf=accept_deaf), report=tell), tell)


def status(root: Root = DEVICE, json: Json = False) -> None:
    """Which release runs, which ones are kept, and which one is tried.

    Example: edge-asd release status
    """
    from edge_asd import release

    found = release.status(root)
    if json:
        import dataclasses

        json_lines.tell(dataclasses.asdict(found))
        return
    doubt = "" if found.committed else ", which hasn't proved itself"
    typer.echo(f"current    {found.current or 'none'}{doubt}")
    typer.echo(f"kept       {', '.join(found.kept[1:]) or 'none'}")
    typer.echo(f"shadow     {found.shadow or 'none'}")


def _service(root: Path, *, accept_deaf: bool = False) -> Service:
    from edge_asd.service import Rehearsal, Systemd

    if root != DEVICE:
        if accept_deaf:
            raise UsageError("--accept-deaf: belongs to a device; a stand-in has no microphone.")
        return Rehearsal()
    os.umask(0o022)  # whatever root's is: the daemon's account reads what is written
    return Systemd(accept_deaf=accept_deaf)


def _text(path: Path | None) -> str | None:
    """Of a file; None where there is none to be. Raises: UsageError, where it can't be read."""
    try:
        return None if path is None else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--first-config: {path} can't be read ({error}); give the path of a device.toml.") from error


def _telling(*, json: bool) -> Callable[[str, str], None]:
    """How each step is said. Whoever listens may be gone, which ends no transaction: it goes on to its end."""
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was begun is taken back

    def tell(step: str, outcome: str) -> None:
        try:
            if json:
                json_lines.tell({"say": [step, outcome]})
            else:
                sys.stdout.write(f"{step:<10}{outcome}\n")
                sys.stdout.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())  # or the end of the process would try once more, and fail
            os.close(nowhere)

    return tell


def _outcome(deployed: Deployed, tell: Callable[[str, str], None]) -> None:
    tell("done", f"{deployed.current} {'runs' if deployed.changed else 'ran already: nothing was changed'}")
