"""A folder that stands for a device, what its releases run in, and bundles for it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from edge_asd import bundle, release, status
from edge_asd.release import Provision
from edge_asd.release_tree import Tree
from edge_asd.transaction import Report

REAL = Path(sys.prefix)

CONFIG = """\
# ours
bundle = "../../opt/edge-asd/current/bundle.easd"
section = "00"
state = "../../var/lib/edge-asd"
[capture]
command = ["a-recorder-that-is-nowhere"]
"""

# What stands for an environment where its speed and not its arithmetic matters: `bundle verify` and `run` in a shell.
INTERPRETER = """\
#!/bin/sh
for last; do :; done
case "$*" in
*"bundle verify"*) {golden} ;;
*" run "*) {health} ;;
esac
"""
PASSES = """echo '{"score": 1, "expected": 1, "passed": true, "runtime": "sh"}'"""


@dataclass(frozen=True)
class SimulatedDevice:
    """A root folder, and the environment that its releases are lent."""

    root: Path
    environment: Path

    @property
    def tree(self) -> Tree:
        return Tree(self.root)

    def deploy(self, path: Path, report: Report | None = None) -> release.Deployed:
        return release.activate(self.root, path, self.given, report=report or (lambda step, outcome: None))

    @property
    def given(self) -> Provision:
        return Provision(self.environment, CONFIG)


def simulated(folder: Path, *, golden: str = PASSES, health: str | None = None, scores: int = 7) -> Path:
    """An environment in which the two checks end as asked."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    said = status.Status(
        pid=1,
        bundle="",
        machine="fan",
        section="00",
        since="",
        updated="",
        heard_seconds=20.0,
        scores=scores,
        last_score=1.0,
        threshold=2.0,
        alert=False,
        lost_samples=0,
        resident_mb=1.0,
    )
    status.write(folder, said)
    python.write_text(
        INTERPRETER.format(golden=golden, health=health or f'cp "{folder}/status.json" "$(dirname "$last")/state/"')
    )
    python.chmod(0o755)
    return folder


def differing(tiny: Path, folder: Path) -> list[Path]:
    """Five bundles that differ in their cards alone."""
    paths = [folder / f"{number}.easd" for number in range(5)]
    for path in paths:
        bundle.write(path, replace(bundle.read(tiny), model_card=f"# {path.stem}\n"))
    return paths


def release_id(path: Path) -> str:
    return f"fan-{bundle.digest(path.read_bytes())}"


def snapshot(root: Path) -> dict[str, str]:
    """Every path, and what it is: a link's target, a file's content."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_bytes().hex()
        else:
            found[name] = "/"
    return found
