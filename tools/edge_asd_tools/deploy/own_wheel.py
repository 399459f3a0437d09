"""Our own wheel for a device: the device's room alone, made from what is installed here."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import edge_asd
from edge_asd import files
from edge_asd.errors import MissingRequirement
from edge_asd_tools.deploy.wheels import Wheel

DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip knows: the same files give the same bytes at any time
ENTRY_POINTS = """\
[console_scripts]
edge-asd = edge_asd.__main__:main

[edge_asd.rooms]
device = edge_asd.commands:register
"""


def build(folder: Path) -> Wheel:
    """Write `edge_asd-<version>-py3-none-any.whl` into a folder.

    From an editable checkout or an installed wheel alike. It needs what the device's base needs, has no extras, and
    has neither the trainer's nor the operator's commands. The same files give the same bytes.

    Raises:
        MissingRequirement: the installation that we are in is incomplete.
        StorageError: the folder can't be written.
    """
    installed = distribution("edge-asd")
    described = f"edge_asd-{installed.version}.dist-info"
    contents = {
        **package_files(Path(edge_asd.__file__).parent),
        f"{described}/METADATA": _metadata(installed).encode(),
        f"{described}/WHEEL": b"Wheel-Version: 1.0\nGenerator: edge-asd\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{described}/entry_points.txt": ENTRY_POINTS.encode(),
        f"{described}/licenses/LICENSE": _licence(installed).encode(),
    }
    record = f"{described}/RECORD"
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sorted(contents.items())]
    contents[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    path = folder / f"edge_asd-{installed.version}-py3-none-any.whl"
    with files.atomic(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for name in [*sorted(contents.keys() - {record}), record]:  # the record comes last, as installers like it
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system = 3  # Unix, whose permissions follow
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, contents[name])  # stored: zlibs differ, and so would the bytes
    content = path.read_bytes()
    return Wheel(path, "edge-asd", installed.version, hashlib.sha256(content).hexdigest(), len(content))


def package_files(package: Path) -> dict[str, bytes]:
    """Every file of the package by its path in a wheel; nothing compiled, hidden or linked from elsewhere."""
    found = {}
    for path in sorted(package.rglob("*")):
        inside = path.relative_to(package.parent)
        strange = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if not strange and path.is_file() and not path.is_symlink() and path.suffix != ".pyc":
            found[inside.as_posix()] = path.read_bytes()
    return found


def base_requirements(installed: Distribution) -> list[str]:
    """What the device's room needs: the requirements that belong to no extra."""
    return sorted(line for line in installed.requires or [] if "extra ==" not in line)


def _metadata(installed: Distribution) -> str:
    stated = installed.metadata
    return "\n".join(
        [
            "Metadata-Version: 2.4",
            "Name: edge-asd",
            f"Version: {installed.version}",
            *(
                f"{field}: {value}"
                for field in ("Summary", "Author", "License-Expression", "License-File", "Requires-Python")
                for value in stated.get_all(field) or []
            ),
            *(f"Requires-Dist: {requirement}" for requirement in base_requirements(installed)),
            "",
        ]
    )


def _licence(installed: Distribution) -> str:
    text = installed.read_text("licenses/LICENSE")
    if text is None:
        raise MissingRequirement(
            f"the licence of edge-asd is missing from {installed.locate_file('')}; install it again."
        )
    return text


def _digest(content: bytes) -> str:
    """SHA-256 as a RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
