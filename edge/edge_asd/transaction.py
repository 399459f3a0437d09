"""What every deployment is made of, whatever it deploys: begin, stage, check, take over, or be as before.

`release` strings these together. A block under `or_as_before` gets to its commit, or nothing of it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_asd import files, release_checks, release_steps
from edge_asd.errors import DeploymentError, EdgeAsdError, StorageError
from edge_asd.release_record import Record, bundle_of
from edge_asd.release_steps import Incoming
from edge_asd.release_tree import Release, Tree, begin_record, linked, read_record, recover, relink
from edge_asd.service import Service

Report = Callable[[str, str], None]


def begin(tree: Tree, service: Service, report: Report, arriving: Path | None = None) -> Record:
    """Clear away what is left of a deployment that broke off; give what is committed."""
    ran = linked(tree.current)
    for path in recover(tree, arriving):
        report("recover", f"removed {path}, left over from a deployment that broke off")
    _listen_again(tree, ran, service)
    files.make_folder(tree.releases)
    begin_record(tree)
    return read_record(tree)


@contextmanager
def storage_errors(root: Path) -> Iterator[None]:
    """A disk that is full or read-only, as our own error. Raises: StorageError."""
    try:
        yield
    except OSError as error:
        raise files.unwritable(Path(error.filename or root), error) from error


def stage(tree: Tree, incoming: Incoming, environment: Path, report: Report) -> Release:
    staged = release_steps.stage(tree, incoming, environment)
    report("stage", f"{incoming.release}, {len(incoming.content) / 1e6:.1f} MB")
    return staged


def check(
    tree: Tree, staged: Release, incoming: Incoming, service: Service, *, first_config: str | None, report: Report
) -> None:
    """All that can be known of a release before it runs."""
    release_steps.verify(staged, incoming)
    site = release_steps.check_site(tree, incoming.bundle, first_config)
    signed = f", signed by {incoming.signer}" if incoming.signer else ""
    report("verify", f"every entry has its hash, and the site's section is there{signed}")
    service.provide(tree)
    report("golden", release_checks.golden(staged, site.model.runtime, account=service.account))


def take_over(
    tree: Tree,
    staged: Release,
    incoming: Incoming,
    record: Record,
    service: Service,
    *,
    first_config: str | None,
    report: Report,
) -> Record:
    """The way of a staged release to a committed one; give the record then."""
    check(tree, staged, incoming, service, first_config=first_config, report=report)
    release_steps.switch(tree, staged, first_config)
    report("switch", f"{record.current or 'nothing'} -> {staged.id}")
    service.start(tree)
    report("health", service.prove(tree, tree.release(staged.id)))
    after = record.with_current(staged.id)
    if record.shadow and bundle_of(record.shadow) == bundle_of(staged.id):
        after = after.with_shadow(None)
    release_steps.commit(tree, after)
    report("commit", f"{after.current} runs, " + (f"{after.previous} is kept" if after.previous else "the first one"))
    return after


@contextmanager
def or_as_before(tree: Tree, release: str, service: Service) -> Iterator[None]:
    """Either the block gets to its commit, or what was committed before is back, and listens.

    Raises:
        DeploymentError: says why, and what runs now.
        StorageError: the same, where the reason is the disk.
    """
    ran = linked(tree.current)
    had_config = tree.config.exists()
    environment = tree.release(release).environment
    ran_in = environment.readlink() if environment.is_symlink() else None
    try:
        with storage_errors(tree.root):
            yield
    except BaseException as error:  # Ctrl-C too: nobody has seen the new release work yet
        broken_off, trouble = linked(tree.current), ""
        try:
            recover(tree)
        except OSError as second:
            trouble = f" What is left of it is removed by the next deployment ({second.strerror or second})."
        if linked(tree.current) == ran:  # else it was committed
            try:
                if not had_config:
                    tree.config.unlink(missing_ok=True)
                if ran_in and environment.readlink() != ran_in:
                    relink(environment, ran_in)
                _listen_again(tree, broken_off, service)
            except (EdgeAsdError, OSError) as second:
                trouble += f" It could not be started again: {second}"
        if isinstance(error, EdgeAsdError):
            kind = StorageError if isinstance(error, StorageError) else DeploymentError
            raise kind(_refusal(tree, release, error, broken_off != ran) + trouble) from error
        raise


def tidy(tree: Tree, report: Report) -> None:
    """Remove what the record has forgotten. It is committed by now, so what can't be removed waits for the next one."""
    try:
        release_steps.tidy(tree)
    except OSError as error:
        report("tidy", f"what is left over is removed by the next deployment ({error.strerror or error})")


def _refusal(tree: Tree, release: str, error: EdgeAsdError, switched: bool) -> str:
    current = linked(tree.current)
    runs = f"{current} runs" if current else "no release runs"
    how, since = ("was rolled back", "again") if switched else ("was refused", "as before")
    return f"{release} {how}: {str(error).rstrip('.')}. Now {runs}{f' {since}' if current else ''}."


def _listen_again(tree: Tree, ran: str | None, service: Service) -> None:
    """Have what listens follow `current`, where that isn't `ran` any more."""
    if linked(tree.current) == ran:
        return
    if linked(tree.current):
        service.start(tree)
    else:
        service.withdraw(tree)
