"""Bills of materials: what a component says, and that the document is CycloneDX."""

from __future__ import annotations

import json
import random
from email.message import Message

import pytest

from cyclonedx_schema import complaints
from edge_asd import sbom


def stated(*fields: tuple[str, str]) -> Message:
    message = Message()
    for name, value in (("Name", "Some.Package_x"), ("Version", "1.2.3+cpu"), *fields):
        message[name] = value
    return message


MIT_CLASSIFIER = ("Classifier", "License :: OSI Approved :: MIT License")


@pytest.mark.parametrize(
    ("fields", "licences"),
    [
        ([("License-Expression", "MIT OR EPL-2.0"), ("License", "both")], [{"expression": "MIT OR EPL-2.0"}]),
        ([("License", "ZPL 2.1"), MIT_CLASSIFIER], [{"license": {"name": "ZPL 2.1"}}]),
        (
            [("License", "Copyright (c) us\n\nRedistribution ..."), MIT_CLASSIFIER],
            [{"license": {"name": "MIT License"}}],
        ),
        ([("License", "Permission is granted " * 9), MIT_CLASSIFIER], [{"license": {"name": "MIT License"}}]),
        ([("License", "UNKNOWN"), MIT_CLASSIFIER], [{"license": {"name": "MIT License"}}]),
        (
            [
                MIT_CLASSIFIER,
                ("Classifier", "License :: OSI Approved :: BSD License"),
                ("Classifier", "Typing :: Typed"),
            ],
            [{"license": {"name": "BSD License"}}, {"license": {"name": "MIT License"}}],
        ),
        ([], [{"license": {"name": "NOASSERTION"}}]),
    ],
)
def test_a_licence_is_what_the_package_says_of_itself(
    fields: list[tuple[str, str]], licences: list[dict[str, object]]
) -> None:
    one = sbom.component(stated(*fields))
    assert one["licenses"] == licences
    assert complaints(sbom.document("x", "1", [one])) == []


def test_a_component_names_its_package_its_file_and_what_it_is_there_for() -> None:
    one = sbom.component(stated(), sha256="ab" * 32, roles=["on-device", "made-with"])
    assert (one["name"], one["version"]) == ("Some.Package_x", "1.2.3+cpu")
    assert one["purl"] == "pkg:pypi/some-package-x@1.2.3%2Bcpu"
    assert one["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert one["properties"] == [
        {"name": "edge-asd:role", "value": "made-with"},
        {"name": "edge-asd:role", "value": "on-device"},
    ]
    assert complaints(sbom.document("x", "1", [one])) == []


def test_the_same_packages_give_the_same_bytes_in_whatever_order() -> None:
    components = [sbom.component(stated(("License", str(number)))) | {"name": f"p{number}"} for number in range(9)]
    shuffled = random.Random(1).sample(components, len(components))
    document = sbom.document("edge-asd", "0.1.0", components)
    assert sbom.document("edge-asd", "0.1.0", shuffled) == document
    read = json.loads(document)
    assert [one["name"] for one in read["components"]] == sorted(one["name"] for one in components)
    assert not {"serialNumber", "timestamp"} & {*read, *read["metadata"]}


def test_the_schema_does_complain() -> None:
    assert complaints(sbom.document("x", "1", [{"type": "library", "version": "1", "name": "p", "licences": []}]))


def test_what_is_needed_follows_markers_and_takes_no_extra() -> None:
    requires = {
        "a": ["B_b>=1", "arm; platform_machine == 'armv7l'", "docs; extra == 'docs'"],
        "b-b": ["a", "c[fast]<2"],
        "arm": ["deep"],
    }
    asked: list[str] = []

    def of(name: str) -> list[str]:
        asked.append(name)
        return requires.get(name, [])

    assert sbom.needed(["A"], of, {"platform_machine": "aarch64"}) == ["a", "b-b", "c"]
    assert sorted(asked) == ["a", "b-b", "c"]  # each once, though a and b need one another
    assert sbom.needed(["A"], of, {"platform_machine": "armv7l"}) == ["a", "arm", "b-b", "c", "deep"]
