"""What a device gets, wheel by wheel: `locks/<machine>-<python>.txt`, made by `make lock`.

A lock is in pip's requirements format with hashes, so pip itself refuses another file; above each requirement stands
the wheel's name and size, which pip takes for a comment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_asd.errors import ConfigError, UsageError

MACHINES = ("aarch64", "x86_64")
PYTHONS = ("3.11", "3.13")
FOLDER = Path(__file__).with_name("locks")
LARGEST_FILE = 64 << 10

_HEADER = "# {machine}, Python {python}: {count} wheels, {megabytes:.1f} MB; glibc {glibc} or later. By `make lock`."
_GLIBC = re.compile(r"^# .*; glibc (\d\.\d+) or later\.", re.MULTILINE)
_PIN = re.compile(
    r"^# (?P<file>\w[\w.+-]*\.whl), (?P<size>[1-9]\d{1,9}) bytes\n"
    r"(?P<name>[a-z\d][a-z\d-]*)==(?P<version>[a-z\d.+!]+) --hash=sha256:(?P<sha256>[\da-f]{64})$",
    re.MULTILINE | re.ASCII,
)


@dataclass(frozen=True)
class Pin:
    """One wheel: the package's normalised name and version, the file's name, SHA-256 and size in bytes."""

    name: str
    version: str
    file: str
    sha256: str
    size: int

    @property
    def requirement(self) -> str:
        """The line that has pip fetch this very file."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags of the file, of which a device must have one; `any` suits all."""
        return tuple(self.file.removesuffix(".whl").rsplit("-", 1)[1].split("."))

    def suits(self, platforms: Sequence[str]) -> bool:
        """Whether it runs where these tags do."""
        return "any" in self.platforms or not set(self.platforms).isdisjoint(platforms)


@dataclass(frozen=True)
class Lock:
    """Every wheel of a device, sorted by name.

    Attributes:
        machine: as `uname -m` says.
        python: X.Y.
        glibc: the oldest that all its native libraries load on; a wheel's own tag may promise too much.
        pins: the wheels.
    """

    machine: str
    python: str
    glibc: str
    pins: tuple[Pin, ...]

    @property
    def text(self) -> str:
        """The lock as its file has it."""
        megabytes = sum(pin.size for pin in self.pins) / 1e6
        header = _HEADER.format(
            machine=self.machine, python=self.python, count=len(self.pins), megabytes=megabytes, glibc=self.glibc
        )
        pins = [f"# {pin.file}, {pin.size} bytes\n{pin.requirement}" for pin in self.pins]
        return "\n".join([header, *pins, ""])


def read(machine: str, python: str, folder: Path = FOLDER) -> Lock:
    """The lock of a machine and a Python.

    Raises:
        UsageError: edge-asd has none for them.
        ConfigError: the file is missing, or isn't as `make lock` makes it.
    """
    if machine not in MACHINES:
        raise UsageError(
            f"edge-asd has no wheels for the machine {machine!r}, it has them for {' and '.join(MACHINES)}; "
            "a Raspberry Pi needs a 64-bit system image."
        )
    if python not in PYTHONS:
        raise UsageError(
            f"edge-asd has no wheels for Python {python}, it has them for {' and '.join(PYTHONS)}: "
            "those of Raspberry Pi OS Bookworm and Trixie."
        )
    path = path_of(machine, python, folder)
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error}); install edge-asd again.") from error
    pins = tuple(
        Pin(found["name"], found["version"], found["file"], found["sha256"], int(found["size"]))
        for found in _PIN.finditer(text)
    )
    glibc = _GLIBC.search(text)
    lock = Lock(machine, python, glibc[1] if glibc else "", pins)
    if not pins or lock.text != text:  # it is written by a program, byte for byte
        raise ConfigError(f"{path}: isn't as `make lock` made it; install edge-asd again.")
    return lock


def path_of(machine: str, python: str, folder: Path = FOLDER) -> Path:
    """The file of a lock."""
    return folder / f"{machine}-{python}.txt"
