"""Disks that lose and disks that are full: what a program does to one is watched, and played again cut for cut.

    program, with disk.c preloaded --every change--> log --Disk.play--> what a power cut would have left, after each

A library that is preloaded (disk.c) and not a file system of our own: FUSE or device-mapper want root, a kernel that
has them and a program to mount with, and a test must run where none of these is. What that library can't see are
writings through a memory map; SQLite's -shm is the only file that is written so, and is worth nothing after a start.

Real disks lie between these, and may be each of them at times:

    strict  only what was synced: of a file what it held at its last fsync, of a folder the names it had at its own
    eager   every name is there at once, and of a file what was synced, so that a new one is empty
    zeros   as eager, but files are as long as they became, with zeros where nothing was synced (XFS has done that)
    torn    every name; of what wasn't synced some pages and not others, and half of the last write
    kept    everything that was written, as when the program alone is killed
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("strict", "eager", "zeros", "torn", "kept")
PAGE = 4096

_RECORD = struct.Struct("<QqIIc7x")  # of disk.c
_CONTROL = struct.Struct("<6q")
_CONTROL_SIZE = 4096


class Watch:
    """What a program's surroundings must be for a folder to be watched, and how full the disk under it is."""

    def __init__(self, library: Path, root: Path, beside: Path) -> None:
        """Watch the folder `root`; files that this takes lie in the folder `beside`, which is made."""
        beside.mkdir()
        self.root, beside = root.resolve(), beside.resolve()
        self.log, self.mark, self._control = beside / "log", beside / "mark", beside / "control"
        self._library = library
        for file in (self.log, self.mark):
            file.touch()
        self._control.write_bytes(bytes(_CONTROL_SIZE))
        with self._control.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _CONTROL_SIZE)
        self.fill(None)

    def environment(self, *, log: bool = True) -> dict[str, str]:
        """Of the program: ours, and what the library reads."""
        tests = str(Path(__file__).parents[1])
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH", "")])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LD_PRELOAD": str(self._library),
            "WATCHED_ROOT": str(self.root),
            "WATCHED_CONTROL": str(self._control),
            "WATCHED_MARK": str(self.mark),
            **({"WATCHED_LOG": str(self.log)} if log else {}),
        }

    def run(self, *command: object, log: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """A Python program with its arguments, until its end, whatever that is."""
        return subprocess.run(
            [sys.executable, *map(str, command)],
            env=self.environment(log=log),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def fill(self, allowed: int | None, *, failing: int = -1, halved: bool = False) -> None:
        """Let the disk be full after so many more operations that need space (None: never).

        Args:
            allowed: how many succeed before.
            failing: how many fail before there is space again; below 0 for ever.
            halved: the first write that fails writes a half.
        """
        fill(self._shared, allowed, failing=failing, halved=halved)

    @property
    def asked(self) -> int:
        """Operations that needed space, since `fill`."""
        return counted(self._shared)[0]

    @property
    def refused(self) -> int:
        """Those that got none."""
        return counted(self._shared)[1]


def fill(control: mmap.mmap, allowed: int | None, *, failing: int = -1, halved: bool = False) -> None:
    """As `Watch.fill`, for a program that is watched itself."""
    ready = _CONTROL.unpack_from(control)[0]
    _CONTROL.pack_into(control, 0, ready, -1 if allowed is None else allowed, failing, halved, 0, 0)


def counted(control: mmap.mmap) -> tuple[int, int]:
    """Operations that needed space since `fill`, and those that got none."""
    asked, refused = _CONTROL.unpack_from(control)[4:]
    return asked, refused


def own_control() -> mmap.mmap:
    """The control of the library under which this program runs."""
    with open(os.environ["WATCHED_CONTROL"], "r+b") as file:
        return mmap.mmap(file.fileno(), _CONTROL_SIZE)


def acknowledge(what: str) -> None:
    """Say in a program that is watched that something counts as done: a line in its place among the changes."""
    with open(os.environ["WATCHED_MARK"], "ab", buffering=0) as mark:
        mark.write(f"{what}\n".encode())


@dataclass
class File:
    """A file: what it holds, what of it is safe, and which pages were written since."""

    live: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    mode: int = 0o644
    synced_mode: int = 0o644
    dirty: set[int] = field(default_factory=set)

    def write(self, start: int, content: bytes) -> None:
        if start > len(self.live):
            self.live.extend(bytes(start - len(self.live)))
        self.live[start : start + len(content)] = content
        self.dirty.update(range(start // PAGE, (start + len(content) + PAGE - 1) // PAGE))

    def resize(self, size: int) -> None:
        before = len(self.live)
        del self.live[size:]
        self.live.extend(bytes(size - len(self.live)))
        self.dirty.update(range(min(before, size) // PAGE, (max(before, size) + PAGE - 1) // PAGE))

    def sync(self) -> None:
        self.synced, self.synced_mode = bytes(self.live), self.mode
        self.dirty.clear()

    def torn(self, chance: random.Random) -> bytearray:
        """Some of the pages that weren't synced, and not others."""
        content = bytearray(self.synced[: len(self.live)].ljust(len(self.live), b"\0"))
        for page in sorted(self.dirty):
            if chance.random() < 0.5:
                content[page * PAGE : (page + 1) * PAGE] = self.live[page * PAGE : (page + 1) * PAGE]
        return content


@dataclass
class Link:
    target: str


@dataclass
class Folder:
    names: dict[str, Node] = field(default_factory=dict)
    synced: dict[str, Node] = field(default_factory=dict)
    mode: int = 0o755


Node = File | Link | Folder


@dataclass(frozen=True)
class Change:
    """One record of the log."""

    kind: str
    inode: int
    number: int
    first: bytes
    second: bytes

    @property
    def path(self) -> Path:
        return Path(os.fsdecode(self.first))


def changes(log: Path) -> list[Change]:
    """All that a log holds."""
    content, at, found = log.read_bytes(), 0, []
    while at < len(content):
        inode, number, first, second, kind = _RECORD.unpack_from(content, at)
        at += _RECORD.size
        found.append(
            Change(kind.decode(), inode, number, content[at : at + first], content[at + first : at + first + second])
        )
        at += first + second
    return found


class Disk:
    """A folder as it was before a program began, to which the program's changes are done again one by one."""

    def __init__(self, root: Path) -> None:
        """Read what is there; all of it is safe."""
        self._root = root.resolve()
        self._known: dict[int, Node] = {}  # by inode
        self.tree = self._read(self._root)
        self.acknowledged: list[str] = []
        self._last: tuple[File, int, int, bytes] | None = None  # the last write: where, how much, and over what

    def _read(self, path: Path) -> Folder:
        found = Folder(mode=path.stat().st_mode & 0o7777)
        for child in sorted(path.iterdir()):
            number = child.lstat().st_ino
            node: Node
            if child.is_symlink():
                node = Link(os.readlink(child))
            elif child.is_dir():
                node = self._read(child)
            else:
                content, mode = child.read_bytes(), child.stat().st_mode & 0o7777
                node = self._known.get(number) or File(bytearray(content), content, mode, mode)
            found.names[child.name] = self._known[number] = node
        found.synced = dict(found.names)
        self._known[path.stat().st_ino] = found
        return found

    def play(self, changes: Sequence[Change]) -> Iterator[int]:
        """Stop before the first change and after each; what `lay` then gives is what a power cut there would leave."""
        yield 0
        for number, change in enumerate(changes, 1):
            self._apply(change)
            yield number

    def _apply(self, change: Change) -> None:
        self._last = None
        match change.kind:
            case "a":
                self.acknowledged += change.first.decode().splitlines()
            case "c":
                self._name(change, File(mode=change.number, synced_mode=change.number))
            case "m":
                self._name(change, Folder(mode=change.number))
            case "l":
                self._name(change, Link(os.fsdecode(change.second)))
            case "h":
                self._name(change, self._known[change.inode])
            case "r":
                target = Path(os.fsdecode(change.second))
                self._folder(target).names[target.name] = self._folder(change.path).names.pop(change.path.name)
            case "u":
                del self._folder(change.path).names[change.path.name]
            case "w":
                file = self._file(change)
                over = bytes(file.live[change.number : change.number + len(change.first)])
                file.write(change.number, change.first)
                self._last = file, change.number, len(change.first), over
            case "t":
                self._file(change).resize(change.number)
            case "p":
                self._chmod(self._known[change.inode], change.number)
            case "f":
                self._sync(self._known[change.inode], change.number)
            case other:
                raise AssertionError(f"disk.c noted {other!r}")

    def _folder(self, path: Path) -> Folder:
        folder = self.tree
        for part in path.parent.relative_to(self._root).parts:
            child = folder.names[part]
            assert isinstance(child, Folder), path
            folder = child
        return folder

    def _file(self, change: Change) -> File:
        node = self._known[change.inode]
        assert isinstance(node, File), change
        return node

    def _name(self, change: Change, node: Node) -> None:
        self._folder(change.path).names[change.path.name] = self._known[change.inode] = node

    @staticmethod
    def _chmod(node: Node, mode: int) -> None:
        if not isinstance(node, Link):
            node.mode = mode

    @staticmethod
    def _sync(node: Node, checksum: int) -> None:
        if isinstance(node, Folder):
            node.synced = dict(node.names)
        elif isinstance(node, File):
            node.sync()
            assert zlib.crc32(node.synced) == checksum, "something was written in a way that disk.c doesn't see"

    def lay(self, kind: str, place: Path, seed: int = 0) -> None:
        """Make what a cut now leaves on this kind of disk in a new folder."""
        self._lay(self.tree, kind, place, random.Random(seed))

    def _lay(self, folder: Folder, kind: str, place: Path, chance: random.Random) -> None:
        place.mkdir()
        place.chmod(folder.mode)
        names = folder.synced if kind == "strict" else folder.names
        for name, node in sorted(names.items()):
            path = place / name
            if isinstance(node, Folder):
                self._lay(node, kind, path, chance)
            elif isinstance(node, Link):
                path.symlink_to(node.target)
            else:
                path.write_bytes(self._left(node, kind, chance))
                path.chmod(node.synced_mode if kind == "strict" else node.mode)

    def _left(self, file: File, kind: str, chance: random.Random) -> bytes | bytearray:
        """What a cut leaves of a file."""
        if kind in ("strict", "eager"):
            return file.synced
        if kind == "zeros":
            return file.synced[: len(file.live)].ljust(len(file.live), b"\0")
        if kind == "kept":
            return file.live
        content = file.torn(chance)
        if self._last and self._last[0] is file:  # of which a half is there; a file that it made longer is shorter
            _, start, length, over = self._last
            content[start + length // 2 : start + length] = over[length // 2 :]
        return content
