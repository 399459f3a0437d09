"""A device, as the host sees it: it can be asked, and does everything itself."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_asd import bundle, config, release
from edge_asd.arrival import removal
from edge_asd.arrival.places import Places, Refused
from edge_asd.errors import DeploymentError
from edge_asd.release import Deployed, Provision
from edge_asd.release_record import Record
from edge_asd.release_tree import Tree, read_record
from edge_asd.transaction import Report
from edge_asd_tools.deploy import boards, first_config
from edge_asd_tools.deploy.first_config import Wishes


@dataclass(frozen=True)
class Order:
    """What is asked of a device.

    Attributes:
        bundle: the file.
        board: its name; None for what the device says that it is.
        wishes: of its first settings.
        shadow: the bundle is tried beside the one that runs.
        accept_deaf: a daemon that runs and can't hear yet is enough.
        allow_older: a signed bundle may be older than the one that runs.
    """

    bundle: Path = Path()
    board: str | None = None
    wishes: Wishes = Wishes()  # noqa: RUF009 - immutable
    shadow: bool = False
    accept_deaf: bool = False
    allow_older: bool = False


@dataclass(frozen=True)
class Outcome:
    """What an order came to.

    Attributes:
        release: that runs now, or is tried.
        changed: false where it did already.
        before: the release that ran; None where none did.
    """

    release: str
    changed: bool
    before: str | None = None


class Device(Protocol):
    """Where a bundle goes to. The host copies and asks; the transaction is the device's own (`edge_asd.release`)."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def record(self) -> Record:
        """What is committed there. Raises: DeploymentError ..."""
        ...

    def plan(self, order: Order) -> list[str]:
        """What `deploy` would change, a line each."""
        ...

    def deploy(self, order: Order, report: Report) -> Outcome:
        """Install or update it, or give it a bundle to try. Raises: BundleError, DeploymentError, StorageError ..."""
        ...

    def rollback(self, order: Order, report: Report) -> Outcome:
        """Go back to the previous release. Raises: DeploymentError, StorageError ..."""
        ...

    def promote(self, order: Order, report: Report) -> Outcome:
        """Let the bundle that is tried take over. Raises: as `rollback`."""
        ...

    def drop(self, order: Order, report: Report) -> Outcome:
        """End the trial of a bundle. Raises: as `rollback`."""
        ...

    def undeploy(self, *, data: bool) -> list[str]:
        """Remove what was deployed, and what the site keeps where `data` says so; what was removed."""
        ...


@dataclass(frozen=True)
class LocalDevice:
    """A folder of this machine that stands for a device. Its releases run in the environment of this program."""

    root: Path

    @property
    def name(self) -> str:
        return str(self.root)

    @property
    def config_path(self) -> Path:
        """Its device.toml."""
        return Tree(self.root).config

    def record(self) -> Record:
        return read_record(Tree(self.root))

    def plan(self, order: Order) -> list[str]:
        if order.shadow:
            return ["try the bundle beside the one that runs"]
        return release.plan(self.root, order.bundle, self._given(order))

    def deploy(self, order: Order, report: Report) -> Outcome:
        act = release.shadow if order.shadow else release.activate
        before = self.record().current
        deployed = act(self.root, order.bundle, self._given(order), report=report)
        tried = release.status(self.root).shadow if order.shadow and deployed.changed else None
        return Outcome(tried or deployed.current, deployed.changed, before)

    def rollback(self, order: Order, report: Report) -> Outcome:
        return _outcome(self.record().current, release.rollback(self.root, report=report))

    def promote(self, order: Order, report: Report) -> Outcome:
        return _outcome(self.record().current, release.promote(self.root, report=report))

    def drop(self, order: Order, report: Report) -> Outcome:
        return _outcome(self.record().current, release.drop(self.root, report=report))

    def undeploy(self, *, data: bool) -> list[str]:
        try:
            return removal.remove(Places(str(self.root)), data=data)
        except Refused as error:
            raise DeploymentError(str(error)) from error

    def how_to_listen(self) -> str:
        """The command that starts listening there."""
        python = Tree(self.root).current / "venv" / "bin" / "python"
        return shlex.join([str(python), "-m", "edge_asd", "run", "--config", str(self.config_path)])

    def _given(self, order: Order) -> Provision:
        board = boards.read(order.board or boards.this_machine())
        text = None
        if not self.config_path.exists():
            text = first_config.compose(board, order.wishes, bundle.read(order.bundle).manifest.sections)
        else:
            first_config.hold_against(config.load(self.config_path), order.wishes, order.board, self.config_path)
        return Provision(Path(sys.prefix).resolve(), text, order.allow_older)


def _outcome(before: str | None, deployed: Deployed) -> Outcome:
    return Outcome(deployed.current, deployed.changed, before)
