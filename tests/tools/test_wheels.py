"""What a device gets: the locks, and how their wheels are fetched, kept and refused."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import threading
import time
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from common import ROOT, missing
from cyclonedx_schema import complaints
from edge_asd.errors import (
    ConfigError,
    DeploymentError,
    DownloadError,
    EdgeAsdError,
    MissingRequirement,
    StorageError,
    UsageError,
)
from edge_asd.sbom import needed
from edge_asd_tools.deploy import boards, lock, locking, registry, wheels
from edge_asd_tools.deploy.lock import Lock, Pin
from edge_asd_tools.deploy.runtime_sbom import runtime_sbom

COMBINATIONS = [(machine, python) for machine in lock.MACHINES for python in lock.PYTHONS]
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux2014_aarch64")

# --- the locks


def test_there_is_a_lock_for_every_machine_and_python_of_a_board() -> None:
    assert sorted(path.name for path in lock.FOLDER.iterdir()) == sorted(
        f"{machine}-{python}.txt" for machine, python in COMBINATIONS
    )
    assert {python for name in boards.names() for python in boards.read(name).board.python} == set(lock.PYTHONS)


@pytest.mark.parametrize(("machine", "python"), COMBINATIONS)
def test_a_lock_has_what_the_base_needs_as_it_is_pinned_and_nothing_else(machine: str, python: str) -> None:
    """`make lock` is due where this fails. The packages installed here say what they need, as their wheels do."""
    environment = locking.markers(machine, python)
    pinned = locking.pinned((ROOT / "constraints.txt").read_text(), environment)
    base = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = needed(base, lambda name: metadata.requires(name) or [], environment)
    assert {pin.name: pin.version for pin in lock.read(machine, python).pins} == {name: pinned[name] for name in names}
    assert {"numpy", "ai-edge-litert", "cffi"} <= set(names)
    assert "tflite-runtime" not in names


@pytest.mark.parametrize("name", boards.names())
def test_every_locked_wheel_runs_on_every_board_of_its_machine(name: str) -> None:
    board = boards.read(name).board
    machine = board.wheel_platform[0].split("_", 3)[-1]
    for python in board.python:
        unfit = [pin.file for pin in lock.read(machine, python).pins if not pin.suits(board.wheel_platform)]
        assert not unfit
        assert all(
            any(tag in pin.file for tag in (f"-cp{python.replace('.', '')}-", "-abi3-", "-none-"))
            for pin in lock.read(machine, python).pins
        )


@pytest.mark.parametrize(("machine", "python"), COMBINATIONS)
def test_every_locked_library_loads_on_bookworm(machine: str, python: str) -> None:
    major, minor = lock.read(machine, python).glibc.split(".")
    assert (2, 17) <= (int(major), int(minor)) <= locking.NEWEST_GLIBC


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("numpy==1.26.4", "numpy>=1.26.4"),
        ("numpy==1.26.4", "numpy==1.26.4 --hash=sha256:00"),
        ("sha256:", "md5:"),
        ("glibc 2.30", "glibc newest"),
        ("# numpy-1.26.4-", "# ../numpy-1.26.4-"),
        ("27 wheels", "26 wheels"),
    ],
)
def test_a_lock_that_was_edited_is_refused(tmp_path: Path, before: str, after: str) -> None:
    text = lock.path_of("aarch64", "3.11").read_text()
    assert before in text
    lock.path_of("aarch64", "3.11", tmp_path).write_text(text.replace(before, after, 1))
    with pytest.raises(ConfigError, match="isn't as `make lock` made it"):
        lock.read("aarch64", "3.11", tmp_path)


def test_an_unknown_machine_or_python_says_which_are_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'armv7l', it has them for aarch64 and x86_64; .* 64-bit"):
        wheels.for_device("armv7l", "3.11", PLATFORMS, cache=tmp_path)
    with pytest.raises(UsageError, match=r"Python 3\.12, it has them for 3\.11 and 3\.13"):
        wheels.for_device("aarch64", "3.12", PLATFORMS, cache=tmp_path)
    with pytest.raises(ConfigError, match=r"can't be read .* install edge-asd again"):
        lock.read("aarch64", "3.11", tmp_path)


# --- making them


def write_wheel(
    folder: Path, name: str, version: str, tags: str = "py3-none-any", content: bytes = b"", requires: str = ""
) -> Path:
    """A made-up wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tags}.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        stated = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n"
        archive.writestr(f"{about}/METADATA", stated + (f"Requires-Dist: {requires}\n" if requires else ""))
        archive.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tags}\n")
        archive.writestr(f"{name}/library.so.1", content)
        archive.writestr(f"{about}/RECORD", "")
    return path


def test_what_glibc_a_wheel_needs_its_libraries_say(tmp_path: Path) -> None:
    old = write_wheel(tmp_path, "old", "1", content=b"..\0GLIBC_2.17\0GLIBC_2.2.5\0pow\0GLIBCXX_3.4.40\0")
    new = write_wheel(tmp_path, "new", "1", content=b"..\0GLIBC_2.9\0GLIBC_2.38\0xGLIBC_2.99\0")
    assert locking.oldest_glibc(old) == (2, 17)
    assert locking.oldest_glibc(new) == (2, 38)


def made_up_project(tmp_path: Path, constraints: str) -> Path:
    (tmp_path / "pyproject.toml").write_text("[project]\ndependencies = [\"one>=1; platform_machine != 'armv7l'\"]\n")
    (tmp_path / "constraints.txt").write_text(f"# pins\n{constraints}")
    return tmp_path


def test_a_lock_is_made_from_what_is_pinned_for_that_python(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(index, "one", "1.0")
    newer = write_wheel(index, "one", "2.0", "cp313-cp313-manylinux_2_28_aarch64", b"\0GLIBC_2.31\0")
    project = made_up_project(tmp_path, "one==1.0; python_version < '3.12'\none==2.0; python_version >= '3.12'\n")
    made = locking.make("aarch64", "3.13", project)
    digest = hashlib.sha256(newer.read_bytes()).hexdigest()
    assert made.pins == (Pin("one", "2.0", newer.name, digest, newer.stat().st_size),)
    assert made.glibc == "2.31"
    assert locking.make("aarch64", "3.11", project).pins[0].version == "1.0"

    monkeypatch.setattr(locking, "NEWEST_GLIBC", (2, 30))
    with pytest.raises(
        DownloadError, match=r"^one-2\.0-.*whl: asks for glibc 2\.31, and Bookworm has 2\.30; pin an older version"
    ):
        locking.make("aarch64", "3.13", project)


def test_a_lock_needs_every_version_pinned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"constraints\.txt: doesn't pin one"):
        locking.make("aarch64", "3.13", made_up_project(tmp_path, "two==1\n"))


# --- fetching


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the registry, and nothing else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def pin(path: Path) -> Pin:
    name, version = path.name.split("-")[:2]
    content = path.read_bytes()
    return Pin(name, version, path.name, hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def locks(tmp_path: Path, index: Path) -> Path:
    """A lock for aarch64, Python 3.13, of two made-up wheels that the index has, and that is all that is fetched."""
    pins = (
        pin(write_wheel(index, "one", "1.0", requires="what-no-registry-has")),
        pin(write_wheel(index, "two", "2.0", f"cp312-abi3-{PLATFORMS[0]}")),
    )
    folder = tmp_path / "locks"
    folder.mkdir()
    lock.path_of("aarch64", "3.13", folder).write_text(Lock("aarch64", "3.13", "2.17", pins).text)
    return folder


Fetch = Callable[[], tuple[wheels.Wheel, ...]]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "wheels"


@pytest.fixture
def fetch(locks: Path, cache: Path) -> Fetch:
    return lambda: wheels.for_device("aarch64", "3.13", PLATFORMS, cache=cache, locks=locks)


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_locked_is_fetched_once_and_then_no_network_is_needed(fetch: Fetch, cache: Path, index: Path) -> None:
    fetched = fetch()
    assert [(one.name, one.version) for one in fetched] == [("one", "1.0"), ("two", "2.0")]
    for one in fetched:
        assert one.path == cache / one.file
        assert hashlib.sha256(one.path.read_bytes()).hexdigest() == one.sha256
        assert one.path.stat().st_size == one.size
    assert files_of(cache) == [one.file for one in fetched]
    for path in index.iterdir():
        path.unlink()
    os.utime(fetched[0].path, (0, 0))
    assert fetch() == fetched
    assert fetched[0].path.stat().st_mtime > 0  # used just now, so others go first


def test_without_pip_what_is_kept_still_serves(fetch: Fetch, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = fetch()
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    assert fetch() == fetched
    fetched[0].path.unlink()
    with pytest.raises(
        MissingRequirement, match=r"pip, which isn't installed beside .*; install it with: .* ensurepip"
    ):
        fetch()
    assert files_of(cache) == ["two-2.0-cp312-abi3-manylinux_2_28_aarch64.whl"]


@pytest.mark.parametrize("damage", [b"", b"PK damaged"])
def test_a_damaged_file_of_the_cache_is_fetched_anew(fetch: Fetch, damage: bytes) -> None:
    fetched = fetch()
    whole = fetched[0].path.read_bytes()
    fetched[0].path.write_bytes(damage)
    assert fetch() == fetched
    assert fetched[0].path.read_bytes() == whole


def test_a_damaged_file_that_cannot_be_fetched_anew_is_never_used(fetch: Fetch, index: Path) -> None:
    fetched = fetch()
    fetched[0].path.write_bytes(b"PK damaged")
    (index / fetched[0].file).unlink()
    for _ in range(2):
        with pytest.raises(DownloadError, match=r"one==1\.0 for aarch64, Python 3\.13 could not be fetched"):
            fetch()


def test_another_file_than_the_locked_one_is_refused(fetch: Fetch, cache: Path, index: Path) -> None:
    write_wheel(index, "two", "2.0", f"cp312-abi3-{PLATFORMS[0]}", b"another")
    with pytest.raises(
        DownloadError,
        match=r"two==2\.0 .*another file .*Expected sha256 [0-9a-f]{64}, Got [0-9a-f]{64}\); it is refused",
    ):
        fetch()
    assert files_of(cache) == ["one-1.0-py3-none-any.whl"]


def test_what_the_registry_lacks_is_named_and_what_was_fetched_is_kept(fetch: Fetch, cache: Path, index: Path) -> None:
    (index / f"two-2.0-cp312-abi3-{PLATFORMS[0]}.whl").unlink()
    with pytest.raises(
        DownloadError,
        match=r"^two==2\.0 for aarch64, Python 3\.13 could not be fetched \(pip says: No matching distribution found "
        r"for two==2\.0.*\); connect this machine .* PIP_FIND_LINKS",
    ):
        fetch()
    assert files_of(cache) == ["one-1.0-py3-none-any.whl"]


def test_pip_gets_so_much_time(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FETCH_SECONDS", 0.01)
    with pytest.raises(DownloadError, match=r"one==1\.0 .* \(pip was not done after 0\.01 s\)"):
        fetch()


def test_a_file_called_pip_where_the_person_stands_is_not_pip(
    fetch: Fetch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('not pip')\n")
    monkeypatch.chdir(tmp_path)
    assert len(fetch()) == 2


def test_a_wheel_that_does_not_run_on_the_board_is_refused_before_anything_is_fetched(
    locks: Path, cache: Path, fetch: Fetch
) -> None:
    fetch()
    with pytest.raises(DeploymentError, match=r"two-2\.0.* needs one of manylinux_2_28_aarch64, and the board takes "):
        wheels.for_device("aarch64", "3.13", ["manylinux_2_17_aarch64"], cache=cache, locks=locks)


def test_a_cache_that_cannot_be_written_says_so(locks: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        wheels.for_device("aarch64", "3.13", PLATFORMS, cache=tmp_path / "file" / "wheels", locks=locks)


def test_two_at_once_do_one_another_no_harm(fetch: Fetch, cache: Path) -> None:
    got: list[object] = []

    def work() -> None:
        try:
            got.append(fetch())
        except EdgeAsdError as error:
            got.append(error)

    both = [threading.Thread(target=work) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert got == [fetch(), fetch()]
    assert len(files_of(cache)) == 2  # and no unfinished folder


def test_the_cache_is_bounded_and_what_was_used_last_stays(
    fetch: Fetch, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, name in enumerate(["newest", "newer", "oldest"]):
        path = write_wheel(cache, name, "1", content=bytes(100_000))
        os.utime(path, (time.time() - 100 * age, time.time() - 100 * age))
    monkeypatch.setattr(wheels, "MOST_CACHED", 250_000)
    killed, running = cache / f"{wheels.UNFINISHED}killed", cache / f"{wheels.UNFINISHED}running"
    for folder in (killed, running):
        folder.mkdir()
        (folder / "half.whl").write_bytes(b"half")
    os.utime(killed, (0, 0))
    fetched = fetch()
    assert set(files_of(cache)) == {
        running.name,
        "newest-1-py3-none-any.whl",
        "newer-1-py3-none-any.whl",
        *(one.file for one in fetched),
    }
    monkeypatch.setattr(wheels, "MOST_CACHED", 1)
    fetched[0].path.unlink()
    assert fetch() == fetched  # what is wanted now is never dropped
    assert set(files_of(cache)) == {running.name, *(one.file for one in fetched)}


def test_the_cache_is_where_the_users_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert wheels.default_cache() == tmp_path / "edge-asd" / "wheels"
    for relative in ("", "caches"):  # which the specification has programs ignore
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert wheels.default_cache() == Path.home() / ".cache" / "edge-asd" / "wheels"


def test_an_environments_bill_of_materials_names_every_wheel(fetch: Fetch) -> None:
    document = runtime_sbom(fetch())
    assert document == runtime_sbom(fetch()[::-1])
    assert complaints(document) == []
    components = json.loads(document)["components"]
    assert [one["purl"] for one in components] == ["pkg:pypi/one@1.0", "pkg:pypi/two@2.0"]
    assert [one["hashes"][0]["content"] for one in components] == [one.sha256 for one in fetch()]
    assert all(one["licenses"] == [{"license": {"name": "MIT"}}] for one in components)


def test_what_is_no_wheel_has_no_bill_of_materials(tmp_path: Path) -> None:
    (tmp_path / "one-1-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(DownloadError, match="is no wheel"):
        runtime_sbom([wheels.Wheel(tmp_path / "one-1-py3-none-any.whl", "one", "1", "", 6)])


def test_the_registry_has_what_is_locked(tmp_path: Path) -> None:
    """One wheel of Python and one of machine code, for a machine and a Python that are not ours."""
    real = lock.read("aarch64", "3.13")
    pins = tuple(pin for pin in real.pins if pin.name in {"mdurl", "msgspec"})
    lock.path_of("aarch64", "3.13", tmp_path).write_text(Lock("aarch64", "3.13", "2.17", pins).text)
    platforms = boards.read("pi-zero-2w").board.wheel_platform
    try:
        fetched = wheels.for_device("aarch64", "3.13", platforms, cache=tmp_path / "cache", locks=tmp_path)
    except DownloadError as error:
        if "could not be fetched" not in str(error):
            raise
        missing(f"the package registry ({error})")
        return
    assert [(one.file, one.size) for one in fetched] == [(pin.file, pin.size) for pin in pins]
    assert complaints(runtime_sbom(fetched)) == []
