"""Debian's kernel for a virtual Pi, what it needs to find its root, and the modules that are there then."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import missing
from edge_asd_trainer.bench.arm64 import unpack_debian
from pi.cache import kept
from pi.debian_root import Suite

# The virtual machine's disk, network and source of chance, and the file system; in this order.
FOR_THE_ROOT = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "crc32c_generic", "ext4")
# What systemd asks for at its start, and a sound card whose one end records what is played into the other.
WITHIN_IT = ("autofs4", "fuse", "configfs", "loop", "snd_aloop")
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
for module in /modules/*; do insmod "$module" || echo "$module can't be loaded"; done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do sleep 0.2; tries=$((tries + 1)); done
mount -t ext4 -o rw,noatime /dev/vda /newroot || { echo "there is no root"; poweroff -f; }
umount /proc
mount --move /dev /newroot/dev
exec switch_root /newroot /sbin/init
"""


@dataclass(frozen=True)
class Kernel:
    """What a virtual machine starts with, in a folder.

    Attributes:
        folder: of the kernel, its initramfs, and a `lib/modules` for the root.
    """

    folder: Path

    @property
    def image(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initramfs(self) -> Path:
        return self.folder / "initramfs"

    @property
    def modules(self) -> Path:
        return self.folder / "lib" / "modules"


def kernel(suite: Suite) -> Kernel:
    """Of a suite; fetched once, and kept in the checkout."""
    for program in ("cpio", "depmod", "xz"):
        if not shutil.which(program):
            missing(program)
    return Kernel(kept(f"kernel-{suite.name}", sys.modules[__name__], lambda into: _make(into, suite)))


def _make(into: Path, suite: Suite) -> None:
    unpacked = into.parent / "unpacked"
    unpacked.mkdir()
    unpack_debian(unpacked, suite.name, ["linux-image-arm64", "busybox-static"])
    [image] = (unpacked / "boot").glob("vmlinuz-*")
    shutil.copy(image, into / "vmlinuz")
    [everything] = (unpacked / "lib/modules").iterdir()
    subprocess.run(["depmod", "-b", str(unpacked), everything.name], check=True, timeout=120)
    modules = into / "lib" / "modules" / everything.name
    modules.mkdir(parents=True)
    for file in everything.glob("modules.*"):
        if file.name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
            shutil.copy(file, modules / file.name)
    for path in _with_dependencies(everything, [*FOR_THE_ROOT, *WITHIN_IT]):
        (modules / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(everything / path, modules / path)
    subprocess.run(["depmod", "-b", str(into), everything.name], check=True, timeout=60)
    first = _with_dependencies(everything, FOR_THE_ROOT)
    _initramfs(into / "initramfs", unpacked / "bin/busybox", [everything / path for path in first])


def _with_dependencies(everything: Path, names: Iterable[str]) -> list[str]:
    """The files of modules, those that others need before them; none of one that is part of the kernel."""
    needs = {}
    for line in (everything / "modules.dep").read_text().splitlines():
        path, _, before_it = line.partition(":")
        needs[_name(path)] = (path, before_it.split())
    builtin = {_name(line) for line in (everything / "modules.builtin").read_text().splitlines()}
    found: list[str] = []
    for name in names:
        if name in builtin:
            continue
        path, others = needs[name]
        found += [*reversed(others), path]
    return list(dict.fromkeys(found))


def _name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


def _initramfs(to: Path, busybox: Path, modules: Sequence[Path]) -> None:
    folder = to.with_name("initramfs.files")
    for name in ("bin", "dev", "proc", "newroot", "modules"):
        (folder / name).mkdir(parents=True)
    shutil.copy(busybox, folder / "bin" / "busybox")
    for number, module in enumerate(modules):
        copy = folder / "modules" / f"{number:02d}-{module.name}"
        shutil.copy(module, copy)
        if copy.suffix == ".xz":  # busybox doesn't load these
            subprocess.run(["xz", "--decompress", str(copy)], check=True, timeout=60)
    (folder / "init").write_text(INIT)
    (folder / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
    with to.open("wb") as file:
        command = ["cpio", "--quiet", "--create", "--format=newc", "--owner=+0:+0"]
        subprocess.run(command, cwd=folder, input=names.encode(), stdout=file, check=True, timeout=60)
    shutil.rmtree(folder)
