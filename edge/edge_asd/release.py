"""A deployment as a transaction that the device runs itself, so that a lost connection or power cut does no harm.

    identify -> check_age -> stage -> verify -> check_site -> golden -> switch -> health -> commit -> tidy

At every instant `current` names a release that is whole: the old one, or the new one. Until `commit` the record
(`release_tree`) still says the old one, and whatever ends the transaction before, `recover` brings that one back:
at once where an error ends it; where the power does, at the daemon's next start (`settle`) or the next deployment.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from edge_asd import bundle, release_steps
from edge_asd.errors import DeploymentError
from edge_asd.release_record import Record
from edge_asd.release_steps import Incoming
from edge_asd.release_tree import Tree, leftovers, linked, locked, read_record
from edge_asd.service import Rehearsal, Service
from edge_asd.transaction import Report, begin, check, or_as_before, stage, storage_errors, take_over, tidy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provision:
    """What a device is given beside the bundle.

    Attributes:
        environment: the virtual environment that its releases run in. A stand-in is lent the one of this program.
        first_config: the text of its device.toml, taken only where it has none; None where there must be one.
        allow_older: where it takes signed bundles alone, this one may have been made before the one that runs.
    """

    environment: Path
    first_config: str | None = None
    allow_older: bool = False


@dataclass(frozen=True)
class Deployed:
    """What a deployment came to.

    Attributes:
        current, previous: the releases that are committed now.
        changed: false where the release ran already.
    """

    current: str
    previous: str | None
    changed: bool


@dataclass(frozen=True)
class Installed:
    """What is on a device.

    Attributes:
        current: the release that `current` names, None where there is none.
        committed: it is the one that proved itself; false in the middle of a deployment, and after one broke off.
        previous: the release that a rollback goes to.
        kept: all releases that are committed, newest first.
        shadow: the one that is tried beside, None where none is.
    """

    current: str | None
    committed: bool
    previous: str | None
    kept: tuple[str, ...]
    shadow: str | None = None


def _silent(step: str, outcome: str) -> None:
    log.debug("%s: %s", step, outcome)


def activate(
    root: Path, path: Path, given: Provision, *, service: Service | None = None, report: Report = _silent
) -> Deployed:
    """Deploy the bundle at `path` on the device under `root`: once done it runs, and has proved itself.

    Args:
        root: "/" on a device, any folder for a stand-in.
        path: the bundle; a signature lies beside it.
        given: what the device is given with it.
        service: what listens there; a stand-in rehearses.
        report: is told each step and its outcome.

    Raises:
        BundleError: the bundle can't be verified or isn't trusted; nothing was touched.
        DeploymentError: the release was refused or rolled back, or another deployment is at work.
        StorageError: the device's disk can't be written; what ran before still runs.
    """
    tree, service = Tree(root), service or Rehearsal()
    incoming = release_steps.identify(tree, path, given.environment)
    with storage_errors(root), locked(tree):
        record = begin(tree, service, report, given.environment)
        if _runs_already(tree, record, incoming, given) and not service.lacks(tree):
            report("unchanged", f"{incoming.release} runs already")
            return Deployed(incoming.release, record.previous, changed=False)
        return _install(tree, incoming, given, record, service, report)


def rollback(root: Path, *, service: Service | None = None, report: Report = _silent) -> Deployed:
    """Go back to the previous release, past the same checks. A second rollback goes forward again.

    Raises:
        DeploymentError: there is no previous release, or it doesn't work any more; the current one stays.
        StorageError: the device's disk can't be written.
    """
    tree, service = _deployed_before(root, "go back to"), service or Rehearsal()
    with storage_errors(root), locked(tree):
        record = begin(tree, service, report)
        if record.previous is None:
            runs = f"{record.current} is the only release" if record.current else "no release is committed"
            raise DeploymentError(f"{tree.home}: {runs}, so there is none to go back to; deploy another bundle.")
        release = tree.release(record.previous)
        incoming = release_steps.identify(tree, release.bundle, release.environment.resolve())
        with or_as_before(tree, release.id, service):
            after = take_over(tree, release, incoming, record, service, first_config=None, report=report)
        tidy(tree, report)
    return Deployed(release.id, after.previous, changed=True)


def shadow(
    root: Path, path: Path, given: Provision, *, service: Service | None = None, report: Report = _silent
) -> Deployed:
    """Let a bundle score beside the one that runs, in the same daemon, until it is promoted or dropped.

    Args:
        root: as `activate` has it.
        path: the bundle.
        given: of it counts whether the bundle may be older. It runs in the environment of the current release.
        service, report: as `activate` has them.

    Raises:
        BundleError, DeploymentError, StorageError: as `activate` raises them; what runs goes on in any case.
    """
    tree, service = _deployed_before(root, "try a bundle beside"), service or Rehearsal()
    with storage_errors(root), locked(tree):
        record = begin(tree, service, report)
        if record.current is None:
            raise DeploymentError(f"{tree.home}: no release runs, so there is none to try a bundle beside; deploy one.")
        environment = tree.release(record.current).environment.resolve()
        incoming = release_steps.identify(tree, path, environment)
        running = bundle.read(tree.release(record.current).bundle).manifest.machine
        if (machine := incoming.bundle.manifest.machine) != running:
            raise DeploymentError(f"{path}: is of a {machine}, what runs is of a {running}; they compare to nothing.")
        if incoming.release in (record.current, record.shadow):
            what = "runs" if incoming.release == record.current else "is tried"
            report("unchanged", f"{incoming.release} {what} already")
            return Deployed(record.current, record.previous, changed=False)
        release_steps.check_age(tree, incoming, record, allowed=given.allow_older)
        with or_as_before(tree, incoming.release, service):
            staged = stage(tree, incoming, environment, report)
            check(tree, staged, incoming, service, first_config=None, report=report)
            release_steps.place(tree, staged)
            release_steps.commit(tree, record.with_shadow(incoming.release))
            report("commit", f"{incoming.release} is tried beside {record.current}")
        tidy(tree, report)
        service.look_again(tree)
    return Deployed(record.current, record.previous, changed=True)


def promote(root: Path, *, service: Service | None = None, report: Report = _silent) -> Deployed:
    """Let the bundle that is tried take over, past the same checks as any, in the environment that runs now.

    Raises:
        BundleError, DeploymentError, StorageError: as `activate` raises them.
    """
    tree, service = _deployed_before(root, "promote"), service or Rehearsal()
    with storage_errors(root), locked(tree):
        record = begin(tree, service, report)
        tried = tree.release(_tried(tree, record))
        environment = tree.release(record.current or tried.id).environment.resolve()
        incoming = release_steps.identify(tree, tried.bundle, environment)
        return _install(tree, incoming, Provision(environment, allow_older=True), record, service, report)


def drop(root: Path, *, service: Service | None = None, report: Report = _silent) -> Deployed:
    """End the trial of a bundle, which goes. Raises: DeploymentError, StorageError."""
    tree, service = _deployed_before(root, "drop"), service or Rehearsal()
    with storage_errors(root), locked(tree):
        record = begin(tree, service, report)
        tried = _tried(tree, record)
        release_steps.commit(tree, record.with_shadow(None))
        tidy(tree, report)
        report("commit", f"{tried} isn't tried any more; {record.current} runs")
        service.look_again(tree)
    return Deployed(record.current or "", record.previous, changed=True)


def status(root: Path) -> Installed:
    """What is deployed under `root`. Changes nothing. Raises: DeploymentError where the record can't be understood."""
    tree = Tree(root)
    record = read_record(tree)
    current = linked(tree.current)
    return Installed(current, current == record.current, record.previous, record.releases, record.shadow)


def plan(root: Path, path: Path, given: Provision) -> list[str]:
    """What `activate` would change, a line each; none where the release runs already. Changes nothing.

    Raises:
        BundleError: the bundle can't be verified or isn't trusted.
        DeploymentError, ConfigError: it doesn't fit the site's settings, or those can't be.
    """
    tree = Tree(root)
    incoming = release_steps.identify(tree, path, given.environment)
    record = read_record(tree)
    after = record.with_current(incoming.release)
    gone = leftovers(tree, given.environment)
    changes = [f"remove {path}, left over from a deployment that broke off" for path in gone]
    if _runs_already(tree, record, incoming, given):
        return changes
    release_steps.check_age(tree, incoming, record, allowed=given.allow_older)
    release_steps.check_site(tree, incoming.bundle, given.first_config)
    release = tree.release(incoming.release)
    if not release_steps.is_intact(release, incoming, given.environment):
        changes.append(f"write {release.folder}, {len(incoming.content) / 1e6:.1f} MB")
    if not tree.config.exists():
        changes.append(f"write {tree.config}, the site's own from then on")
    if after.current != record.current:
        changes.append(f"switch {tree.current}: {record.current or 'nothing'} -> {after.current}")
    if after.previous != record.previous:
        changes.append(f"keep {after.previous} as {tree.previous}")
    return changes + [f"remove {tree.release(old).folder}" for old in record.named if old not in after.named]


def _install(
    tree: Tree, incoming: Incoming, given: Provision, record: Record, service: Service, report: Report
) -> Deployed:
    """The way of a bundle to the release that runs."""
    release_steps.check_age(tree, incoming, record, allowed=given.allow_older)
    with or_as_before(tree, incoming.release, service):
        staged = stage(tree, incoming, given.environment, report)
        after = take_over(tree, staged, incoming, record, service, first_config=given.first_config, report=report)
    tidy(tree, report)
    if after.shadow != record.shadow:
        service.look_again(tree)
    return Deployed(staged.id, after.previous, changed=True)


def _deployed_before(root: Path, to_do: str) -> Tree:
    tree = Tree(root)
    if not tree.home.is_dir():
        raise DeploymentError(f"{tree.home}: nothing was ever deployed there, so there is nothing to {to_do}.")
    return tree


def _tried(tree: Tree, record: Record) -> str:
    if record.shadow is None:
        raise DeploymentError(f"{tree.home}: no bundle is tried there; begin with: edge-asd deploy --shadow.")
    return record.shadow


def _runs_already(tree: Tree, record: Record, incoming: Incoming, given: Provision) -> bool:
    return (
        record.current == incoming.release
        and tree.config.exists()
        and release_steps.is_intact(tree.release(incoming.release), incoming, given.environment)
    )
