"""`edge-asd commission`: the command. It asks the daemon that has the microphone, or listens itself where none runs."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asd import json_lines, progress
from edge_asd.errors import CheckFailed, UsageError
from edge_asd.owner import act_as_owner
from edge_asd.plain import plain

if TYPE_CHECKING:
    from edge_asd.commission_desk import Report, Request
    from edge_asd.settings import DeviceConfig

LOOK_SECONDS = 0.5


def commission(
    config: Annotated[Path, typer.Option(help="The device's configuration, device.toml.")],
    *,
    minutes: Annotated[float, typer.Option(help="How long to listen, 8 or more; hours and days say more.")] = 30.0,
    false_alarms: Annotated[float, typer.Option(help="At most so many a week; 0.25 is one in 4 weeks.")] = 1.0,
    clips: Annotated[int, typer.Option(min=1, max=256, help="That the site's own bank keeps at most.")] = 64,
    undo: Annotated[bool, typer.Option("--undo", help="Go back to what was in force before the last time.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Learn the machine where it stands, as it runs now and well: its own clips, and a threshold. No training.

    Half of the time it takes clips for the site's own bank, in the other half it measures what the machine scores
    against them, and sets the alarm threshold for so many false alarms a week. Only time in which the microphone hears
    rightly counts. Ctrl-C gives it up; a lost connection doesn't. What it learns is kept over updates.

    Example: edge-asd commission --config /etc/edge-asd/device.toml --minutes 60
    """
    from edge_asd.workers import one_thread

    with one_thread():  # as the daemon, should it be this process that listens
        from edge_asd import commission_desk as desk
        from edge_asd import config as settings
        from edge_asd import status

    device = settings.load(config)
    act_as_owner(device.state)
    if undo:
        _undo(device.state, json=json)
        return
    request = _request(minutes, false_alarms, clips)
    if device.alarm.threshold != "site":
        progress.say(
            f"warning: {config} says threshold = {device.alarm.threshold!r} under [alarm], which stays in force; "
            "remove that line, and the one that is found here is."
        )
    desk.ask(device.state, request)
    try:
        report = _watched(device.state, request) if status.alive(device.state) else _listened(device, request)
    except KeyboardInterrupt:
        if desk.requested(device.state) == request:
            desk.withdraw(device.state)
        raise CheckFailed("commissioning was given up; all is as it was.") from None
    if report.site is None:
        raise CheckFailed(f"nothing was learned: {report.refusal}")
    if json:
        json_lines.tell(report.site)
        return
    for text in desk.lines(report.site):
        typer.echo(plain(text))


def _request(minutes: float, false_alarms: float, clips: int) -> Request:
    import msgspec

    from edge_asd.commission_desk import Request

    try:
        return msgspec.convert(
            {"id": uuid.uuid4().hex, "minutes": minutes, "false_alarms": false_alarms, "clips": clips}, Request
        )
    except msgspec.ValidationError as error:
        found = f"--minutes {minutes:g}, --false-alarms {false_alarms:g}"
        raise UsageError(f"{found}: {error}; expected 8 minutes to a day, and more than 0 false alarms.") from error


def _undo(state: Path, *, json: bool) -> None:
    from edge_asd import site

    before = site.undo(state)
    if json:
        json_lines.tell(before)
    elif before:
        typer.echo(f"in force again: what was learned {before.made_utc}, threshold {before.threshold:.6g}")
    else:
        typer.echo("in force again: the bundle alone, with its own threshold")


def _watched(state: Path, request: Request) -> Report:
    """Wait for the daemon, which does the work."""
    from edge_asd import commission_desk as desk
    from edge_asd import status

    with progress.bar("commissioning, %", 100) as bar:
        shown = 0
        while (report := desk.reported(state, request.id)) is None:
            if not status.alive(state):
                raise CheckFailed(
                    f"{state}: the daemon ended; the request stays, and is begun anew when it starts. "
                    f"Remove {state / desk.REQUEST} to give it up."
                )
            if desk.requested(state) != request and desk.reported(state, request.id) is None:
                raise CheckFailed(f"{state}: the request was taken away, or another one took its place.")
            found = status.read(state)
            done = round(100 * found.commissioning.done) if found and found.commissioning else shown
            bar.advance(done - shown)
            shown = done
            time.sleep(LOOK_SECONDS)
    return report


def _listened(device: DeviceConfig, request: Request) -> Report:
    """Listen in this process, until it is done."""
    from edge_asd import commission_desk as desk
    from edge_asd import daemon

    found: list[Report] = []

    def done() -> bool:
        gone = not (device.state / desk.REQUEST).exists()
        if gone and not found and (report := desk.reported(device.state, request.id)):
            found.append(report)
        return bool(found)

    try:
        summary = daemon.run(device, until=done)
        if done():  # perhaps with the recording's last second
            return found[0]
    finally:
        if not found:  # or the next daemon would take it up
            desk.withdraw(device.state)
    if summary.stopped:
        raise KeyboardInterrupt
    return desk.Report(request.id, refusal=f"the recording ended after {summary.heard_seconds / 60:.1f} minutes.")
