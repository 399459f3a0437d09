"""The package registry, asked through pip, for wheels of another machine and another Python than ours."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from edge_asd import child, files
from edge_asd.errors import CheckFailed, DownloadError, MissingRequirement

FETCH_SECONDS = 900.0  # for one wheel: 20 MB at 25 kB/s


@dataclass(frozen=True)
class Target:
    """Whom wheels are for: a machine, its Python (X.Y) and the platform tags that run on it."""

    machine: str
    python: str
    platforms: tuple[str, ...]

    @property
    def options(self) -> list[str]:
        """The words that have pip choose for it, and not for us."""
        abis = (f"cp{self.python.replace('.', '')}", "abi3", "none")
        return [
            *(word for platform in self.platforms for word in ("--platform", platform)),
            *("--python-version", self.python, "--implementation", "cp"),
            *(word for abi in abis for word in ("--abi", abi)),
        ]


def fetch(requirement: str, target: Target, into: Path) -> Path:
    """One wheel, into a folder that holds none yet; where the requirement has a hash, pip holds the file against it.

    pip evaluates environment markers for our own machine, so what a wheel needs itself is left to the lock.

    Args:
        requirement: a line of a requirements file.
        target: whom it is for.
        into: the folder.

    Raises:
        MissingRequirement: pip isn't installed here.
        DownloadError: the registry hasn't got it, has another file, or can't be reached.
        StorageError: the folder can't be written.
    """
    _check_for_pip()
    lines = into / "requirements.txt"
    files.write_text(lines, f"{requirement}\n")
    words = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary", ":all:"]
    what = f"{requirement.split(maxsplit=1)[0]} for {target.machine}, Python {target.python}"
    # -P: a file pip.py where the person stands is not pip
    command = [sys.executable, "-P", "-m", "pip", "download", *words, *target.options]
    try:
        done = child.run([*command, "--dest", str(into), "--requirement", str(lines)], seconds=FETCH_SECONDS)
    except CheckFailed as error:
        raise DownloadError(
            f"{what} could not be fetched (pip was not done after {FETCH_SECONDS:g} s); "
            "run the same command again: what was fetched is kept."
        ) from error
    if "DO NOT MATCH THE HASHES" in done.errors:
        raise DownloadError(
            f"{what}: the registry has another file than edge-asd was tested with "
            f"(pip says: {_of_hashes(done.errors)}); it is refused. See which registry pip uses: pip config list."
        )
    found = sorted(into.glob("*.whl"))
    if done.code or len(found) != 1:
        raise DownloadError(
            f"{what} could not be fetched (pip says: {_last_error(done)}); connect this machine to the package "
            "registry, or have pip find the wheels in a folder: export PIP_FIND_LINKS=DIR. "
            "Then run the same command again: what was fetched is kept."
        )
    return found[0]


def _check_for_pip() -> None:
    if importlib.util.find_spec("pip") is None:
        raise MissingRequirement(
            f"wheels are fetched with pip, which isn't installed beside {sys.executable}; install it with: "
            f"{sys.executable} -m ensurepip"
        )


def _of_hashes(errors: str) -> str:
    """The lines that name both hashes, which come last."""
    lines = [" ".join(line.split()) for line in errors.splitlines()]
    return ", ".join(line for line in lines if line.startswith(("Expected sha256", "Got")))


def _last_error(done: child.Finished) -> str:
    errors = [line.strip().removeprefix("ERROR: ") for line in done.errors.splitlines() if "ERROR: " in line]
    return errors[-1] if errors else done.last_line
