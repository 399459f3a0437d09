"""A device, as the host sees it: it can be asked, and does everything itself."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_asd import config, release
from edge_asd.release import Deployed, Provision, Report
from edge_asd.release_tree import Tree
from edge_asd.settings import DeviceConfig


class Device(Protocol):
    """Where a bundle goes to. The host copies and asks; the transaction is the device's own (`edge_asd.release`)."""

    def settings(self) -> DeviceConfig | None:
        """The site's settings, None where it has none yet. Raises: ConfigError."""
        ...

    def plan(self, bundle: Path, first_config: str | None) -> list[str]:
        """What `activate` would change, a line each."""
        ...

    def activate(self, bundle: Path, first_config: str | None, report: Report) -> Deployed:
        """Deploy. Raises: BundleError, DeploymentError, StorageError."""
        ...

    def rollback(self, report: Report) -> Deployed:
        """Go back to the previous release. Raises: DeploymentError, StorageError."""
        ...

    def how_to_listen(self) -> str:
        """The command that starts listening there."""
        ...


@dataclass(frozen=True)
class LocalDevice:
    """A folder of this machine that stands for a device. Its releases run in the environment of this program."""

    root: Path

    @property
    def config_path(self) -> Path:
        """Its device.toml."""
        return Tree(self.root).config

    def settings(self) -> DeviceConfig | None:
        return config.load(self.config_path) if self.config_path.exists() else None

    def plan(self, bundle: Path, first_config: str | None) -> list[str]:
        return release.plan(self.root, bundle, self._given(first_config))

    def activate(self, bundle: Path, first_config: str | None, report: Report) -> Deployed:
        return release.activate(self.root, bundle, self._given(first_config), report=report)

    def rollback(self, report: Report) -> Deployed:
        return release.rollback(self.root, report=report)

    def how_to_listen(self) -> str:
        python = Tree(self.root).current / "venv" / "bin" / "python"
        return shlex.join([str(python), "-m", "edge_asd", "run", "--config", str(self.config_path)])

    def _given(self, first_config: str | None) -> Provision:
        return Provision(environment=Path(sys.prefix).resolve(), first_config=first_config)
