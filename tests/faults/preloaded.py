"""Libraries that stand between a program and the system: made from C when needed, loaded before all others."""

from __future__ import annotations

import subprocess
from pathlib import Path

from common import missing


def library(name: str, folder: Path) -> Path:
    """The library of `name`.c, made in a folder; to be named in LD_PRELOAD."""
    made, source = folder / f"{name}.so", Path(__file__).with_name(f"{name}.c")
    command = ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", made, source, "-ldl", "-lpthread"]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        missing("gcc")
    return made
