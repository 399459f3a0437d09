"""Where things lie on a device, under one root, and how one release takes another's place.

    opt/edge-asd/releases/<id>/     bundle.easd, its signature, release.json, venv: never changed once written
    opt/edge-asd/runtimes/<id>/     the virtual environments that releases run in, of a device; a stand-in has none
    opt/edge-asd/committed.json     the releases that proved themselves, newest first: the truth
    opt/edge-asd/current, previous  links that follow that record, and `shadow` while a bundle is tried beside
    opt/edge-asd/.switching         there from before `current` is moved until the record says so too
    opt/edge-asd/wheels, incoming   what arrived for a device, see `arrival`
    etc/edge-asd/device.toml        the site's settings
    etc/edge-asd/allowed_signers    whose bundles it takes; anybody's where there is none
    var/lib/edge-asd/               the site's events and clips

A transaction is committed by one rename, that of the record. Whatever the record doesn't know is left over from a
transaction that was broken off, and `recover` removes it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_asd import files, lock, signing, strict
from edge_asd.errors import DeploymentError
from edge_asd.release_record import Record, is_release_id

LARGEST_RECORD = 64 << 10

_STAGING = ".staging-"
_GONE = ".gone-"
CONFIG_IS_OURS = "the settings were written with it\n"  # in the mark of a switch, where that wrote device.toml
_HEALTH = ".health-"

_WRITES_ON_SECONDS = 3.0  # for which what a killed deployment started may write into a folder that is being removed


@dataclass(frozen=True)
class Release:
    """One folder under `releases`, or one that is to become such a folder."""

    id: str
    folder: Path

    @property
    def bundle(self) -> Path:
        """The bundle that this release listens with."""
        return self.folder / "bundle.easd"

    @property
    def signature(self) -> Path:
        """Who stands for that bundle; only of a signed one."""
        return signing.path_of(self.bundle)

    @property
    def environment(self) -> Path:
        """The virtual environment that it runs in."""
        return self.folder / "venv"

    @property
    def python(self) -> Path:
        """The interpreter of that environment."""
        return self.environment / "bin" / "python"

    @property
    def description(self) -> Path:
        """`release.json`: what this release is made of."""
        return self.folder / "release.json"


@dataclass(frozen=True)
class Tree:
    """The paths of one device. `root` is "/" there, and any folder for a local stand-in."""

    root: Path

    @property
    def home(self) -> Path:
        """What deployments own."""
        return self.root / "opt" / "edge-asd"

    @property
    def releases(self) -> Path:
        """The folder of the releases."""
        return self.home / "releases"

    @property
    def current(self) -> Path:
        """The link to the release that runs."""
        return self.home / "current"

    @property
    def previous(self) -> Path:
        """The link to the release that ran before."""
        return self.home / "previous"

    @property
    def shadow(self) -> Path:
        """The link to the release that is tried beside it."""
        return self.home / "shadow"

    @property
    def switching(self) -> Path:
        """The mark of a switch that isn't committed: a daemon that starts and sees it has `settle` look first."""
        return self.home / ".switching"

    @property
    def runtimes(self) -> Path:
        """The folder of the virtual environments that travelled here."""
        return self.home / "runtimes"

    @property
    def record(self) -> Path:
        """The record of what is committed."""
        return self.home / "committed.json"

    @property
    def config(self) -> Path:
        """The site's settings."""
        return self.root / "etc" / "edge-asd" / "device.toml"

    @property
    def allowed_signers(self) -> Path:
        """Whose bundles this device takes; anybody's where there is no such file."""
        return self.config.with_name("allowed_signers")

    @property
    def state(self) -> Path:
        """What the daemon keeps."""
        return self.root / "var" / "lib" / "edge-asd"

    def release(self, release: str) -> Release:
        """The release of this id, there or not."""
        return Release(release, self.releases / release)

    def staging(self, release: str) -> Release:
        """Where the release of this id is put together."""
        return Release(release, self.releases / f"{_STAGING}{release}")

    @contextmanager
    def health_folder(self) -> Iterator[Path]:
        """A folder for one health check, gone afterwards."""
        folder = self.home / f"{_HEALTH}{os.getpid()}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def read_record(tree: Tree) -> Record:
    """What is committed, as far as it is still there; nothing before the first deployment.

    Raises:
        DeploymentError: the record can't be understood, or is gone though there are releases. Nothing is guessed,
            for what it doesn't name gets removed.
    """
    try:
        with tree.record.open("rb") as file:
            record = strict.decoded(file.read(LARGEST_RECORD), Record)
    except FileNotFoundError as error:
        if _releases(tree):
            raise _unknown(tree, "is gone, though there are releases") from error
        return Record()
    except ValueError as error:
        raise _unknown(tree, f"can't be understood ({error})") from error
    for release in record.named:
        if not is_release_id(release):
            raise _unknown(tree, f"can't be understood (it names a release {release!r})")
    there = [release for release in record.named if tree.release(release).folder.is_dir()]
    shadow = record.shadow if record.shadow in there else None
    return Record(tuple(release for release in record.releases if release in there), shadow)


def write_record(tree: Tree, record: Record) -> None:
    """Commit: from this rename on, these releases are the ones. Raises: StorageError."""
    files.write_bytes(tree.record, msgspec.json.encode(record) + b"\n")


def begin_record(tree: Tree) -> None:
    """Write an empty record where there is none: with it in place before any release is, its absence means loss.

    Raises:
        StorageError: it can't be written.
    """
    if not tree.record.exists():
        write_record(tree, Record())


def linked(link: Path) -> str | None:
    """The id of the release that a link names, or None where there is no link."""
    return Path(os.readlink(link)).name if link.is_symlink() else None


def point(link: Path, release: str | None) -> None:
    """Let a link name this release, or be no more; at any instant it names one or the other."""
    if linked(link) == release:
        return
    if release is None:
        link.unlink()
        files.sync(link.parent)
    else:
        relink(link, Path("releases") / release)


def relink(link: Path, target: Path) -> None:
    """Let a link lead to a target, by rename."""
    beside = _beside(link)
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(link)
    files.sync(link.parent)


def leftovers(tree: Tree, arriving: Path | None = None) -> list[Path]:
    """What a transaction left behind that was broken off, and releases that were pruned from the record.

    Args:
        tree: the device.
        arriving: the environment of a release that is about to be deployed, which is none of it.
    """
    kept = [tree.release(release) for release in read_record(tree).named]
    links = [tree.current, tree.previous, tree.shadow]
    links += [Release(folder.name, folder).environment for folder in _releases(tree)]
    found = [beside for beside in map(_beside, links) if beside.is_symlink()]
    found += [path for pattern in (_HEALTH, _GONE) for path in sorted(tree.home.glob(f"{pattern}*"))]
    found += [path for file in (tree.record, tree.config, tree.switching) for path in _half_written(file)]
    found += [path for pattern in (_STAGING, _GONE) for path in sorted(tree.releases.glob(f"{pattern}*"))]
    found += [folder for folder in _releases(tree) if folder not in [release.folder for release in kept]]
    needed = [
        environment.resolve().name for environment in (*(one.environment for one in kept), arriving) if environment
    ]
    return found + sorted(folder for folder in tree.runtimes.glob("*") if folder.name not in needed)


def recover(tree: Tree, arriving: Path | None = None) -> list[Path]:
    """Make the links follow the record and remove what it doesn't know; give what was removed.

    The links come first: a release goes when nothing names it any more.
    """
    full = None
    try:
        follow(tree)
    except OSError as error:
        if linked(tree.current) != read_record(tree).current:
            raise
        full = error
    found = leftovers(tree, arriving)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            _remove(path)
        else:
            path.unlink()
    if full:  # now there is room
        follow(tree)
    return found


def _remove(folder: Path) -> None:
    """Remove a folder; it gets a name first that nobody takes for a whole one, should the power go meanwhile."""
    if not folder.name.startswith("."):
        folder = folder.rename(folder.with_name(f"{_GONE}{folder.name}"))
        files.sync(folder.parent)
    patience = time.monotonic() + _WRITES_ON_SECONDS
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY) or time.monotonic() > patience:
                raise
            time.sleep(0.1)


def follow(tree: Tree) -> None:
    """Make the links follow the record."""
    record = read_record(tree)
    try:
        point(tree.current, record.current)
    except OSError:  # a full disk, which takes no new link: `switch` has left one that leads back
        if record.current is None or linked(tree.previous) != record.current:
            raise
        tree.previous.replace(tree.current)
        files.sync(tree.home)
    if (marked := files.beginning(tree.switching, LARGEST_RECORD)) is not None:
        if marked == CONFIG_IS_OURS.encode() and record.current is None:
            tree.config.unlink(missing_ok=True)  # a first deployment's, which came to nothing
        tree.switching.unlink()
        files.sync(tree.home)
    point(tree.previous, record.previous)
    point(tree.shadow, record.shadow)


def locked(tree: Tree) -> AbstractContextManager[None]:
    """Keep a second deployment out. Raises: DeploymentError where another is at work, StorageError."""

    def refusal() -> DeploymentError:
        return DeploymentError(
            f"{tree.home}: another deployment is at work there; wait until it is done, then run this one again."
        )

    return lock.hold(tree.home / "lock", refusal, private=True)  # the daemon must not be able to hinder its update


def _releases(tree: Tree) -> list[Path]:
    """The folders of all releases, those included that the record doesn't know."""
    return sorted(folder for folder in tree.releases.glob("*") if is_release_id(folder.name))


def _beside(link: Path) -> Path:
    return link.with_name(f".{link.name}.new")


def _half_written(path: Path) -> list[Path]:
    """What `files.atomic` leaves beside `path` where the power went; never an editor's swap file, named much alike."""
    beside = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    return [other for other in path.parent.glob(f".{path.name}.*") if beside.fullmatch(other.name)]


def _unknown(tree: Tree, found: str) -> DeploymentError:
    return DeploymentError(
        f"{tree.record}: {found}; write into it the id under {tree.releases} that is to run, "
        'such as {"releases": ["fan-0123456789abcdef"]}, then run the same command again.'
    )
