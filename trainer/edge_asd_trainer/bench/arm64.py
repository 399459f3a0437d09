"""Our program on a Raspberry Pi's processor, without one: an arm64 Debian's Python under QEMU's user mode.

Neither root nor a change of the system is needed: packages are fetched by apt with a configuration of its own, unpacked
side by side, and wheels for aarch64 are laid beside them. What runs is this checkout.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path
from typing import IO

import edge_asd
from edge_asd import files
from edge_asd.errors import MissingRequirement
from edge_asd.workers import ONE_THREAD

SUITE, PYTHON = "bookworm", "3.11"  # Raspberry Pi OS of 2023
PACKAGES = ("python3.11", "libstdc++6")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What its C library, 2.36, can load.
PLATFORMS = (*(f"manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)), "manylinux2014_aarch64")
FETCH_SECONDS = 600
EMULATOR = "qemu-aarch64-static"
ANY = "max"  # a processor with all that QEMU knows, which no Pi has: dot products, for one, came with the Pi 5


@dataclass(frozen=True)
class Arm64:
    """An arm64 userland on this machine.

    Attributes:
        root: of the unpacked Debian packages.
        packages: of the unpacked wheels, and of what names this program among them.
    """

    root: Path
    packages: Path

    def command(self, *arguments: str, cpu: str = ANY, emulator: Sequence[str] = (EMULATOR,)) -> list[str]:
        """The words that start its Python on a processor, by QEMU's name of it: cortex-a53, cortex-a72, cortex-a76."""
        python = self.root / "usr" / "bin" / f"python{PYTHON}"
        return [*emulator, "-cpu", cpu, "-L", str(self.root), str(python), *arguments]

    def environment(self) -> Mapping[str, str]:
        """What its Python is to find: this checkout's device code, and the wheels; one thread, as on a test machine."""
        here = Path(edge_asd.__file__).parents[1]
        paths = os.pathsep.join([str(self.packages), str(here)])
        return {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", **ONE_THREAD}

    def run(self, *arguments: str, seconds: float, cpu: str = ANY) -> subprocess.CompletedProcess[str]:
        """Run its Python with these arguments, such as -m edge_asd, for so long at most."""
        return subprocess.run(
            self.command(*arguments, cpu=cpu),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def arm64(folder: Path, constraints: Path) -> Arm64:
    """The userland in a folder; made there if it isn't yet, some hundred megabytes from Debian and PyPI.

    Args:
        folder: that keeps it; wheels of other versions than the constraints name are fetched anew.
        constraints: the versions of the packages.

    Raises:
        MissingRequirement: a program isn't installed here, or the packages can't be had.
        StorageError: the folder can't be written.
    """
    if not shutil.which(EMULATOR):
        raise MissingRequirement(f"an arm64 userland needs {EMULATOR}, which isn't installed here.")
    if not constraints.is_file():
        raise MissingRequirement(f"an arm64 userland needs {constraints}; run this in the project's folder.")
    wanted = [one for one in requires("edge-asd") or [] if "extra ==" not in one]
    pinned = hashlib.sha256("\n".join([constraints.read_text(), *wanted]).encode()).hexdigest()[:16]
    root = made(folder / "-".join([SUITE, *PACKAGES]), lambda into: unpack_debian(into, SUITE, PACKAGES))
    packages = made(folder / f"packages-{pinned}", lambda into: _unpack_wheels(into, wanted, constraints))
    return Arm64(root, packages)


def made(place: Path, make: Callable[[Path], None]) -> Path:
    """A folder that is whole or isn't there: what was begun and not finished is thrown away."""
    if place.is_dir():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{place.name}.", dir=place.parent) as beside:
            whole = Path(beside) / "whole"
            whole.mkdir()
            make(whole)
            whole.rename(place)
    except OSError as error:
        if not place.is_dir():  # else another process was faster, and a folder isn't renamed onto one that holds files
            raise files.unwritable(place, error) from error
    return place


def unpack_debian(into: Path, suite: str, packages: Sequence[str], architecture: str = "arm64") -> None:
    """Debian packages and all that they need, side by side in a folder, and none of them configured.

    Resolved, fetched and verified by apt, which is told that it knows nothing and runs on that architecture.

    Args:
        into: a folder beside which there may be others, as `made` gives it.
        suite: the release of Debian by its name.
        packages: their names there.
        architecture: Debian's name of it.

    Raises:
        MissingRequirement: a program isn't installed here, or the packages can't be had.
    """
    for program in ("apt-get", "dpkg-deb", "tar"):
        if not shutil.which(program):
            raise MissingRequirement(f"an arm64 userland needs {program}, which isn't installed here.")
    if not KEYRING.is_file():
        raise MissingRequirement(f"an arm64 userland needs {KEYRING} (package debian-archive-keyring).")
    state = into.parent / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    sites = _run("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages").split("\n")
    mirror = next((site for site in sites if not site.rstrip("/").endswith("-security")), sites[0])
    (state / "sources.list").write_text(f"deb [arch={architecture} signed-by={KEYRING}] {mirror} {suite} main\n")
    settings = {
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",  # else a mirror that can't be reached is only warned of
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    _run(*apt, "update")
    _run(*apt, "--yes", "--download-only", "install", *packages)
    for name in ("bin", "sbin", "lib"):  # else a package that still unpacks to /lib would make a folder of it
        (into / "usr" / name).mkdir(parents=True)
        (into / name).symlink_to(f"usr/{name}")
    for archive in sorted((state / "cache" / "archives").glob("*.deb")):
        unpacked = into.parent / "unpacked.tar"
        with unpacked.open("wb") as file:
            _run("dpkg-deb", "--fsys-tarfile", str(archive), to=file)
        _run("tar", "-xf", str(unpacked), "-C", str(into), "--keep-directory-symlink", "--no-same-owner")


def _unpack_wheels(into: Path, wanted: Sequence[str], constraints: Path) -> None:
    """What the device needs, for its processor and its Python; and this program's name, version and commands."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    target = ["--target", str(into), "--python-version", PYTHON, "--only-binary", ":all:", *platforms]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    _run(*pip, *target, "--constraint", str(constraints), *wanted)
    ours = into / f"edge_asd-{version('edge-asd')}.dist-info"
    ours.mkdir()
    (ours / "METADATA").write_text(f"Metadata-Version: 2.1\nName: edge-asd\nVersion: {version('edge-asd')}\n")
    (ours / "entry_points.txt").write_text("[edge_asd.rooms]\ndevice = edge_asd.commands:register\n")


def _run(*command: str, to: IO[bytes] | None = None) -> str:
    """What a program says, or nothing where that goes to a file.

    Raises:
        MissingRequirement: it failed, for what fails here is what can't be fetched.
    """
    output = subprocess.PIPE if to is None else to
    try:
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.PIPE, text=True, timeout=FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MissingRequirement(f"an arm64 userland: {command[0]} took more than {FETCH_SECONDS} s.") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[-400:]
        raise MissingRequirement(f"an arm64 userland can't be made: {command[0]} says: {said}")
    return "" if to else done.stdout.strip()
