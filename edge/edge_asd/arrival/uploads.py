"""Files that come over a connection which may break: each is named by its SHA-256, and goes on where it stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from edge_asd.arrival.places import PIECE, Places, Refused, sha256_of, sync, text_of

LARGEST_FILE = 512 << 20
MOST_FILES = 200
SPARE = 64 << 20  # of the disk, that stays free

DIGEST = re.compile("[0-9a-f]{64}")
BUNDLE = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z_.-]{0,99}\.easd")


class Expected(NamedTuple):
    """A file that will come: its SHA-256, its size in bytes, and whether it is a wheel, a bundle or another file."""

    sha256: str
    size: int
    kind: str


def free_bytes(places: Places) -> int:
    """Of the disk on which deployments lie, or will."""
    folder = next(folder for folder in (places.home, *places.home.parents) if folder.is_dir())
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def expect(places: Places, files: Iterable[Expected], room: int, *, dry: bool) -> dict[str, int]:
    """How many bytes of each file are here: as a whole, of an upload that broke off, or in a release.

    Args:
        places: of the device.
        files: that will come. What else is there of broken uploads, and of wheels that no runtime needs, is removed.
        room: bytes that are needed beside them.
        dry: nothing is removed or made.

    Raises:
        Refused: the disk is too full for them, or they can't be.
    """
    files = tuple(files)
    if not dry:
        _clear(places, files)
    if len(files) > MOST_FILES or any(not DIGEST.fullmatch(one.sha256) or one.size > LARGEST_FILE for one in files):
        raise Refused("the list of files can't be; is edge-asd of the same version on both sides?")
    here = {one.sha256: _here(places, one) for one in files}
    needed = sum(one.size - here[one.sha256] for one in files) + room + SPARE
    if needed > (free := free_bytes(places)):
        raise Refused(f"{places.home}: needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free; free some there.", 7)
    return here


def take(places: Places, expected: Expected, begin: int, stream: IO[bytes]) -> None:
    """The bytes of a file from one on, out of a stream; they are put behind those that are here.

    Raises:
        Refused: what has come isn't what was sent. Where the stream ended too early, what came is kept.
    """
    digest, size, kind = expected
    if not DIGEST.fullmatch(digest) or not 0 <= begin <= size <= LARGEST_FILE:
        raise Refused(f"{digest[:64]}: {size} bytes from {begin} on can't be.")
    part = places.incoming / f"{digest}.part"
    left = size - begin
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.truncate(begin)
            file.seek(begin)
            while left:
                if not (piece := stream.read(min(PIECE, left))):
                    raise Refused("the connection broke off.")
                left -= len(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        while left and (piece := stream.read(min(PIECE, left))):  # else the rest would be taken for requests
            left -= len(piece)
        raise
    whole = places.arrived(digest, kind)
    try:
        if sha256_of(part) != digest:
            part.unlink()
            raise Refused("what arrived is not what was sent (SHA-256); run the same command again.")
        part.rename(whole)
    except FileNotFoundError:
        raise Refused("another deployment removed what arrived; run the same command again.") from None
    sync(whole.parent)


def arrived(places: Places, digest: str, kind: str) -> Path:
    """The path of a file that still is what it was when it came. Raises: Refused."""
    path = places.arrived(digest, kind)
    if not DIGEST.fullmatch(digest) or not path.is_file():
        raise Refused(f"{digest[:64]}: never came; run the same command again.")
    if sha256_of(path) != digest:
        path.unlink()
        raise Refused(f"{path}: is not what was written there; run the same command again, or mend the disk.")
    return path


def bundle(places: Places, name: str, digest: str, signature: str | None) -> Path:
    """The path of a bundle, its signature beside it: in a release that has both, else as it came, by its own name.

    Raises:
        Refused: it never came, or isn't what it was; or no bundle is called so.
    """
    check_name(name)
    came = places.incoming / digest
    for path in places.bundles():
        if sha256_of(path) != digest:
            continue
        beside = path.with_name(f"{path.name}.sig")
        if signature is None or (beside.is_file() and sha256_of(beside) == signature):
            return path
        if not came.is_file():
            shutil.copyfile(path, came)
    named = arrived(places, digest, "bundle").rename(places.incoming / name)
    if signature:
        arrived(places, signature, "file").rename(named.with_name(f"{name}.sig"))
    return named


def check_name(name: str) -> None:
    """Raises: Refused, where no bundle can be called so."""
    if not BUNDLE.fullmatch(name):
        raise Refused(f"{name[:100]!r}: no bundle can be called so.")


def _here(places: Places, expected: Expected) -> int:
    digest, size, kind = expected
    if kind != "wheel":
        kept = [path if kind == "bundle" else path.with_name(f"{path.name}.sig") for path in places.bundles()]
        if any(path.is_file() and sha256_of(path) == digest for path in kept):
            return size
    for path in (places.arrived(digest, kind), places.incoming / f"{digest}.part"):
        if path.is_file() and path.stat().st_size <= size:
            return path.stat().st_size
    return 0


def _clear(places: Places, files: tuple[Expected, ...]) -> None:
    """Remove what others have left that broke off, before the room is measured. Raises: Refused, if one is at work."""
    with places.alone():
        for folder in (places.incoming, places.wheels):
            folder.mkdir(parents=True, exist_ok=True)
        places.incoming.chmod(0o700)
        _keep(places.incoming, {name for one in files for name in (one.sha256, f"{one.sha256}.part")})
        _keep(places.wheels, {one.sha256 for one in files} | _needed_wheels(places))
        for staging in places.runtimes.glob(".*"):
            shutil.rmtree(staging)


def _keep(folder: Path, wanted: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in wanted:
            path.unlink(missing_ok=True)


def _needed_wheels(places: Places) -> set[str]:
    """The digests of the wheels that the runtimes here were made of: an update then brings only what has changed."""
    needed: set[str] = set()
    for path in places.runtimes.glob("[!.]*/runtime.json"):
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # damaged: its wheels come again
            needed |= set(json.loads(text_of(path))["wheels"].values())
    return needed
