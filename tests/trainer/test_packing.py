"""A bundle's bill of materials."""

from __future__ import annotations

import json

import pytest

from cyclonedx_schema import complaints
from edge_asd_trainer import packing


def test_a_bundles_bill_of_materials_says_what_made_it_and_what_the_device_runs() -> None:
    document = packing._sbom()
    assert document == packing._sbom()
    assert complaints(document) == []
    roles = {one["name"]: [said["value"] for said in one["properties"]] for one in json.loads(document)["components"]}
    assert roles["torch"] == ["made-with"]
    assert roles["numpy"] == ["made-with", "on-device"]
    assert roles["cffi"] == ["on-device"]  # through soundfile
    assert "tflite-runtime" not in roles  # of another machine alone
    assert "jinja2" not in {name.lower() for name in roles}  # of an extra
    assert all(one["licenses"] for one in json.loads(document)["components"])


def test_a_training_of_hours_does_not_end_for_a_package_under_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MADE_WITH", ("torch", "tensorflow-of-my-own"))
    names = {one["name"] for one in json.loads(packing._sbom())["components"]}
    assert "torch" in names
    assert "tensorflow-of-my-own" not in names
