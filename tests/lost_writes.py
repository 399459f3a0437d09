"""What a power cut leaves of a disk: writes that nobody synced are lost. As a program it deploys and keeps each cut.

Two disks are imagined at every change of the file system. On the *strict* one only that is there which was synced: of
a file what it held at its last fsync, of a folder the names that it had at its own. On the *eager* one every name is
there at once, and of a file still only what was synced, so that an unsynced one is empty. Real disks lie between.

    python lost_writes.py TEMPLATE WORK CASES BUNDLE ENVIRONMENT CONFIG
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

CHANGES = {"os.rename", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass
class File:
    content: bytes = b""


@dataclass
class Link:
    target: str


@dataclass
class Folder:
    names: dict[str, Node] = field(default_factory=dict)


Node = File | Link | Folder


class Disk:
    """What is safe of the tree under a root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known: dict[int, Node] = {}  # by the number of what is there now; numbers are used again
        for path in sorted(root.rglob("*"), key=lambda path: -len(path.parts)):
            self.keep(path)
        self.keep(root)

    def node(self, path: Path) -> Node:
        number = path.lstat().st_ino
        if number not in self.known:
            self.known[number] = Link(os.readlink(path)) if path.is_symlink() else Folder() if path.is_dir() else File()
        return self.known[number]

    def keep(self, path: Path) -> None:
        """It was synced as it is."""
        node = self.node(path)
        if isinstance(node, File):
            node.content = path.read_bytes()
        elif isinstance(node, Folder):
            node.names = {child.name: self.node(child) for child in path.iterdir()}

    def forget(self, path: Path) -> None:
        """Its number may soon be another's."""
        if os.path.lexists(path):
            self.known.pop(path.lstat().st_ino, None)

    def strict(self) -> Folder:
        root = self.node(self.root)
        assert isinstance(root, Folder)
        return root

    def eager(self, folder: Path | None = None) -> Folder:
        found = Folder()
        for path in (folder or self.root).iterdir():
            node = self.node(path)
            found.names[path.name] = self.eager(path) if isinstance(node, Folder) else node
        return found


def lay(tree: Folder, place: Path, pool: Path) -> None:
    """Make a tree real; the same content is one file with many names."""
    place.mkdir()
    for name, node in tree.names.items():
        if isinstance(node, Folder):
            lay(node, place / name, pool)
        elif isinstance(node, Link):
            (place / name).symlink_to(node.target)
        else:
            whole = pool / hashlib.sha256(node.content).hexdigest()
            if not whole.exists():
                whole.write_bytes(node.content)
            os.link(whole, place / name)


def main(template: str, work: str, cases: str, bundle: str, environment: str, config: str) -> None:
    from edge_asd import release

    shutil.copytree(template, work, symlinks=True)
    pool = Path(cases, "pool")
    pool.mkdir(parents=True)
    disk, watching, number = Disk(Path(work)), True, 0

    def at(name: object, folder: object = -1) -> Path:
        where = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else "."
        return Path(where, os.fsdecode(name))  # type: ignore[arg-type]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal watching, number
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if not watching or not (writes or event in CHANGES):
            return
        watching = False
        for kind, tree in (("strict", disk.strict()), ("eager", disk.eager())):
            lay(tree, Path(cases, f"{number:03}-{kind}"), pool)
        number += 1
        if event in ("os.remove", "os.rmdir"):
            disk.forget(at(*arguments))
        elif event == "os.rename":
            disk.forget(at(arguments[1], arguments[3]))
        watching = True

    def fsync(handle: int) -> None:
        nonlocal watching
        watching = False
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path.is_relative_to(work):
            disk.keep(path)
        watching = True

    os.fsync = fsync
    sys.addaudithook(hook)
    release.activate(Path(work), Path(bundle), release.Provision(Path(environment), config))
    watching = False


if __name__ == "__main__":
    main(*sys.argv[1:])
