"""Whether a document is CycloneDX 1.5, by the format's own JSON schema."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from common import missing


def complaints(document: bytes) -> list[str]:
    """What the schema says against a document; nothing where it is as it must be."""
    found = find_spec("cyclonedx")
    if found is None or not found.submodule_search_locations or find_spec("jsonschema") is None:
        missing("cyclonedx-python-lib and jsonschema")
        return []
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource

    folder = Path(found.submodule_search_locations[0]) / "schema" / "_res"
    schemas = {path.name: json.loads(path.read_text()) for path in folder.glob("*.SNAPSHOT.schema.json")}
    bom = schemas["bom-1.5.SNAPSHOT.schema.json"]
    beside = bom["$id"].rsplit("/", 1)[0]  # they name one another by their files' names
    registry = Registry().with_resources(
        [(f"{beside}/{name}", Resource.from_contents(schema)) for name, schema in schemas.items()]
    )
    errors = Draft7Validator(bom, registry=registry).iter_errors(json.loads(document))
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]
