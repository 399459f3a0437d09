"""Our own wheel for a device: what is in it, and that it runs."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edge_asd
from cyclonedx_schema import complaints
from edge_asd_tools.deploy import own_wheel
from edge_asd_tools.deploy.runtime_sbom import runtime_sbom
from edge_asd_tools.deploy.wheels import Wheel

PACKAGE = Path(edge_asd.__file__).parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return own_wheel.build(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def contents(wheel: Wheel) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel.path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def installed(wheel: Wheel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed into, by the installer that everybody has."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run([*pip, "--target", str(folder), str(wheel.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_says_what_it_is(wheel: Wheel) -> None:
    assert wheel.file == f"edge_asd-{edge_asd.__version__}-py3-none-any.whl"
    assert (wheel.name, wheel.version) == ("edge-asd", edge_asd.__version__)
    assert wheel.size == wheel.path.stat().st_size
    assert wheel.sha256 == hashlib.sha256(wheel.path.read_bytes()).hexdigest()


def test_it_holds_the_devices_room_and_no_other(contents: dict[str, bytes]) -> None:
    tops = {name.split("/")[0] for name in contents}
    assert tops == {"edge_asd", f"edge_asd-{edge_asd.__version__}.dist-info"}
    for name in ("py.typed", "page/static/page.js", "page/static/index.html", "__main__.py", "sinks/mqtt.py"):
        assert contents[f"edge_asd/{name}"] == (PACKAGE / name).read_bytes(), name
    assert not [name for name in contents if "__pycache__" in name or name.endswith(".pyc")]


def test_nothing_compiled_hidden_or_linked_goes_along(tmp_path: Path) -> None:
    package = tmp_path / "package"
    for name in ("a.py", "data/b.css", "__pycache__/a.cpython-311.pyc", ".swp", "data/.hidden/c", "old.pyc"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    (package / "secret").symlink_to("/etc/hostname")
    assert own_wheel.package_files(package) == {"package/a.py": b"a.py", "package/data/b.css": b"data/b.css"}


def test_it_needs_the_base_packages_alone(contents: dict[str, bytes]) -> None:
    metadata = contents[f"edge_asd-{edge_asd.__version__}.dist-info/METADATA"].decode()
    needed = set(re.findall(r"^Requires-Dist: ([\w-]+)", metadata, re.MULTILINE))
    assert {"numpy", "ai-edge-litert", "typer", "msgspec", "soundfile", "waitress"} <= needed
    assert not needed & {"torch", "onnx", "packaging", "pytest"}
    assert "Provides-Extra" not in metadata
    assert "License-Expression: Apache-2.0" in metadata


def test_the_record_is_right(contents: dict[str, bytes]) -> None:
    record = f"edge_asd-{edge_asd.__version__}.dist-info/RECORD"
    rows = list(csv.reader(contents[record].decode().splitlines()))
    assert sorted(row[0] for row in rows) == sorted(contents)
    for name, digest, size in rows:
        if name == record:
            assert (digest, size) == ("", "")
            continue
        expected = base64.urlsafe_b64encode(hashlib.sha256(contents[name]).digest()).rstrip(b"=").decode()
        assert (digest, size) == (f"sha256={expected}", str(len(contents[name])))


def test_the_same_files_give_the_same_bytes(wheel: Wheel, tmp_path: Path) -> None:
    assert own_wheel.build(tmp_path).path.read_bytes() == wheel.path.read_bytes()
    with zipfile.ZipFile(wheel.path) as archive:
        said = {(one.date_time, one.external_attr, one.compress_type) for one in archive.infolist()}
    assert said == {((1980, 1, 1, 0, 0, 0), 0o100644 << 16, zipfile.ZIP_STORED)}  # and nothing of the files' own


def run(installed: Path, *arguments: str) -> str:
    """What it says, where the installed wheel comes before this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60, cwd=installed
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs_where_it_is_installed(installed: Path) -> None:
    where = run(installed, "-c", "import edge_asd; print(edge_asd.__file__)")
    assert Path(where.strip()) == installed / "edge_asd" / "__init__.py"
    assert run(installed, "-m", "edge_asd", "--version").strip() == f"edge-asd {edge_asd.__version__}"
    assert (installed / "bin" / "edge-asd").is_file()


def test_it_has_the_devices_commands_alone(installed: Path) -> None:
    listed = run(installed, "-m", "edge_asd", "--help")
    commands = set(re.findall(r"^  ([a-z]+) ", listed, re.MULTILINE))
    assert {"run", "score", "status", "doctor", "bundle"} <= commands
    assert not commands & {"train", "evaluate", "deploy", "demo", "data"}


def test_it_is_in_the_bill_of_materials_with_its_licence(wheel: Wheel) -> None:
    document = runtime_sbom([wheel])
    assert complaints(document) == []
    assert b'"expression": "Apache-2.0"' in document
    assert wheel.sha256.encode() in document
