"""Where things lie on a device, as `release_tree` has it; and what may be relied on of a file."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from pathlib import Path
from typing import IO

PIECE = 1 << 18
LARGEST_TEXT = 64 << 10
COMMAND_SECONDS = 120


class Refused(Exception):
    """A request can't be done: a sentence that says what was found and how to mend it, and the exit code it makes."""

    def __init__(self, why: str, code: int = 8) -> None:
        super().__init__(why)
        self.code = code


class Places:
    """The folders of one device; `root` is "/" there."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.home = self.root / "opt/edge-asd"
        self.incoming = self.home / "incoming"
        self.wheels = self.home / "wheels"
        self.runtimes = self.home / "runtimes"
        self.releases = self.home / "releases"
        self.current = self.home / "current"
        self.etc = self.root / "etc/edge-asd"
        self.state = self.root / "var/lib/edge-asd"

    def arrived(self, digest: str, kind: str) -> Path:
        """Where a file lies that came whole, by its SHA-256."""
        return (self.wheels if kind == "wheel" else self.incoming) / digest

    def bundles(self) -> list[Path]:
        """The bundle of every release that is here."""
        return sorted(self.releases.glob("[!.]*/bundle.easd"))

    def busy(self) -> bool:
        """Whether a deployment is at work."""
        try:
            with (self.home / "lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def alone(self) -> IO[str]:
        """The lock of `release`, to be held by a with statement. Raises: Refused where another deployment has it."""
        self.home.mkdir(parents=True, exist_ok=True)
        file = (self.home / "lock").open("a")
        os.fchmod(file.fileno(), 0o600)  # as `release_tree.locked` has it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise Refused(
                f"{self.home}: another deployment is at work there; wait until it is done, then run this one again."
            ) from None
        return file


def exit_code_of(*words: str) -> int:
    """Run a command to its end, which may have nothing to do. Raises: OSError, subprocess.TimeoutExpired."""
    return subprocess.run(words, capture_output=True, timeout=COMMAND_SECONDS, check=False).returncode


def text_of(path: Path) -> str:
    """The beginning of a text file; "" where it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_TEXT).decode(errors="replace")
    except OSError:
        return ""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def sync(folder: Path) -> None:
    """Have a folder's names on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
