"""`make lock`: the locks of what devices get, made anew from pyproject.toml and constraints.txt.

For a maintainer, in a source checkout, with the package registry within reach. Every version is the one that
constraints.txt pins; which packages are needed, their wheels say.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement

from edge_asd import files, progress
from edge_asd.ending import guarded
from edge_asd.errors import ConfigError, DownloadError
from edge_asd.sbom import needed, normalised
from edge_asd_tools.deploy import boards
from edge_asd_tools.deploy.lock import FOLDER, MACHINES, PYTHONS, Lock, Pin, path_of
from edge_asd_tools.deploy.registry import Target, fetch
from edge_asd_tools.deploy.runtime_sbom import metadata

BOARD_OF = {"aarch64": "generic-aarch64", "x86_64": "x86-64"}  # what runs there runs on every board of that machine
NEWEST_GLIBC = (2, 36)  # Bookworm's: whatever needs a newer one doesn't load on half of the Pis
LARGEST_LIBRARY = 256 << 20


def markers(machine: str, python: str) -> dict[str, str]:
    """The environment markers (PEP 508) of a device."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def pinned(constraints: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Name to version, of the lines of constraints.txt that hold in this environment."""
    lines = [line for line in constraints.splitlines() if line.strip() and not line.startswith("#")]
    requirements = [Requirement(line) for line in lines]
    return {
        normalised(one.name): str(one.specifier).removeprefix("==")
        for one in requirements
        if one.marker is None or one.marker.evaluate({**environment, "extra": ""})
    }


def oldest_glibc(wheel: Path) -> tuple[int, int]:
    """The oldest glibc on which all native libraries in a wheel load: the newest that a symbol is asked of.

    Read from the libraries themselves. A platform tag is a promise: ai-edge-litert 2.1.0 for aarch64 says 2.27 and asks
    for `pow@GLIBC_2.29` and for symbols of 2.30.

    Raises:
        DownloadError: a library is too large to look into.
    """
    found = {(2, 17)}
    with zipfile.ZipFile(wheel) as archive:
        for library in archive.infolist():
            if not re.search(r"\.so(\.\d+)*$", library.filename):
                continue
            if library.file_size > LARGEST_LIBRARY:
                raise DownloadError(f"{wheel.name}: holds a library of {library.file_size} bytes; pin a smaller one.")
            found |= {(2, int(minor)) for minor in re.findall(rb"\0GLIBC_2\.(\d+)(?=[.\0])", archive.read(library))}
    return max(found)


def make(machine: str, python: str, project: Path) -> Lock:
    """The lock of one machine and Python.

    Args:
        machine: as `uname -m` says.
        python: X.Y.
        project: the source checkout.

    Raises:
        ConfigError: constraints.txt doesn't pin what is needed.
        DownloadError: a wheel can't be had, or doesn't load where it must.
    """
    environment = markers(machine, python)
    versions = pinned((project / "constraints.txt").read_text(), environment)
    base = tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
    target = Target(machine, python, boards.read(BOARD_OF[machine]).board.wheel_platform)
    wheels: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="edge-asd-lock-") as folder:

        def requires(name: str) -> list[str]:
            if name not in versions:
                raise ConfigError(f"constraints.txt: doesn't pin {name}, which {machine}, Python {python} needs.")
            into = Path(folder) / name
            into.mkdir()
            wheels[name] = fetch(f"{name}=={versions[name]}", target, into)
            return metadata(wheels[name]).get_all("Requires-Dist") or []

        needed(base, requires, environment)
        asked = {path.name: oldest_glibc(path) for path in wheels.values()}
        newest = max(asked, key=lambda name: asked[name])
        if asked[newest] > NEWEST_GLIBC:
            raise DownloadError(
                f"{newest}: asks for glibc {_dotted(asked[newest])}, and Bookworm has {_dotted(NEWEST_GLIBC)}; "
                "pin an older version."
            )
        pins = tuple(
            Pin(name, versions[name], path.name, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
            for name, path in sorted(wheels.items())
        )
    return Lock(machine, python, _dotted(asked[newest]), pins)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def main() -> None:
    """Make them all."""
    project = Path(__file__).parents[3]
    for machine in MACHINES:
        for python in PYTHONS:
            lock = make(machine, python, project)
            files.write_text(path_of(machine, python), lock.text)
            progress.say(lock.text.splitlines()[0].removeprefix("# "))
    progress.say(f"Locks in {FOLDER}")


if __name__ == "__main__":
    guarded(main)
