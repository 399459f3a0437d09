"""What a daemon that starts in the middle of a deployment does first: it lets what is committed run.

The power went, or a deployment was killed, between the switch and the commit: `current` names a release that nobody has
seen work. The unit asks here before it starts, by the interpreter of the previous release, which proved itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_asd import child
from edge_asd.ending import guarded
from edge_asd.errors import CheckFailed, DeploymentError
from edge_asd.release_tree import Tree, follow, linked, locked

RELOAD_SECONDS = 30.0


def settle(root: Path) -> bool:
    """Let `current` name what is committed; whether it named something else.

    Where a deployment is at work it decides, and nothing is done.

    Raises:
        DeploymentError: a deployment is at work, or the record can't be understood.
        StorageError: the disk can't be written.
    """
    tree = Tree(root)
    with locked(tree):
        before = linked(tree.current)
        follow(tree)
        return linked(tree.current) != before


def main() -> None:
    """Leave with 0 where the start is to be begun anew, with the unit of the release that is back; with 1 to go on."""
    try:
        moved = settle(Path("/"))
    except DeploymentError as error:
        raise CheckFailed(f"started as it is: {error}") from error
    if not moved:
        raise CheckFailed("started as it is: `current` names what is committed.")
    child.run(["systemctl", "daemon-reload", "--no-block"], seconds=RELOAD_SECONDS)
    sys.stderr.write("edge-asd: a deployment broke off before its release proved itself; the one before runs again\n")


if __name__ == "__main__":
    guarded(main)
