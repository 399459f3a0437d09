"""The steps of a deployment, in the order in which they happen; `release` strings them together.

    identify -> check_age -> stage -> verify -> check_site -> (golden) -> switch -> (health) -> commit -> tidy

The two in brackets ask the new release itself: `release_checks`, and `service` on a device.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_asd import __version__, bundle, config, files, signing
from edge_asd.bundle import Bundle
from edge_asd.errors import BundleError, ConfigError, DeploymentError, SignatureError
from edge_asd.release_record import Record, release_id
from edge_asd.release_tree import CONFIG_IS_OURS, Release, Tree, linked, point, recover, relink, write_record
from edge_asd.settings import DeviceConfig


@dataclass(frozen=True, eq=False)
class Incoming:
    """A bundle that is to be deployed.

    Attributes:
        release: the id of the release that it makes.
        content: its bytes, whose hashes were verified.
        bundle: what they say.
        signature: as it lies beside the bundle; None where none does.
        signer: who signed it; "" where the device doesn't ask.
    """

    release: str
    content: bytes
    bundle: Bundle
    signature: bytes | None = None
    signer: str = ""


class _Description(msgspec.Struct, frozen=True):
    """`release.json`: what a release is made of, for people and for later versions of edge-asd."""

    id: str
    machine: str
    sections: tuple[str, ...]
    bundle: str
    edge_asd: str


def identify(tree: Tree, path: Path, environment: Path) -> Incoming:
    """Read and verify a bundle, and name the release that it makes in an environment.

    Where the device takes signed bundles alone, nothing is read in one before its signature was verified.

    Raises:
        SignatureError: nobody whom this device trusts signed it.
        BundleError, StorageError: it can't be read.
    """
    content, signature = bundle.content_of(path), signing.read(path)
    signer = ""
    if os.path.lexists(tree.allowed_signers):  # a link that leads nowhere is no reason to take everything
        signer = signing.verify(content, signature, tree.allowed_signers, str(path))
    heard = bundle.decode(content, str(path))
    release = release_id(heard.manifest.machine, heard.digest, runtime_of(tree, environment))
    return Incoming(release, content, heard, signature, signer)


def check_age(tree: Tree, incoming: Incoming, record: Record, *, allowed: bool) -> None:
    """Refuse a signed bundle that is older than the one that runs, unless that is allowed: it was signed once, too.

    Raises:
        SignatureError: it is older, or that can't be known.
    """
    if allowed or not incoming.signer or not record.current:
        return
    try:
        running = bundle.read(tree.release(record.current).bundle)
    except BundleError as error:
        raise SignatureError(
            f"{incoming.bundle.source}: whether it is older than what runs can't be said ({error}); take it all the "
            "same with --allow-older."
        ) from error
    signing.refuse_older(incoming.bundle.manifest, running.manifest)


def runtime_of(tree: Tree, environment: Path) -> str:
    """The id of an environment that travelled to the device; "" of one that a stand-in is lent."""
    environment = environment.resolve()  # of a release that runs it is a link
    return environment.name if _same(environment.parent, tree.runtimes) else ""


def stage(tree: Tree, incoming: Incoming, environment: Path) -> Release:
    """Put a release together beside the others, all of it on the disk before the next step.

    One that is kept already is taken as it is, and only mended where its files are damaged or it runs elsewhere.

    Args:
        tree: the device.
        incoming: the bundle.
        environment: the virtual environment that the release is to run in.

    Raises:
        StorageError, OSError: the disk can't be written.
    """
    kept = tree.release(incoming.release)
    if kept.folder.is_dir():
        _mend(kept, incoming, environment)
        return kept
    staged = tree.staging(incoming.release)
    staged.folder.mkdir()
    _link_environment(staged, environment)
    files.write_bytes(staged.bundle, incoming.content)
    if incoming.signature:
        files.write_bytes(staged.signature, incoming.signature)
    description = _Description(
        id=incoming.release,
        machine=incoming.bundle.manifest.machine,
        sections=tuple(sorted(incoming.bundle.manifest.sections)),
        bundle=incoming.bundle.digest,
        edge_asd=__version__,
    )
    # The last file: writing it syncs the folder, and so the names of all the others.
    files.write_bytes(staged.description, msgspec.json.format(msgspec.json.encode(description), indent=1) + b"\n")
    return staged


def verify(staged: Release, incoming: Incoming) -> None:
    """Read back what was written: every hash, and that it is the bundle that was meant. Raises: BundleError."""
    bundle.read(staged.bundle)
    if staged.bundle.read_bytes() != incoming.content:
        raise BundleError(f"{staged.bundle}: is not what was written there; the disk may be failing.")


def check_site(tree: Tree, heard: Bundle, first_config: str | None) -> DeviceConfig:
    """Hold the bundle against the site's settings, or against the ones that would be written; give them.

    Args:
        tree: the device.
        heard: the bundle that is to listen there.
        first_config: text of a device.toml, for a site that has none.

    Raises:
        DeploymentError: there are none, they listen with another bundle than `current`, or to a section that isn't
            there.
        ConfigError: a value in them can't be.
    """
    site = _settings(tree, first_config)
    check_section(tree.config, site.section, heard.manifest.sections)
    listens_with = Path(os.path.normpath(site.bundle))
    through = listens_with.parent
    expected = tree.current / "bundle.easd"
    if (through.name, listens_with.name) != (expected.parent.name, expected.name) or not _same(
        through.parent, tree.home
    ):
        raise DeploymentError(
            f"{tree.config} listens with {listens_with}, so no deployment would be heard; "
            f'write bundle = "{expected.absolute()}" there.'
        )
    return site


def check_section(settings: Path, section: str, known: Collection[str]) -> None:
    """Refuse a bundle that doesn't have the section which a site's settings name. Raises: DeploymentError."""
    if section in known or (section == "" and len(known) == 1):
        return
    found = f"names section {section!r}" if section else "names no section"
    raise DeploymentError(f"{settings} {found}, the bundle has {', '.join(sorted(known))}; mend `section` there.")


def place(tree: Tree, staged: Release) -> Release:
    """Let a staged release take its place beside the others, by rename; give it there."""
    release = tree.release(staged.id)
    if staged.folder != release.folder:
        staged.folder.rename(release.folder)
        files.sync(tree.releases)
    return release


def switch(tree: Tree, staged: Release, first_config: str | None) -> None:
    """Let `current` name the release, by rename. Settings are written only where the site has none.

    The one that ran is `previous` before, so that `settle` finds it should the power go.
    """
    release = place(tree, staged)
    files.make_folder(tree.state)
    writes = first_config is not None and not tree.config.exists()
    files.write_text(tree.switching, CONFIG_IS_OURS if writes else "")
    if first_config is not None and writes:
        files.write_text(tree.config, first_config)
    if (ran := linked(tree.current)) != release.id:
        point(tree.previous, ran)
    point(tree.current, release.id)


def commit(tree: Tree, record: Record) -> None:
    """Write down that the current release proved itself: with this rename the deployment has happened."""
    write_record(tree, record)


def tidy(tree: Tree) -> None:
    """Let `previous` follow the record, and remove the releases that it has forgotten."""
    recover(tree)


def is_intact(release: Release, incoming: Incoming, environment: Path) -> bool:
    """Whether a release still is what was deployed: its files byte for byte, and it runs in this environment."""
    signed = not incoming.signature or _holds(release.signature, incoming.signature)
    return signed and _holds(release.bundle, incoming.content) and _runs_in(release, environment)


def _mend(release: Release, incoming: Incoming, environment: Path) -> None:
    if not _runs_in(release, environment):
        _link_environment(release, environment)
    if not _holds(release.bundle, incoming.content):
        files.write_bytes(release.bundle, incoming.content)
    if incoming.signature and not _holds(release.signature, incoming.signature):
        files.write_bytes(release.signature, incoming.signature)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _runs_in(release: Release, environment: Path) -> bool:
    return release.python.exists() and _same(release.environment, environment)


def _link_environment(release: Release, environment: Path) -> None:
    """Lend a release an environment that is there already; it may be running in another one meanwhile."""
    if not (environment / "bin" / "python").exists():
        raise DeploymentError(
            f"{environment}: has no bin/python, so no release can run in it; install edge-asd in a virtual "
            "environment (python3 -m venv) and deploy from there."
        )
    relink(release.environment, environment.resolve())


def _settings(tree: Tree, first_config: str | None) -> DeviceConfig:
    """The site's settings, or the ones that would be written, with their paths made absolute."""
    if tree.config.exists():
        return config.load(tree.config)
    if first_config is None:
        raise DeploymentError(f"{tree.config}: there is no such file; deploy a bundle, which writes it.")

    def absolute(wanted: type, value: object) -> Path:
        return tree.config.parent.absolute() / str(value)

    try:
        return msgspec.convert(tomllib.loads(first_config), DeviceConfig, dec_hook=absolute)
    except (ValueError, RecursionError) as error:  # of TOML, or of what it says
        raise ConfigError(f"{tree.config} can't be written: {error}.") from error


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
