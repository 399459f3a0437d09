"""Every file in firmware_configs: boards, the systemd unit, ALSA, journald."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common import missing
from edge_asd.errors import ConfigError, UsageError
from edge_asd_tools.deploy import boards
from edge_asd_tools.deploy.first_config import Wishes, compose

CONFIGS = boards.configs_folder()
BOARDS = ["generic-aarch64", "pi-3b-plus", "pi-4b", "pi-5", "pi-zero-2w", "x86-64"]
UNIT = CONFIGS / "systemd" / "edge-asd.service"


def test_which_boards_there_are() -> None:
    assert boards.names() == BOARDS
    assert boards.this_machine() in BOARDS


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_what_it_says(name: str) -> None:
    board = boards.read(name)
    machine = "x86_64" if name == "x86-64" else "aarch64"
    assert all(tag.endswith(machine) for tag in board.board.wheel_platform)
    assert set(board.board.python) == {"3.11", "3.13"}
    assert board.model.threads <= board.board.cores
    assert board.page.loopback


@pytest.mark.parametrize("name", BOARDS)
def test_a_boards_first_settings_are_settings(name: str, tmp_path: Path) -> None:
    from edge_asd import config

    path = tmp_path / "etc" / "edge-asd" / "device.toml"
    path.parent.mkdir(parents=True)
    path.write_text(compose(boards.read(name), Wishes(), ["00"]))
    settings = config.load(path)
    assert settings.capture.device == "default"
    assert (settings.capture.rate, settings.capture.channels) == (16000, 1)
    assert settings.alarm.threshold == "site"
    assert settings.page
    assert settings.state.resolve() == tmp_path / "var" / "lib" / "edge-asd"


def test_a_board_is_a_name_and_no_path() -> None:
    for name in ("pi-6", "../pyproject", "systemd/edge-asd"):
        with pytest.raises(UsageError, match=r"there is no board .*; boards are generic-aarch64, "):
            boards.read(name)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("memory_mb", "memory", "unknown field `memory`"),
        ("manylinux_2_28_aarch64", "linux_armv7l", "wheel_platform"),
        ('name = "pi-4b"', 'name = "pi-4"', "is called 'pi-4' inside"),
        ("threads = 1", "threads = 0", "threads"),
        ("[board]", "[board", "is not a board"),
    ],
)
def test_a_board_that_is_wrong_says_where(tmp_path: Path, before: str, after: str, complaint: str) -> None:
    content = (CONFIGS / "pi-4b.toml").read_text()
    assert before in content
    (tmp_path / "pi-4b.toml").write_text(content.replace(before, after))
    with pytest.raises(ConfigError, match=complaint):
        boards.read("pi-4b", tmp_path)


def test_an_installation_without_boards_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no board"):
        boards.names(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "Restart=always",
        "StartLimitIntervalSec=0",
        "User=edge-asd",
        "SupplementaryGroups=audio",
        "StateDirectory=edge-asd",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "DeviceAllow=char-alsa rw",
        "Type=notify",
        "WatchdogSec=60",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "RuntimeDirectory=edge-asd",
        "ExecStart=/opt/edge-asd/current/venv/bin/python -I -m edge_asd run --config /etc/edge-asd/device.toml "
        "--shadow /opt/edge-asd/shadow/bundle.easd",
        "WantedBy=multi-user.target",
    ],
)
def test_the_unit_contains_what_it_must(line: str) -> None:
    assert line in UNIT.read_text().splitlines()


def test_the_unit_avoids_what_failed_on_devices() -> None:
    lines = [line for line in UNIT.read_text().splitlines() if not line.startswith("#")]
    assert not any("/dev/snd" in line for line in lines)  # a folder, which grants nothing
    assert not any("~@resources" in line for line in lines)  # kills the interpreter's threads


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/edge-asd/current/venv/bin/python", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    complaints = [line for line in (finished.stdout + finished.stderr).splitlines() if UNIT.name in line]
    assert (finished.returncode, complaints) == (0, [])


def test_the_unit_exposes_little() -> None:
    """systemd's own score: below 3 is "OK", 10 is a service without a sandbox."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=25", str(UNIT)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Overall exposure level for edge-asd.service: 2." in finished.stdout


def test_the_journal_stays_off_the_card() -> None:
    parser = configparser.ConfigParser()
    parser.read(CONFIGS / "journald" / "edge-asd.conf")
    assert parser["Journal"]["storage"] == "volatile"
    assert parser["Journal"]["runtimemaxuse"] == "16M"


def test_alsa_names_a_card_by_its_id() -> None:
    lines = [line for line in (CONFIGS / "alsa" / "asound.conf").read_text().splitlines() if line.strip()[:1] != "#"]
    text = "\n".join(lines)
    assert text.count("{") == text.count("}")
    assert "hw:CARD=" in text
    assert "pcm.!default" in text


def test_the_readme_names_every_file() -> None:
    readme = (CONFIGS / "README.md").read_text()
    for path in CONFIGS.rglob("*.*"):
        if path.is_file() and path.name != "README.md":
            assert f"`{path.stem}`" in readme or path.name in readme
