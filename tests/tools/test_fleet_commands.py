"""`edge-asd deploy --fleet`: what a person types, on folders that stand for five devices."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from common import missing
from edge_asd import bundle, cli
from edge_asd.errors import BundleError, DownloadError
from edge_asd.release import status
from edge_asd.release_record import bundle_of
from edge_asd_tools.deploy import boards, deploy_log, first_config, fleet_commands, luggage
from edge_asd_tools.deploy.device import LocalDevice, Order
from edge_asd_tools.deploy.first_config import Wishes
from edge_asd_tools.deploy.luggage import Item, Packer
from edge_asd_tools.deploy.remote_device import RemoteDevice
from edge_asd_tools.deploy.ssh import Ssh
from sshd import HOST, served

OVER_SSH = fleet_commands.device_at
HOSTS = ("d1", "d2", "d3", "d4", "d5")


@dataclass(frozen=True)
class Said:
    """What the command said, and its exit code."""

    code: int
    out: str
    error: str

    @property
    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def states(self) -> list[object]:
        return [row["state"] for row in self.rows]


@pytest.fixture
def hall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the devices are, each in the folder of its name; and the log of what was done with them."""
    monkeypatch.setattr(fleet_commands, "device_at", lambda host, packer: LocalDevice(tmp_path / host))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    log = logging.getLogger(deploy_log.NAME)
    before, log.handlers = log.handlers, []
    yield tmp_path
    for handler in log.handlers:
        handler.close()
    log.handlers = before


@pytest.fixture
def fleet(hall: Path) -> Path:
    path = hall / "fleet.toml"
    devices = [f'[[device]]\nhost = "{host}"\n' + 'section = "00"\n' * (host != "d3") for host in HOSTS]
    path.write_text("at_once = 2\n" + "".join(devices))
    return path


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["edge-asd", "deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return Said(int(left.value.code or 0), *capsys.readouterr())

    return run


def release_of(path: Path) -> str:
    return f"fan-{bundle.digest(path.read_bytes())}"


def running(hall: Path) -> list[str | None]:
    return [status(hall / host).current for host in HOSTS]


def settings(hall: Path, section: str) -> None:
    """d3 has settings of its own."""
    path = hall / "d3" / "etc" / "edge-asd" / "device.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(first_config.compose(boards.read("x86-64"), Wishes(section), [section]))


def test_a_fleet_from_a_wave_that_fails_to_the_last_device_and_back(
    deploy: Callable[..., Said], hall: Path, fleet: Path, tiny_bundle: Path
) -> None:
    ours = release_of(tiny_bundle)
    settings(hall, "07")

    dry = deploy(tiny_bundle, "--fleet", fleet, "--wave", "1,2", "--dry-run", "--json")
    assert (dry.code, dry.states) == (8, ["would change"] * 2 + ["failed"] + ["would change"] * 2)
    assert running(hall) == [None] * 5

    failed = deploy(tiny_bundle, "--fleet", fleet, "--wave", "1,2")
    assert failed.code == 8
    assert running(hall) == [ours, None, None, None, None]
    lines = failed.error.splitlines()
    assert f"wave 2 failed on {hall / 'd3'}" in lines[-1]
    assert "'07'" in lines[-1]
    assert "not begun: 2 of 5 devices" in lines[-1]
    table = lines[-6:-1]
    assert [line.split()[1] for line in table] == ["1", "2", "2", "3", "3"]
    for line, end in zip(table, ["done", "rolled back: none ran", "failed: ", "not begun", "not begun"], strict=True):
        assert f"  {end}" in line
    kept = deploy_log.path().read_text()
    assert f"{hall / 'd1'} commit" in kept
    assert f"{hall / 'd3'} failed" in kept
    assert kept.count("fleet     deploy fan-") == 1

    settings(hall, "01")
    mended = deploy(tiny_bundle, "--fleet", fleet, "--wave", "1,2", "--json")
    assert (mended.code, mended.states) == (0, ["unchanged", *["done"] * 4])
    assert running(hall) == [ours] * 5
    assert mended.rows[1] == {
        "device": str(hall / "d2"),
        "wave": 2,
        "state": "done",
        "before": None,
        "after": ours,
        "why": "",
    }

    newer = hall / "newer.easd"
    bundle.write(newer, replace(bundle.read(tiny_bundle), model_card="# newer\n"))
    assert deploy(newer, "--fleet", fleet).code == 0
    assert running(hall) == [release_of(newer)] * 5
    for states in (["done"] * 5, ["unchanged"] * 5):
        back = deploy(newer, "--fleet", fleet, "--rollback", "--json")
        assert (back.code, back.states) == (0, states)
        assert running(hall) == [ours] * 5


def test_a_section_that_the_bundle_has_not_is_refused_before_any_device_is_asked(
    deploy: Callable[..., Said], hall: Path, fleet: Path, tiny_bundle: Path
) -> None:
    fleet.write_text(fleet.read_text().replace('host = "d3"', 'host = "d3"\nsection = "07"'))
    said = deploy(tiny_bundle, "--fleet", fleet)
    assert said.code == 3
    assert "d3: found section '07', the bundle has 00, 01" in said.error
    assert not (hall / "d1").exists()


def test_all_get_the_same_whatever_changes_meanwhile(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "fan.easd"
    path.write_bytes(tiny_bundle.read_bytes())
    packer = Packer()
    first = packer.parcel(path)
    path.write_bytes(b"PK")
    assert packer.parcel(path) == first
    with pytest.raises(BundleError):
        Packer().parcel(path)


def test_devices_alike_are_packed_for_once(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[object] = []

    def runtime(*alike: object) -> tuple[dict[str, object], tuple[Item, ...]]:
        packed.append(alike)
        time.sleep(0.1)
        return {"id": f"{len(packed):016}"}, ()

    monkeypatch.setattr(luggage, "_runtime", runtime)
    packer, board = Packer(), boards.read("pi-4b")
    one = packer.parcel(tiny_bundle)
    with ThreadPoolExecutor(4) as pool:
        alike = list(pool.map(lambda _: packer.pack(one, board, "aarch64", "3.11").runtime_id, range(8)))
    assert (set(alike), len(packed)) == ({f"{1:016}"}, 1)
    assert packer.pack(one, board, "aarch64", "3.13").runtime_id == f"{2:016}"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--fleet", "FLEET"], "--fleet: takes the bundle"),
        (["--fleet", "FLEET", "--rollback"], "--fleet: takes the bundle, also with --rollback"),
        (["BUNDLE", "pi@d1", "--fleet", "FLEET"], "--fleet: takes the bundle"),
        (["BUNDLE", "--to", "DIR", "--fleet", "FLEET"], "--fleet: takes the bundle"),
        (["BUNDLE", "--section", "00", "--fleet", "FLEET"], "section and board are in"),
        (["BUNDLE", "--board", "pi-5", "--fleet", "FLEET"], "section and board are in"),
        (["BUNDLE", "--rollback", "--dry-run", "--fleet", "FLEET"], "--fleet: takes the bundle"),
        (["BUNDLE", "--fleet", "FLEET", "--wave", "1,half"], "--wave: found 'half'"),
        (["BUNDLE", "--to", "DIR", "--wave", "1"], "--wave: belongs to --fleet"),
        (["BUNDLE", "--to", "DIR", "--json"], "--json: belongs to --fleet"),
    ],
)
def test_wrong_use_says_what_is_right(
    deploy: Callable[..., Said], hall: Path, fleet: Path, tiny_bundle: Path, arguments: list[str], complaint: str
) -> None:
    names = {"BUNDLE": tiny_bundle, "DIR": hall / "d1", "FLEET": fleet}
    said = deploy(*(names.get(argument, argument) for argument in arguments))
    assert (said.code, said.out) == (2, "")
    assert complaint in said.error
    assert not (hall / "d1").exists()


def test_hosts_that_ssh_finds_nowhere(
    deploy: Callable[..., Said], hall: Path, fleet: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over ssh itself: what it says stands in the table, and a first wave that nobody answers is the last."""
    monkeypatch.setattr(fleet_commands, "device_at", OVER_SSH)
    ssh = hall / "ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: connect to host: No route to host' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("EDGE_ASD_SSH", str(ssh))
    said = deploy(tiny_bundle, "--fleet", fleet, "--wave", "2", "--json")
    assert (said.code, said.states) == (8, ["unreachable"] * 2 + ["not begun"] * 3)
    assert "No route to host" in str(said.rows[0]["why"])
    assert "no device of wave 1 could be reached" in said.error
    said = deploy(tiny_bundle, "--fleet", fleet, "--json")
    assert (said.code, said.states) == (1, ["unreachable"] * 5)


@pytest.mark.slow
def test_three_devices_side_by_side_over_a_real_connection(
    deploy: Callable[..., Said], hall: Path, fleet: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.write_text("".join(f'[[device]]\nhost = "{host}"\nsection = "00"\n' for host in HOSTS[:3]))
    (hall / "sshd").mkdir()
    with served(hall / "sshd") as server:
        monkeypatch.setenv("EDGE_ASD_SSH", server.ssh)
        monkeypatch.setattr(
            fleet_commands,
            "device_at",
            lambda host, packer: RemoteDevice(Ssh(HOST, str(hall / host)), packer, quiet=True),
        )
        one = fleet_commands.device_at("d1", Packer())
        try:
            one.deploy(Order(tiny_bundle, wishes=Wishes("00")), lambda step, outcome: None)
        except DownloadError as error:
            missing(f"the package registry ({error})")
        said = deploy(tiny_bundle, "--fleet", fleet, "--json")
        assert (said.code, said.states) == (0, ["unchanged", "done", "done"]), said.error
        again = deploy(tiny_bundle, "--fleet", fleet, "--json")
    assert again.states == ["unchanged"] * 3
    assert again.error.count("send      nothing") == 3
    assert {bundle_of(status(hall / host).current or "") for host in HOSTS[:3]} == {release_of(tiny_bundle)[4:]}
