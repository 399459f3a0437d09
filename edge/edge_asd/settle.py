"""What a daemon that starts in the middle of a deployment does first: it lets what is committed run.

The power went, or a deployment was killed, between the switch and the commit: `current` names a release that nobody has
seen work. The unit asks here before it starts, by the interpreter of the previous release, which proved itself; what it
starts then is whatever `current` names by now. The unit itself is still the new release's, until systemd reads it anew
at the next boot or deployment: that is why its command line says nothing that an older release wouldn't understand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_asd.ending import guarded
from edge_asd.release_tree import Tree, follow, linked, locked


def settle(root: Path) -> bool:
    """Let `current` name what is committed; whether it named something else.

    Raises:
        DeploymentError: a deployment is at work, or the record can't be understood.
        StorageError: the disk can't be written.
    """
    tree = Tree(root)
    with locked(tree):
        before = linked(tree.current)
        follow(tree)
        return linked(tree.current) != before


def main(root: str = "/") -> None:
    """Settle, and say so."""
    if settle(Path(root)):
        sys.stderr.write(
            "edge-asd: a deployment broke off before its release proved itself; the one before runs again\n"
        )


if __name__ == "__main__":
    guarded(lambda: main(*sys.argv[1:]))
