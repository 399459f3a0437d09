"""A virtual environment out of wheels, laid by hand: a bare system has neither pip nor what `venv` needs of it."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from edge_asd.arrival.places import PIECE, Places, Refused, sync
from edge_asd.arrival.uploads import arrived

UNIT = "edge-asd.service"
LARGEST_RUNTIME = 2 << 30  # unpacked
WARM_SECONDS = 600

ID = re.compile("[0-9a-f]{16}")
_WHEEL = re.compile(r"[0-9A-Za-z_.+-]{1,200}\.whl")
# Python keeps what it has compiled beside the sources, where only root may write: so it is done now, for what listens;
# and not by itself (-B), or the system's own modules would be written to.
_WARM = """
import py_compile, sys
files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
for file in sorted(files):
    if file.startswith(sys.prefix) and file.endswith(".py"):
        py_compile.compile(file, doraise=True)
"""
_IMPORT = """
import edge_asd.cli, edge_asd.daemon, edge_asd.golden, edge_asd.release_commands
from edge_asd.model import installed_runtime
edge_asd.cli.build()
installed_runtime()
"""
_SCRIPT = """\
#!{python} -I
from edge_asd.__main__ import main

main()
"""


class Runtime(NamedTuple):
    """What a runtime is made of: its id, for which Python, wheels and their SHA-256; that of the unit and the SBOM."""

    id: str
    python: str
    wheels: dict[str, str]
    unit: str
    sbom: str


def build(places: Places, runtime: Runtime, say: Callable[[str, str], None]) -> None:
    """Lay a runtime, whole or not at all; one that is here stays as it is.

    Raises:
        Refused: a wheel never came, holds what no wheel does, or doesn't work on this device.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if not ID.fullmatch(runtime.id) or any(not _WHEEL.fullmatch(name) for name in runtime.wheels):
        raise Refused(f"{runtime.id[:40]}: the list of wheels can't be.")
    if runtime.python != version:
        raise Refused(f"the wheels are for Python {runtime.python}, this is {platform.python_version()}.")
    place = places.runtimes / runtime.id
    if place.is_dir():
        if _imports(place):
            return
        shutil.rmtree(place.rename(places.runtimes / f".gone-{runtime.id}"))
        raise Refused(f"{place}: was damaged, and is removed; run the same command again, which brings it anew.")
    with places.alone():
        staging = places.runtimes / f".staging-{runtime.id}"
        shutil.rmtree(staging, ignore_errors=True)
        packages = staging / "lib" / f"python{version}" / "site-packages"
        packages.mkdir(parents=True)
        _lay(places, runtime, staging)
        room = LARGEST_RUNTIME
        for digest in runtime.wheels.values():
            room = _unpack(arrived(places, digest, "wheel"), packages, room)
        say("unpack", f"{len(runtime.wheels)} packages, {(LARGEST_RUNTIME - room) / 1e6:.0f} MB")
        _warm(staging)
        say("compile", "what listens can be imported there")
        os.sync()  # some thousand files: one call for all of them
        staging.rename(place)
        sync(places.runtimes)
        for digest in (runtime.unit, runtime.sbom):  # copied; of wheels the next update needs those that stay the same
            places.arrived(digest, "file").unlink(missing_ok=True)


def _lay(places: Places, runtime: Runtime, staging: Path) -> None:
    """All but the packages. Its script names `current`, where it will be found when this folder has its name."""
    (staging / "bin").mkdir()
    own = Path(sys.executable).resolve()
    (staging / "bin" / "python").symlink_to(own)
    (staging / "bin" / "python3").symlink_to("python")
    (staging / "pyvenv.cfg").write_text(f"home = {own.parent}\ninclude-system-site-packages = false\n")
    (staging / "runtime.json").write_text(json.dumps(runtime._asdict(), indent=1) + "\n")
    script = staging / "bin" / "edge-asd"
    script.write_text(_SCRIPT.format(python=places.current / "venv" / "bin" / "python"))
    script.chmod(0o755)
    shutil.copyfile(arrived(places, runtime.unit, "file"), staging / UNIT)
    shutil.copyfile(arrived(places, runtime.sbom, "file"), staging / "sbom.json")


def _unpack(wheel: Path, packages: Path, room: int) -> int:
    """One wheel into the folder of packages, and nothing outside of it; how many bytes may still come."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            parts = info.filename.split("/")
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or ".." in parts or info.filename.startswith("/"):
                raise Refused(f"{wheel.name}: holds {info.filename!r}, which no wheel does.")
            if parts[0].endswith(".data") and len(parts) > 1:
                if parts[1] not in ("purelib", "platlib"):
                    continue  # scripts and headers: nothing that listens needs them
                parts = parts[2:]
            room -= info.file_size
            if room < 0:
                raise Refused(f"the wheels are larger than {LARGEST_RUNTIME >> 20} MiB when unpacked.")
            if info.is_dir():
                continue
            path = packages.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, PIECE)
    return room


def _imports(place: Path) -> bool:
    """Whether what listens can be imported there."""
    command = [str(place / "bin" / "python"), "-I", "-B", "-c", _IMPORT]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, timeout=WARM_SECONDS, check=False).returncode == 0
    return False


def _warm(staging: Path) -> None:
    """Import what listens. Raises: Refused where that doesn't work here."""
    command = [str(staging / "bin" / "python"), "-I", "-B", "-c", _IMPORT + _WARM]
    done = subprocess.run(command, capture_output=True, timeout=WARM_SECONDS, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"it left with {done.returncode}"]
        raise Refused(f"the runtime doesn't work on this device: {lines[-1]}")
