"""The disks of `disk`: what they forget, what they keep, and when they are full."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from faults import disk
from faults.disk import KINDS, Disk, Watch

WRITE = "file = open('a', 'w'); file.write('content'); file.flush()\n"
SYNC = "os.fsync(file.fileno())\n"
SYNC_FOLDER = "os.fsync(os.open('.', os.O_RDONLY))\n"
SAFE = WRITE + SYNC + SYNC_FOLDER

After = Callable[[str], Disk]


@pytest.fixture
def watch(library: Path, tmp_path: Path) -> Watch:
    (tmp_path / "root").mkdir()
    return Watch(library, tmp_path / "root", tmp_path / "beside")


@pytest.fixture
def after(watch: Watch, tmp_path: Path) -> After:
    """The disk after a program's last change. One without faults holds what the program left, to the last byte."""

    def run(program: str) -> Disk:
        played = Disk(watch.root)
        done = watch.run("-c", f"import os, sqlite3, shutil, sys\nos.chdir({str(watch.root)!r})\n{program}")
        assert done.returncode == 0, done.stderr
        for _ in played.play(disk.changes(watch.log)):
            pass
        played.lay("kept", tmp_path / "kept")
        assert found(tmp_path / "kept") == found(watch.root)
        return played

    return run


def found(folder: Path) -> dict[str, object]:
    """What lies in a folder: of links where they lead, of files what they hold and who may read them."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
        if not path.name.endswith("-shm")
    }


def left(played: Disk, kind: str, place: Path) -> str | None:
    """What there is of the file `a` on a kind of disk."""
    played.lay(kind, place / kind)
    path = place / kind / "a"
    return path.read_text() if path.exists() else None


@pytest.mark.parametrize(
    ("program", "strict", "eager", "zeros"),
    [
        (WRITE, None, "", "\0" * 7),
        (WRITE + SYNC, None, "content", "content"),
        (WRITE + SYNC_FOLDER, "", "", "\0" * 7),
        (SAFE, "content", "content", "content"),
        (SAFE + "file.write('more'); file.flush()", "content", "content", "content\0\0\0\0"),
        (SAFE + "file.truncate(3)", "content", "content", "con"),
        (SAFE + "os.remove('a')", "content", None, None),
        (SAFE + "os.rename('a', 'b')", "content", None, None),
        (SAFE + "os.rename('a', 'b')\n" + SYNC_FOLDER, None, None, None),
        ("os.mkdir('d'); open('d/b', 'w').close(); os.rename('d/b', 'a')\n" + SYNC_FOLDER, "", "", ""),
    ],
)
def test_what_is_not_synced_is_lost(
    after: After, tmp_path: Path, program: str, strict: str | None, eager: str | None, zeros: str | None
) -> None:
    played = after(program)
    assert [left(played, kind, tmp_path) for kind in ("strict", "eager", "zeros")] == [strict, eager, zeros]


def test_a_right_that_is_not_synced_is_lost(after: After, tmp_path: Path) -> None:
    played = after("os.umask(0)\n" + SAFE + "os.chmod('a', 0o600)")
    for kind, mode in (("strict", 0o666), ("eager", 0o600)):
        left(played, kind, tmp_path)
        assert (tmp_path / kind / "a").stat().st_mode & 0o777 == mode


def test_of_what_is_not_synced_some_pages_are_there(after: After, tmp_path: Path) -> None:
    played = after(SAFE + "file.seek(0); file.write('x' * 100 * 4096); file.flush(); file.write('y' * 9); file.flush()")
    content = left(played, "torn", tmp_path) or ""
    pages = {content[start : start + 4096] for start in range(0, 100 * 4096, 4096)}
    assert pages == {"x" * 4096, "\0" * 4096} | ({"content" + "\0" * 4089} & pages)
    assert content[100 * 4096 :] in ("y" * 4, "\0" * 4)


def test_every_way_of_writing_is_seen(after: After) -> None:
    """`after` holds what was played against what the program left."""
    after("""
import ctypes, numpy
import soundfile
open('a', 'wb').write(b'a' * 10000)
os.mkdir('d'); os.symlink('../a', 'd/l'); os.link('a', 'd/h')
shutil.copyfile('a', 'b'); shutil.copytree('d', 'e', symlinks=True); shutil.rmtree('d')
os.system('cp a c; echo more >> c; mv c f; ln -s a g; mkdir -p h/i; touch h/i/j; rm -r e')
file = os.open('k', os.O_CREAT | os.O_RDWR)
os.pwrite(file, b'k' * 5, 7); os.writev(file, [b'1', b'2']); os.pwritev(file, [b'3'], 20); os.truncate('k', 18)
os.posix_fallocate(file, 0, 5000); os.ftruncate(file, 4500)
source = os.open('a', os.O_RDONLY)
os.sendfile(file, source, 0, 30); os.copy_file_range(source, file, 40)
os.fsync(file); os.replace('k', 'm')
numpy.arange(3000.0).tofile('n')
soundfile.write('o.flac', numpy.zeros(5000), 16000)
os.fsync(os.open('n', os.O_RDONLY)); os.fsync(os.open('o.flac', os.O_RDONLY))
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fopen(b'p', b'w'))
libc.fputs(b'a stream', stream); libc.fclose(stream)
if os.fork() == 0:
    open('q', 'w').write('by a child'); os._exit(0)
os.wait()
open('r', 'w').write('xyz'); os.chmod('r', 0o640)
open('r', 'r+').truncate(1); open('r', 'a').write('end')
try:
    open('r', 'x')
except FileExistsError:
    open('s', 'x').close(); os.remove('s')
""")


TABLE = """
known = sqlite3.connect('base')
known.execute('PRAGMA synchronous = {}')
known.execute('PRAGMA journal_mode = WAL')
with known:
    known.execute('CREATE TABLE t (number)')
known.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()
with known:
    known.execute('INSERT INTO t VALUES (1)')
os._exit(0)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_sqlite_synced_is_there(after: After, tmp_path: Path, kind: str) -> None:
    after(TABLE.format("FULL")).lay(kind, tmp_path / "cut")
    with closing(sqlite3.connect(tmp_path / "cut" / "base")) as known:
        assert known.execute("SELECT * FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_nobody_synced_is_lost(after: After, tmp_path: Path, kind: str) -> None:
    after(TABLE.format("OFF")).lay(kind, tmp_path / "cut")
    if kind == "strict":
        assert not list((tmp_path / "cut").iterdir())
    elif kind == "eager":
        assert (tmp_path / "cut" / "base").read_bytes() == b""
    elif kind == "kept":
        with closing(sqlite3.connect(tmp_path / "cut" / "base")) as known:
            assert known.execute("SELECT * FROM t").fetchall() == [(1,)]


def test_what_is_acknowledged_has_its_place_among_the_changes(watch: Watch) -> None:
    program = f"""
from faults.disk import acknowledge
for number in range(3):
    open({str(watch.root)!r} + f'/{{number}}', 'w').close()
    acknowledge(f'made {{number}}')
"""
    played = Disk(watch.root)
    assert watch.run("-c", program).returncode == 0
    played_so_far = played.play(disk.changes(watch.log))
    known = [(len(played.tree.names), list(played.acknowledged)) for _ in played_so_far]
    assert known[::2] == [(count, [f"made {number}" for number in range(count)]) for count in range(4)]


FILLING = """
for number in range(4):
    try:
        with open(str(number), 'wb', buffering=0) as file:
            print(file.write(b'12345678'))
    except OSError as error:
        print(error.errno)
"""


@pytest.mark.parametrize(
    ("allowed", "failing", "halved", "said", "asked"),
    [
        (None, -1, False, "8 8 8 8", 8),
        (0, -1, False, "28 28 28 28", 4),
        (3, -1, False, "8 28 28 28", 6),
        (3, -1, True, "8 4 28 28", 6),
        (2, 2, False, "8 28 28 8", 6),
    ],
)
def test_a_disk_is_full_when_it_is_told_to_be(
    watch: Watch, allowed: int | None, failing: int, halved: bool, said: str, asked: int
) -> None:
    watch.fill(allowed, failing=failing, halved=halved)
    done = watch.run("-c", f"import os\nos.chdir({str(watch.root)!r})\n{FILLING}")
    assert done.stdout.split() == said.split(), done.stderr
    assert watch.asked == asked
    assert watch.refused == said.split().count("28") + halved


def test_a_full_disk_says_so_to_everybody(watch: Watch) -> None:
    """Whoever asks: SQLite, a shell's program, the standard library; nobody who only reads or makes room."""
    (watch.root / "a").write_text("content")
    watch.fill(0)
    program = f"""
import os, shutil, sqlite3
os.chdir({str(watch.root)!r})
assert open('a').read() == 'content'
for act in (
    lambda: shutil.copyfile('a', 'b'), lambda: os.mkdir('c'), lambda: os.symlink('a', 'd'), lambda: os.link('a', 'e'),
    lambda: os.rename('a', 'f'), lambda: os.posix_fallocate(os.open('a', os.O_RDWR), 0, 9),
    lambda: os.truncate('a', 99), lambda: sqlite3.connect('g').execute('CREATE TABLE t (number)'),
):
    try:
        act()
    except (OSError, sqlite3.OperationalError) as error:
        print(getattr(error, 'errno', 28))
assert os.system('cp a h 2>/dev/null') != 0
os.truncate('a', 1); os.chmod('a', 0o600); os.remove('a')
"""
    done = watch.run("-c", program)
    assert (done.returncode, done.stdout.split()) == (0, ["28"] * 8), done.stderr
    assert list(watch.root.iterdir()) == []
