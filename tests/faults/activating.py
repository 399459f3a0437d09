"""A release that is activated on a stand-in for a device. As a program: once.

python -m faults.activating ROOT BUNDLE ENVIRONMENT     # to be watched; it acknowledges what is committed
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from edge_asd import release
from faults.disk import acknowledge
from faults.filling import Fill, Outcome
from simulated_device import SimulatedDevice, release_id, snapshot


def filling(
    root: Path, fill: Fill, lift: Callable[[], None], template: str, old: str, new: str, environment: str
) -> Outcome:
    """A device that has the bundle `old` is given `new`, on a disk that fills up; then again on one that has space."""
    shutil.copytree(template, root, symlinks=True)
    device, outcome = SimulatedDevice(root, Path(environment)), Outcome()
    before = release.status(root)
    fill()
    code = outcome.ended(lambda: device.deploy(Path(new)))
    now = release.status(root)
    if code == 0:
        if now.current != release_id(Path(new)) or not now.committed:
            outcome.wrong.append(f"it said that it was done, and {now} is")
    elif now != before:
        outcome.wrong.append(f"it failed, and {now} is")
    elif old and (device.tree.current / "bundle.easd").read_bytes() != Path(old).read_bytes():
        outcome.wrong.append("what is current isn't whole")
    lift()
    device.deploy(Path(new))
    outcome.after = list(snapshot(root).items())
    return outcome


def main(root: str, bundle: str, environment: str) -> None:
    deployed = SimulatedDevice(Path(root), Path(environment)).deploy(Path(bundle))
    acknowledge(deployed.current)


if __name__ == "__main__":
    main(*sys.argv[1:])
