"""What something is made of, as CycloneDX 1.5: packages with their versions, licences and SHA-256.

packages' metadata --component--> a component --document--> the bytes of a software bill of materials

Without a time and without a serial number, and sorted: the same packages give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from email.message import Message
from importlib.metadata import PackageMetadata
from urllib.parse import quote

Component = dict[str, object]

ROLE = "edge-asd:role"
"""The property that says what a package is there for."""

UNKNOWN_LICENCE = "NOASSERTION"
"""SPDX's word for a licence that nobody has stated."""

LONGEST_LICENCE_NAME = 80


def component(metadata: PackageMetadata | Message, sha256: str | None = None, roles: Iterable[str] = ()) -> Component:
    """One package.

    Args:
        metadata: as its METADATA says it.
        sha256: of its wheel, where that is known.
        roles: what it is there for, in the project's words.
    """
    name, version = _field(metadata, "Name"), _field(metadata, "Version")
    described: Component = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{normalised(name)}@{quote(version, safe='')}",
        "licenses": licences(metadata),
    }
    if sha256:
        described["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    properties = [{"name": ROLE, "value": role} for role in sorted(roles)]
    return {**described, "properties": properties} if properties else described


def licences(metadata: PackageMetadata | Message) -> list[dict[str, object]]:
    """A package's licences as CycloneDX has them: its SPDX expression, else the names that it gives them.

    An old `License` field may hold the whole text, and often says less than the classifiers do: it counts where it is
    one short line.
    """
    if expression := _field(metadata, "License-Expression"):
        return [{"expression": expression}]
    stated = _field(metadata, "License")
    if stated and "\n" not in stated and len(stated) <= LONGEST_LICENCE_NAME and stated.upper() != "UNKNOWN":
        return [{"license": {"name": stated}}]
    classifiers = [line for line in metadata.get_all("Classifier") or [] if line.startswith("License :: ")]
    names = sorted({line.rsplit(" :: ", 1)[1] for line in classifiers}) or [UNKNOWN_LICENCE]
    return [{"license": {"name": name}} for name in names]


def document(name: str, version: str, components: Iterable[Component]) -> bytes:
    """The bill of materials of a program, of these components."""
    described = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": name, "version": version}},
        "components": sorted(components, key=lambda one: (normalised(str(one["name"])), str(one["version"]))),
    }
    return json.dumps(described, indent=1, ensure_ascii=False).encode() + b"\n"


def normalised(name: str) -> str:
    """A package's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(
    requirements: Iterable[str], requires: Callable[[str], Iterable[str]], machine: Mapping[str, str] | None = None
) -> list[str]:
    """The normalised names of all packages that these requirements come to, through whatever they need themselves.

    Args:
        requirements: as packages' metadata states them.
        requires: the requirements of the package of this name.
        machine: environment markers (PEP 508) where they differ from those of the machine we are on.

    Raises:
        ModuleNotFoundError: `packaging` isn't installed, which a device doesn't need.
    """
    from packaging.requirements import Requirement

    environment = {**(machine or {}), "extra": ""}  # of the packages' own extras, none was asked for
    found: set[str] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        name = normalised(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate(environment)):
            continue
        found.add(name)
        waiting += [Requirement(line) for line in requires(name)]
    return sorted(found)


def _field(metadata: PackageMetadata | Message, name: str) -> str:
    """A field's first value; without one, nothing: a message gives None then, other metadata raises."""
    return str((metadata.get_all(name) or [""])[0]).strip()
