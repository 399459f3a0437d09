"""What travels to a device: bundle, signature, wheels, the unit that runs them, and what they are made of."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge_asd import signing
from edge_asd.bundle import Bundle, content_of, decode
from edge_asd.errors import UsageError
from edge_asd.release_record import release_id
from edge_asd_tools.deploy import boards, own_wheel, wheels
from edge_asd_tools.deploy.boards import Board
from edge_asd_tools.deploy.runtime_sbom import runtime_sbom

UNIT = "systemd/edge-asd.service"


@dataclass(frozen=True)
class Item:
    """A file: its bytes or where they are, SHA-256 and size, and what the device shall take it for."""

    content: bytes | Path
    sha256: str
    size: int
    kind: str

    @property
    def expected(self) -> tuple[str, int, str]:
        """As a visit has it."""
        return self.sha256, self.size, self.kind

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Its bytes, to be read."""
        with io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb") as file:
            yield file


@dataclass(frozen=True)
class Parcel:
    """A bundle that was verified, with its signature if it has one, and what it is called on the way."""

    bundle: Bundle
    items: tuple[Item, ...]
    name: str

    @property
    def sha256(self) -> str:
        """Of the bundle's file."""
        return self.items[0].sha256

    @property
    def signature(self) -> str | None:
        """SHA-256 of the signature; None where there is none."""
        return self.items[1].sha256 if len(self.items) > 1 else None


@dataclass(frozen=True)
class Luggage:
    """All that one device is to get.

    Attributes:
        parcel: the bundle.
        runtime: what the environment is made of, as `arrival.runtimes` has it.
        items: everything, the largest part first.
    """

    parcel: Parcel
    runtime: dict[str, object]
    items: tuple[Item, ...]

    @property
    def runtime_id(self) -> str:
        """Of the environment: the same wheels, unit and Python have the same."""
        return str(self.runtime["id"])

    @property
    def release(self) -> str:
        """The id of the release that these make."""
        manifest = self.parcel.bundle.manifest
        return release_id(manifest.machine, self.parcel.bundle.digest, self.runtime_id)


def _parcel(path: Path) -> Parcel:
    content = content_of(path)
    bundle = decode(content, str(path))
    signature = signing.read(path)
    items = (_item(content, "bundle"), *([_item(signature, "file")] if signature else []))
    name = re.sub("[^0-9A-Za-z_-]", "-", path.stem)[:90] or bundle.manifest.machine
    return Parcel(bundle, items, f"{name}.easd")


class Packer:
    """Packs for a device, or for a whole fleet: whatever changes on this disk meanwhile, all get the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # what is fetched for one device is there for the next
        self._parcels: dict[Path, Parcel] = {}
        self._runtimes: dict[tuple[object, ...], tuple[dict[str, object], tuple[Item, ...]]] = {}

    def parcel(self, path: Path) -> Parcel:
        """A bundle from a file, its signature from beside it. Raises: BundleError, StorageError."""
        with self._lock:
            if path not in self._parcels:
                self._parcels[path] = _parcel(path)
            return self._parcels[path]

    def pack(self, one: Parcel, board: Board, machine: str, python: str) -> Luggage:
        """What a device gets.

        Args:
            one: the bundle.
            board: whose wheels run there.
            machine, python: the device's, as it says them.

        Raises:
            UsageError: nothing is locked for such a machine, or the board is of another one.
            MissingRequirement, DownloadError, DeploymentError, StorageError: a wheel can't be had.
        """
        platforms = board.board.wheel_platform
        if not any(tag.endswith(machine) for tag in platforms):
            raise UsageError(f"--board {board.board.name}: isn't a {machine}, which the device is; leave --board out.")
        alike = (platforms, machine, python)
        with self._lock:
            if alike not in self._runtimes:
                self._runtimes[alike] = _runtime(platforms, machine, python)
            runtime, items = self._runtimes[alike]
        return Luggage(one, runtime, (*items, *one.items))


def _runtime(platforms: tuple[str, ...], machine: str, python: str) -> tuple[dict[str, object], tuple[Item, ...]]:
    """What an environment is made of, and the files of that."""
    with tempfile.TemporaryDirectory(prefix="edge-asd-") as folder:
        ours = own_wheel.build(Path(folder))
        travelling = [*wheels.for_device(machine, python, platforms), ours]
        sbom = _item(runtime_sbom(travelling), "file")
        items = [Item(wheel.path, wheel.sha256, wheel.size, "wheel") for wheel in travelling[:-1]]
        items.append(_item(ours.path.read_bytes(), "wheel"))
    unit = _item((boards.configs_folder() / UNIT).read_bytes(), "file")
    runtime = {
        "python": python,
        "wheels": {wheel.file: wheel.sha256 for wheel in sorted(travelling, key=lambda wheel: wheel.file)},
        "unit": unit.sha256,
        "sbom": sbom.sha256,
    }
    identity = hashlib.sha256(json.dumps(runtime, sort_keys=True).encode()).hexdigest()[:16]
    return {"id": identity, **runtime}, (*items, unit, sbom)


def _item(content: bytes, kind: str) -> Item:
    return Item(content, hashlib.sha256(content).hexdigest(), len(content), kind)
