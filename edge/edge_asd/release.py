"""A deployment as a transaction that the device runs itself, so that a lost connection or power cut does no harm.

    identify -> stage -> verify -> check_site -> golden -> switch -> health -> commit -> tidy

At every instant `current` names a release that is whole: the old one, or the new one. Until `commit` the record
(`release_tree`) still says the old one, and whatever ends the transaction before, `recover` brings that one back:
at once where an error ends it, at the next deployment where the power does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_asd import files, release_checks, release_steps
from edge_asd.errors import DeploymentError, EdgeAsdError, StorageError
from edge_asd.release_steps import Incoming
from edge_asd.release_tree import (
    Record,
    Release,
    Tree,
    begin_record,
    leftovers,
    linked,
    locked,
    read_record,
    recover,
    relink,
)

log = logging.getLogger(__name__)

Report = Callable[[str, str], None]


@dataclass(frozen=True)
class Provision:
    """What a device is given beside the bundle.

    Attributes:
        environment: the virtual environment that its releases run in. A stand-in is lent the one of this program.
        first_config: the text of its device.toml, taken only where it has none; None where there must be one.
    """

    environment: Path
    first_config: str | None = None


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
    """

    current: str | None
    committed: bool
    previous: str | None
    kept: tuple[str, ...]


def _silent(step: str, outcome: str) -> None:
    log.debug("%s: %s", step, outcome)


def activate(root: Path, path: Path, given: Provision, *, report: Report = _silent) -> Deployed:
    """Deploy the bundle at `path` on the device under `root`: once done it runs, and has proved itself.

    Args:
        root: "/" on a device, any folder for a stand-in.
        path: the bundle.
        given: what the device is given with it.
        report: is told each step and its outcome.

    Raises:
        BundleError: the bundle can't be verified; nothing was touched.
        DeploymentError: the release was refused or rolled back, or another deployment is at work.
        StorageError: the device's disk can't be written; what ran before still runs.
    """
    tree = Tree(root)
    incoming = release_steps.identify(path)
    with _storage_errors(root), locked(tree):
        record = _begin(tree, report)
        if _runs_already(tree, record, incoming, given):
            report("unchanged", f"{incoming.release} runs already")
            return Deployed(incoming.release, record.previous, changed=False)
        with _or_as_before(tree, incoming.release):
            staged = release_steps.stage(tree, incoming, given.environment)
            report("stage", f"{incoming.release}, {len(incoming.content) / 1e6:.1f} MB")
            after = _take_over(tree, staged, incoming, record, first_config=given.first_config, report=report)
        release_steps.tidy(tree)
    return Deployed(incoming.release, after.previous, changed=True)


def rollback(root: Path, *, report: Report = _silent) -> Deployed:
    """Go back to the previous release, past the same checks. A second rollback goes forward again.

    Raises:
        DeploymentError: there is no previous release, or it doesn't work any more; the current one stays.
        StorageError: the device's disk can't be written.
    """
    tree = Tree(root)
    if not tree.home.is_dir():
        raise DeploymentError(f"{tree.home}: nothing was ever deployed there, so there is nothing to go back to.")
    with _storage_errors(root), locked(tree):
        record = _begin(tree, report)
        if record.previous is None:
            runs = f"{record.current} is the only release" if record.current else "no release is committed"
            raise DeploymentError(f"{tree.home}: {runs}, so there is none to go back to; deploy another bundle.")
        release = tree.release(record.previous)
        with _or_as_before(tree, release.id):
            incoming = release_steps.identify(release.bundle)
            after = _take_over(tree, release, incoming, record, first_config=None, report=report)
        release_steps.tidy(tree)
    return Deployed(release.id, after.previous, changed=True)


def status(root: Path) -> Installed:
    """What is deployed under `root`. Changes nothing. Raises: DeploymentError where the record can't be understood."""
    tree = Tree(root)
    record = read_record(tree)
    current = linked(tree.current)
    return Installed(current, current == record.current, record.previous, record.releases)


def plan(root: Path, path: Path, given: Provision) -> list[str]:
    """What `activate` would change, a line each; none where the release runs already. Changes nothing.

    Raises:
        BundleError: the bundle can't be verified.
        DeploymentError, ConfigError: it doesn't fit the site's settings, or those can't be.
    """
    tree = Tree(root)
    incoming = release_steps.identify(path)
    record = read_record(tree)
    after = record.with_current(incoming.release)
    changes = [f"remove {path}, left over from a deployment that broke off" for path in leftovers(tree)]
    if _runs_already(tree, record, incoming, given):
        return changes
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
    changes += [f"remove {tree.release(old).folder}" for old in record.releases if old not in after.releases]
    return changes


def _take_over(
    tree: Tree, staged: Release, incoming: Incoming, record: Record, *, first_config: str | None, report: Report
) -> Record:
    """The way of a staged release to a committed one; give the record then."""
    release_steps.verify(staged, incoming)
    site = release_steps.check_site(tree, incoming.bundle, first_config)
    report("verify", "every entry has its hash, and the site's section is there")
    report("golden", release_checks.golden(staged, site.model.runtime))
    release_steps.switch(tree, staged, first_config)
    report("switch", f"{record.current or 'nothing'} -> {staged.id}")
    report("health", f"{release_checks.health(tree, tree.release(staged.id))} scores from the daemon")
    after = record.with_current(staged.id)
    release_steps.commit(tree, after)
    report("commit", f"{after.current} runs, " + (f"{after.previous} is kept" if after.previous else "the first one"))
    return after


def _begin(tree: Tree, report: Report) -> Record:
    """Clear away what is left of a deployment that broke off; give what is committed."""
    for path in recover(tree):
        report("recover", f"removed {path}, left over from a deployment that broke off")
    tree.releases.mkdir(exist_ok=True)
    begin_record(tree)
    return read_record(tree)


def _runs_already(tree: Tree, record: Record, incoming: Incoming, given: Provision) -> bool:
    return (
        record.current == incoming.release
        and tree.config.exists()
        and release_steps.is_intact(tree.release(incoming.release), incoming, given.environment)
    )


@contextmanager
def _or_as_before(tree: Tree, release: str) -> Iterator[None]:
    """Either the block gets to its commit, or what was committed before is back.

    Raises:
        DeploymentError: says why, and what runs now.
        StorageError: the same, where the reason is the disk.
    """
    ran = linked(tree.current)
    had_config = tree.config.exists()
    environment = tree.release(release).environment
    ran_in = environment.readlink() if environment.is_symlink() else None
    try:
        with _storage_errors(tree.root):
            yield
    except BaseException as error:  # Ctrl-C too: nobody has seen the new release work yet
        switched = linked(tree.current) != ran
        recover(tree)
        if linked(tree.current) == ran:  # else it was committed
            if not had_config:
                tree.config.unlink(missing_ok=True)
            if ran_in and environment.readlink() != ran_in:
                relink(environment, ran_in)
        if isinstance(error, EdgeAsdError):
            kind = StorageError if isinstance(error, StorageError) else DeploymentError
            raise kind(_refusal(tree, release, error, switched)) from error
        raise


def _refusal(tree: Tree, release: str, error: EdgeAsdError, switched: bool) -> str:
    current = linked(tree.current)
    runs = f"{current} runs" if current else "no release runs"
    how, since = ("was rolled back", "again") if switched else ("was refused", "as before")
    return f"{release} {how}: {str(error).rstrip('.')}. Now {runs}{f' {since}' if current else ''}."


@contextmanager
def _storage_errors(root: Path) -> Iterator[None]:
    """A disk that is full or read-only, as our own error. Raises: StorageError."""
    try:
        yield
    except OSError as error:
        raise files.unwritable(Path(error.filename or root), error) from error
