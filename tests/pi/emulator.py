"""The kernel told to start arm64 programs by an emulator, as long as a test needs that.

A container has no say in that: the kernel is the machine's own, and so is its list of who runs the programs of another
processor. Debian 12's emulator can't run systemd as the first process, so Debian 13's is fetched. Where another is
registered as well, the kernel takes the newest, which is ours.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import missing
from edge_asd.errors import MissingRequirement
from edge_asd_trainer.bench.arm64 import made, unpack_debian
from pi.cache import CACHE

NAME = "edge-asd-aarch64"
PROGRAM = "usr/bin/qemu-aarch64"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
# The head of an ELF file for aarch64, executable or shared object, and which of its bits count.
MAGIC = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
# P: the program learns by which name it was called; O, C: by file descriptor, and with the rights of a setuid program,
# or sudo isn't root; F: opened now, so that it needn't be found inside the container.
FLAGS = "POCF"
# Whoever uses it holds the first shared; the second guards its coming and going. In /run, for the kernel is one for all
# checkouts.
USERS = Path("/run/edge-asd-emulator.users")
DOOR = Path("/run/edge-asd-emulator.door")


@contextmanager
def registered() -> Iterator[None]:
    """Several tests may, at the same time; the last one takes it back."""
    if os.getuid():
        missing("an emulated Raspberry Pi, for which one must be root")
    if platform.machine() == "aarch64":
        yield
        return
    if not BINFMT.is_dir():
        missing("a kernel with binfmt_misc")
    program = _program()
    with USERS.open("w") as users:
        with _door():
            fcntl.flock(users, fcntl.LOCK_SH)
            if not (BINFMT / "register").exists():
                subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True, timeout=10)
            if not (BINFMT / NAME).exists():
                (BINFMT / "register").write_text(f":{NAME}:M::{MAGIC}:{MASK}:{program}:{FLAGS}")
        try:
            yield
        finally:
            with _door():
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass  # another still needs it
                else:
                    (BINFMT / NAME).write_text("-1")


@contextmanager
def _door() -> Iterator[None]:
    with DOOR.open("w") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        yield


def _program() -> Path:
    """Debian 13's emulator, which is linked statically and so runs anywhere."""

    def fetch(into: Path) -> None:
        unpacked = into.parent / "unpacked"
        unpacked.mkdir()
        unpack_debian(unpacked, "trixie", ["qemu-user"], architecture="amd64")
        (into / PROGRAM).parent.mkdir(parents=True)
        shutil.move(unpacked / PROGRAM, into / PROGRAM)

    try:
        return made(CACHE / "trixie-qemu-user", fetch) / PROGRAM
    except MissingRequirement as error:
        missing(str(error))
        raise AssertionError from error  # not reached
