"""`edge-asd deploy --fleet fleet.toml`: what is done with a fleet, what is said of it, and how it ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

from edge_asd import json_lines, progress
from edge_asd.errors import CheckFailed, ConfigError, DeploymentError
from edge_asd.release_record import bundle_of
from edge_asd.transaction import Report
from edge_asd_tools.deploy import deploy_log, fleet, waves
from edge_asd_tools.deploy.device import Device, Order, Outcome
from edge_asd_tools.deploy.first_config import Wishes
from edge_asd_tools.deploy.fleet import Entry
from edge_asd_tools.deploy.luggage import Packer
from edge_asd_tools.deploy.remote_device import RemoteDevice
from edge_asd_tools.deploy.rollout import Act, Member, Rollout, Row, Say, State
from edge_asd_tools.deploy.ssh import Ssh

MOST_NAMED = 5  # devices in a sentence; the table has them all


def deploy(path: Path, wave: str | None, order: Order, *, rollback: bool, dry_run: bool, json: bool) -> None:
    """Give a fleet a bundle, or take it back; the table of who is where comes last, however it ends.

    Args:
        path: of fleet.toml.
        wave: how many devices come first, and next; None for all at once.
        order: what each is asked for; section and board are the file's.
        rollback: the bundle is taken back, where it runs.
        dry_run: say what would change.
        json: the table goes to standard output, an object a device.

    Raises:
        UsageError, ConfigError, BundleError: before any device was asked.
        DeploymentError: a wave failed, or none of its devices answered, so that later ones weren't begun.
        CheckFailed: some devices can't be reached, all others are done.
        KeyboardInterrupt: it was interrupted; no device is half done.
    """
    listed = fleet.read(path)
    sizes = waves.sizes(len(listed.devices), wave)
    packer = Packer()
    stated = packer.parcel(order.bundle).bundle
    _check_sections(path, listed.devices, stated.manifest.sections)
    members = [
        Member(device_at(one.host, packer), replace(order, board=one.board, wishes=Wishes(one.section)))
        for one in listed.devices
    ]
    act = PLAN if dry_run else _taking_back(stated.digest) if rollback else DEPLOYMENT
    what = f"{'would ' if dry_run else ''}{'take back' if rollback else 'try' if order.shadow else 'deploy'}"
    say = _telling(max(len(member.device.name) for member in members))
    say("", "fleet", f"{what} {stated.manifest.machine}-{stated.digest}, devices: {len(members)}")
    rollout = Rollout(members, sizes, act, listed.at_once, say)
    try:
        rollout.run()
    finally:
        for row in rollout.rows if json else ():
            json_lines.tell(row)
        for line in () if json else table(rollout.rows):
            progress.say(line)
    _end(rollout)


def device_at(host: str, packer: Packer) -> Device:
    """The device that ssh finds by this name."""
    return RemoteDevice(Ssh(host), packer, quiet=True)


def table(rows: Sequence[Row]) -> list[str]:
    """Who is where: a line a device, below a heading; what is to be said of a device comes last."""
    cells = [("device", "wave", "before", "after", "state")]
    for row in rows:
        state = f"{row.state}{f': {row.why}' if row.why else ''}"
        cells.append((row.device, str(row.wave), row.before or "-", row.after or "-", state))
    widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:-1]]
    return ["  ".join([*map(str.ljust, line, widths), line[-1]]) for line in cells]


def _deploy(member: Member, report: Report) -> Outcome:
    return member.device.deploy(member.order, report)


def _undo(member: Member, outcome: Outcome, report: Report) -> str | None:
    """The device as it was, as far as its site's data allows; what runs there then."""
    device, order = member.device, member.order
    if order.shadow:
        return device.drop(order, report).release
    if outcome.before is None:
        for gone in device.undeploy(data=False):
            report("remove", gone)
        return None
    return device.rollback(order, report).release


def _plan(member: Member, report: Report) -> Outcome:
    changes = member.device.plan(member.order)
    for change in changes:
        report("would", change)
    return Outcome("", changed=bool(changes))


DEPLOYMENT = Act(_deploy, _undo)
PLAN = Act(_plan, changed=State.WOULD_CHANGE, cautious=False)


def _taking_back(digest: str) -> Act:
    """Go back from this bundle. It names whence, for a rollback twice goes forward again.

    So it doesn't go back to the same bundle in another environment either.
    """

    def take_back(member: Member, report: Report) -> Outcome:
        record = member.device.record()
        before = record.current
        if before is None or bundle_of(before) != digest:
            report("unchanged", f"{before or 'nothing'} runs, which isn't that bundle")
            return Outcome(before or "", changed=False, before=before)
        if record.previous and bundle_of(record.previous) == digest:
            raise DeploymentError(
                f"the release before, {record.previous}, is the same bundle in another environment; if that is what "
                f"you want back: edge-asd deploy {member.device.name} --rollback"
            )
        return replace(member.device.rollback(member.order, report), before=before)

    return Act(take_back)


def _check_sections(path: Path, devices: Sequence[Entry], known: Collection[str]) -> None:
    for one in devices:
        if one.section is not None and one.section not in known:
            raise ConfigError(
                f"{path}: {one.host}: found section {one.section!r}, the bundle has {', '.join(sorted(known))}; "
                "mend it there, or list the devices of another machine type in a file of their own."
            )


def _telling(width: int) -> Say:
    """Say each step of each device, a line each, and keep it; a step of the fleet has no device."""
    lock = Lock()

    def say(device: str, step: str, outcome: str) -> None:
        with lock:
            deploy_log.note(device or "fleet", step, outcome)
            if step != "done":  # the table says it
                progress.say(f"{device or '--':<{width}}  {step:<10}{outcome}")

    return say


def _end(rollout: Rollout) -> None:
    """Leave with what it came to, the worst first."""
    rows = rollout.rows
    if rollout.fault:
        raise rollout.fault
    if rollout.interrupted:
        raise KeyboardInterrupt
    not_begun = sum(row.state is State.NOT_BEGUN for row in rows)
    rest = f"; not begun: {not_begun} of {len(rows)} devices" if not_begun else ""
    again = "the same command again goes on where it stopped"
    if failed := [row for row in rows if row.state is State.FAILED]:
        stuck = [row.device for row in rows if row.state is State.NOT_ROLLED_BACK]
        raise DeploymentError(
            f"wave {failed[0].wave} failed on {_named([row.device for row in failed])} ({failed[0].why.rstrip('.')})"
            + (f"; could not be rolled back: {_named(stuck)}" if stuck else "")
            + f"{rest}. Mend that, or take the device out of the file; {again}."
        )
    away = [row for row in rows if row.state is State.UNREACHABLE]
    if not_begun:
        raise DeploymentError(
            f"no device of wave {away[-1].wave} could be reached, which proves nothing for the next{rest}. Bring one "
            f"of {_named([row.device for row in away if row.wave == away[-1].wave])} back ({away[-1].why.rstrip('.')}) "
            f"or let another one be among the first; {again}."
        )
    if away:
        raise CheckFailed(
            f"{len(away)} of {len(rows)} devices could not be reached: {_named([row.device for row in away])}. "
            "Run the same command again when they can be; what is done stays as it is."
        )


def _named(devices: Sequence[str]) -> str:
    more = len(devices) - MOST_NAMED
    return ", ".join(devices[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
