"""What a bare device does with what comes: it believes nothing, writes nowhere else, and loses nothing that came."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import ROOT
from edge_asd import arrival
from edge_asd.arrival import runtimes, uploads
from edge_asd.arrival.desk import Desk
from edge_asd.arrival.places import Places, Refused
from edge_asd.arrival.uploads import Expected

SOURCES = [ROOT / "edge" / "edge_asd" / "arrival" / f"{name}.py" for name in arrival.SOURCES]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    found = Places(str(tmp_path / "device"))
    found.home.mkdir(parents=True)
    return found


def arrive(places: Places, content: bytes, kind: str = "file") -> str:
    file = Expected(sha256(content), len(content), kind)
    uploads.expect(places, [file], 0, dry=False)
    uploads.take(places, file, 0, io.BytesIO(content))
    return file.sha256


def zipped(**entries: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def asked(places: Places, *requests: dict[str, Any] | bytes) -> list[dict[str, Any]]:
    """What the desk answers to these, one after the other."""
    lines = [one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in requests]
    answers = io.BytesIO()
    Desk(str(places.root), io.BytesIO(b"".join(lines)), answers).serve()
    return [json.loads(line) for line in answers.getvalue().splitlines()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_it_needs_a_standard_library_alone(path: Path) -> None:
    """And each module only those that were sent before it."""
    known = {f"edge_asd.arrival.{one.stem}" for one in SOURCES[: SOURCES.index(path)]}
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edge_asd"):
            names = (
                {f"{node.module}.{one.name}" for one in node.names}
                if node.module == "edge_asd.arrival"
                else {node.module}
            )
            assert names <= known
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
            assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names
        assert not isinstance(node, ast.Match), "is newer than Python 3.9"


def test_an_upload_goes_on_where_it_broke_off(places: Places) -> None:
    content = bytes(range(256)) * 4000
    file = Expected(sha256(content), len(content), "file")
    assert uploads.expect(places, [file], 0, dry=False) == {file.sha256: 0}
    with pytest.raises(Refused, match="broke off"):
        uploads.take(places, file, 0, io.BytesIO(content[:700_001]))
    assert uploads.expect(places, [file], 0, dry=False) == {file.sha256: 700_001}
    uploads.take(places, file, 700_001, io.BytesIO(content[700_001:] + b"the next request"))
    assert uploads.arrived(places, file.sha256, "file").read_bytes() == content


def test_what_came_of_other_uploads_is_removed(places: Places) -> None:
    arrive(places, b"one")
    arrive(places, b"two", "wheel")
    (places.incoming / f"{sha256(b'three')}.part").write_bytes(b"th")
    arrive(places, b"four")
    assert [path.name for path in places.incoming.iterdir()] == [sha256(b"four")]
    assert list(places.wheels.iterdir()) == []


def test_a_wheel_that_a_runtime_was_made_of_is_kept(places: Places) -> None:
    kept = arrive(places, b"numpy", "wheel")
    folder = places.runtimes / ("0" * 16)
    folder.mkdir(parents=True)
    (folder / "runtime.json").write_text(json.dumps({"wheels": {"numpy.whl": kept}}))
    arrive(places, b"another", "wheel")
    assert (places.wheels / kept).exists()


def test_what_is_not_what_was_sent_is_thrown_away(places: Places) -> None:
    file = Expected(sha256(b"right"), 5, "file")
    uploads.expect(places, [file], 0, dry=False)
    with pytest.raises(Refused, match="is not what was sent"):
        uploads.take(places, file, 0, io.BytesIO(b"wrong"))
    assert list(places.incoming.iterdir()) == []


def test_what_rots_on_the_disk_is_noticed(places: Places) -> None:
    digest = arrive(places, b"content")
    (places.incoming / digest).write_bytes(b"CONTENT")
    with pytest.raises(Refused, match="is not what was written there"):
        uploads.arrived(places, digest, "file")


@pytest.mark.parametrize(
    "file",
    [
        Expected("../../etc/passwd", 3, "file"),
        Expected("0" * 63, 3, "file"),
        Expected("0" * 64, 1 << 40, "file"),
        Expected("0" * 64, -1, "file"),
    ],
)
def test_sizes_and_names_that_can_not_be(places: Places, file: Expected, tmp_path: Path) -> None:
    with pytest.raises(Refused):
        uploads.take(places, file, 0, io.BytesIO(b"abc"))
    assert not places.incoming.exists()
    if file.size >= 0:
        with pytest.raises(Refused):
            uploads.expect(places, [file], 0, dry=False)


def test_a_link_in_the_way_is_not_followed(places: Places, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    file = Expected(sha256(b"abc"), 3, "file")
    uploads.expect(places, [file], 0, dry=False)
    (places.incoming / f"{file.sha256}.part").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        uploads.take(places, file, 0, io.BytesIO(b"abc"))
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["../x.easd", "x", ".easd", "a b.easd", "x.easd\n", "/x.easd", "-rf.txt"])
def test_names_that_no_bundle_has(places: Places, name: str) -> None:
    digest = arrive(places, b"content", "bundle")
    with pytest.raises(Refused, match="no bundle can be called so"):
        uploads.bundle(places, name, digest, None)


def test_nothing_is_removed_by_a_name_that_no_bundle_has(places: Places, tmp_path: Path) -> None:
    digest, precious = arrive(places, b"content", "bundle"), tmp_path / "precious"
    precious.write_bytes(b"")
    (places.releases / "fan-0123456789abcdef" / "venv" / "bin").mkdir(parents=True)
    (places.releases / "fan-0123456789abcdef" / "venv" / "bin" / "python").symlink_to("/bin/true")
    (places.home / "committed.json").write_text('{"releases": ["fan-0123456789abcdef"]}')
    for name in (str(precious), f"../{precious.name}", "x.easd/../../../../precious"):
        [answer] = asked(places, {"do": "run", "step": "shadow", "bundle": digest, "name": name})
        assert "no bundle can be called so" in answer["refused"]
    assert precious.exists()


def link(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc")
    return file.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "parent": lambda: zipped(**{"../../../../../../written": b"x"}),
    "deep": lambda: zipped(**{"numpy/../../../../../../../written": b"x"}),
    "absolute": lambda: zipped(**{"/written": b"x"}),
    "data": lambda: zipped(**{"a.data/purelib/../../../written": b"x"}),
    "link": lambda: link("numpy"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_wheel_writes_nothing_outside(places: Places, tmp_path: Path, kind: str) -> None:
    wheel = tmp_path / "numpy.whl"
    wheel.write_bytes(HOSTILE[kind]())
    packages = tmp_path / "a" / "b" / "packages"
    packages.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Refused, match="which no wheel does"):
        runtimes._unpack(wheel, packages, 1000)
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/written").exists()


def test_a_wheel_that_unpacks_to_more_than_there_may_be(tmp_path: Path) -> None:
    wheel = tmp_path / "bomb.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 1_000_001)
    with pytest.raises(Refused, match="when unpacked"):
        runtimes._unpack(wheel, tmp_path, 1_000_000)
    assert not (tmp_path / "zeros").exists()


def runtime(places: Places, **changed: object) -> runtimes.Runtime:
    """One whose only package can't do what ours does."""
    wheel, unit, sbom = zipped(**{"edge_asd/__init__.py": b""}), b"[Unit]\n", b"{}\n"
    files = [Expected(sha256(one), len(one), kind) for one, kind in ((wheel, "wheel"), (unit, "file"), (sbom, "file"))]
    uploads.expect(places, files, 0, dry=False)
    for file, content in zip(files, (wheel, unit, sbom), strict=True):
        uploads.take(places, file, 0, io.BytesIO(content))
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    described = runtimes.Runtime("0" * 16, python, {"edge_asd.whl": files[0].sha256}, files[1].sha256, files[2].sha256)
    return described._replace(**changed)


def test_a_runtime_that_does_not_work_here_is_not_kept(places: Places) -> None:
    with pytest.raises(
        Refused, match=r"doesn't work on this device: ModuleNotFoundError: No module named 'edge_asd\.cli'"
    ):
        runtimes.build(places, runtime(places), lambda step, outcome: None)
    assert [path for path in places.runtimes.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"id": "../../etc"}, "can't be"),
        ({"wheels": {"../x.whl": "0" * 64}}, "can't be"),
        ({"python": "3.7"}, "are for Python 3.7"),
        ({"unit": "0" * 64}, "never came"),
        ({"wheels": {"x.whl": "0" * 64}}, "never came"),
    ],
)
def test_a_runtime_that_can_not_be(places: Places, changed: dict[str, object], complaint: str) -> None:
    with pytest.raises(Refused, match=complaint):
        runtimes.build(places, runtime(places, **changed), lambda step, outcome: None)


def test_a_desk_answers_everything_in_one_line(places: Places) -> None:
    answers = asked(
        places,
        {"do": "look"},
        {"do": "format", "disk": "/dev/sda"},
        b"no json\n",
        {"do": "run", "step": "rm"},
        {"do": "run", "step": "rollback"},
        {"do": "expect", "files": [["x", 1, "file"]], "room": 0},
        {"do": "remove", "data": False},
        {"do": "look"},
    )
    assert answers[0]["done"]["runtimes"] == []
    assert all("refused" in answer for answer in answers[1:6])
    assert answers[6]["done"] == [str(places.home)]
    assert "done" in answers[7]


def test_a_disk_that_fails_leaves_the_next_request_readable(places: Places) -> None:
    """The bytes of a file that can't be written are not taken for requests."""
    content = b"x" * 300_000
    file = [sha256(content), len(content), "file"]
    take = json.dumps({"do": "take", "file": file, "begin": 0}).encode() + b"\n" + content
    answers = asked(places, take, {"do": "look"})  # nobody asked to expect it, so there is no folder
    assert answers[0]["code"] == 7
    assert "done" in answers[1]


def test_a_broken_connection_ends_the_desk(places: Places) -> None:
    content = b"x" * 300_000
    file = [sha256(content), len(content), "file"]
    expect = json.dumps({"do": "expect", "files": [file], "room": 0}).encode() + b"\n"
    take = json.dumps({"do": "take", "file": file, "begin": 0}).encode() + b"\n" + content[:1000]
    asked(places, expect, take)
    assert (places.incoming / f"{file[0]}.part").stat().st_size == 1000


def test_what_broke_off_makes_room_before_room_is_asked_for(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = places.runtimes / ".staging-0000000000000000"
    staging.mkdir(parents=True)
    monkeypatch.setattr(uploads, "free_bytes", lambda _: 0 if staging.exists() else 1 << 30)
    file = Expected(sha256(b"abc"), 3, "file")
    with pytest.raises(Refused, match="needs"):
        uploads.expect(places, [file], 0, dry=True)
    assert uploads.expect(places, [file], 0, dry=False) == {file.sha256: 0}


def test_uploads_wait_for_a_deployment_that_is_at_work(places: Places) -> None:
    with places.alone():
        assert places.busy()
        with pytest.raises(Refused, match="another deployment is at work"):
            uploads.expect(places, [], 0, dry=False)
    assert not places.busy()


def test_a_damaged_runtime_is_removed_and_brought_anew(places: Places) -> None:
    described = runtime(places)
    half = places.runtimes / described.id
    half.mkdir(parents=True)
    with pytest.raises(Refused, match="was damaged, and is removed; run the same command again"):
        runtimes.build(places, described, lambda step, outcome: None)
    assert not half.exists()


def test_a_damaged_list_of_wheels_stands_in_nobodys_way(places: Places) -> None:
    folder = places.runtimes / ("0" * 16)
    folder.mkdir(parents=True)
    (folder / "runtime.json").write_text("[1")
    assert arrive(places, b"content")


def test_the_committed_runtime_does_what_is_asked_whatever_current_says(places: Places) -> None:
    """A step that was killed leaves `current` at what nobody committed."""
    for release in ("fan-0123456789abcdef", "fan-fedcba9876543210"):
        python = places.releases / release / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\necho \'{{"say": ["ran", "{release}"]}}\'\n')
        python.chmod(0o755)
    places.current.symlink_to("releases/fan-fedcba9876543210")
    (places.home / "committed.json").write_text('{"releases": ["../../x", "fan-0123456789abcdef"]}')
    assert asked(places, {"do": "run", "step": "rollback"})[0] == {"say": ["ran", "fan-0123456789abcdef"]}
