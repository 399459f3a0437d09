"""`edge-asd deploy`: what a person types, and what it comes to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_asd import bundle, cli, config
from edge_asd.release import status

Deploy = Callable[..., "Said"]


@dataclass(frozen=True)
class Said:
    """What the command said, and its exit code."""

    code: int
    error: str


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Deploy:
    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["edge-asd", "deploy", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capsys.readouterr()
        assert said.out == ""
        return Said(int(left.value.code or 0), said.err)

    return run


@pytest.fixture
def other_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    path = tmp_path / "other.easd"
    bundle.write(path, replace(bundle.read(tiny_bundle), model_card="# another\n"))
    return path


def tree_of(root: Path) -> list[tuple[str, int]]:
    return [(str(path.relative_to(root)), path.lstat().st_mtime_ns) for path in sorted(root.rglob("*"))]


def test_from_a_bundle_to_a_daemon_that_listens(deploy: Deploy, tiny_bundle: Path, tmp_path: Path) -> None:
    """The whole way, down to the command that is said at the end."""
    sound = tmp_path / "sound.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(os.urandom(2 * 16000 * 12))
    root = tmp_path / "a device"
    said = deploy(tiny_bundle, "--to", root, "--section", "01", "--wav", sound, "--pace", "fast")
    assert said.code == 0, said.error
    steps = [line.split()[0] for line in said.error.splitlines()]
    assert steps[:6] == ["stage", "verify", "golden", "switch", "health", "commit"]
    assert str(root / "etc" / "edge-asd" / "device.toml") in said.error
    listen = said.error.splitlines()[-1].partition("Listen with ")[2]
    finished = subprocess.run(["sh", "-c", listen], capture_output=True, text=True, timeout=120, check=True)
    assert "end of the recording: 12.0 s heard" in finished.stderr
    seen = json.loads((root / "var" / "lib" / "edge-asd" / "status.json").read_text())
    assert (seen["section"], seen["scores"] > 0) == ("01", True)


def test_again_another_and_back(deploy: Deploy, tiny_bundle: Path, other_bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "device"
    assert deploy(tiny_bundle, "--to", root, "--section", "00").code == 0
    settings = (root / "etc" / "edge-asd" / "device.toml").read_bytes()
    first = status(root).current
    before = tree_of(root)
    assert "nothing was changed" in deploy(tiny_bundle, "--to", root).error
    assert tree_of(root) == before
    assert deploy(other_bundle, "--to", root).code == 0
    assert (status(root).previous, status(root).current) == (first, f"fan-{bundle.digest(other_bundle.read_bytes())}")
    back = deploy("--to", root, "--rollback")
    assert f"{first} runs again" in back.error
    assert status(root).current == first
    assert (root / "etc" / "edge-asd" / "device.toml").read_bytes() == settings


def test_a_dry_run_changes_nothing(deploy: Deploy, tiny_bundle: Path, other_bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "device"
    said = deploy(tiny_bundle, "--to", root, "--section", "00", "--dry-run")
    assert (said.code, root.exists()) == (0, False)
    assert "would     write" in said.error
    assert deploy(tiny_bundle, "--to", root, "--section", "00").code == 0
    before = tree_of(root)
    assert "would     switch" in deploy(other_bundle, "--to", root, "--dry-run").error
    assert "nothing: it runs already" in deploy(tiny_bundle, "--to", root, "--dry-run").error
    assert tree_of(root) == before


def test_a_broken_bundle_leaves_with_its_own_code(deploy: Deploy, tmp_path: Path) -> None:
    broken = tmp_path / "broken.easd"
    broken.write_bytes(b"PK")
    said = deploy(broken, "--to", tmp_path / "device")
    assert said.code == 5
    assert said.error.count("\n") == 1
    assert not (tmp_path / "device").exists()


@pytest.mark.parametrize("words", [["BUNDLE", "pi@shop-floor-7"], ["shop-floor-7", "--rollback"]])
def test_a_host_that_can_not_be_reached(
    deploy: Deploy, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: connect to host shop-floor-7 port 22: No route to host' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("EDGE_ASD_SSH", str(ssh))
    said = deploy(*(tiny_bundle if word == "BUNDLE" else word for word in words))
    assert said.code == 12
    assert "shop-floor-7: can't be reached (ssh: connect to host shop-floor-7 port 22: No route to host)" in said.error
    assert said.error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["BUNDLE"], "say where to"),
        (["--to", "DIR"], "say which bundle"),
        (["BUNDLE", "--to", "DIR"], "the bundle has sections 00, 01; say with --section"),
        (["BUNDLE", "--to", "DIR", "--section", "07"], "--section: found '07', the bundle has 00, 01"),
        (["BUNDLE", "--to", "DIR", "--section", "00", "--board", "pi-6"], "there is no board 'pi-6'; boards are"),
        (["BUNDLE", "--to", "DIR", "--section", "00", "--wav", "none.wav"], "--wav: there is no file none.wav"),
        (["BUNDLE", "--to", "DIR", "--section", "00", "--pace", "fast"], "--pace: belongs to --wav"),
        (["BUNDLE", "--to", "DIR", "--rollback"], "--rollback goes to the release that is kept there"),
        (["--to", "DIR", "--rollback", "--dry-run"], "--rollback goes to the release that is kept there"),
    ],
)
def test_wrong_use_says_what_is_right(
    deploy: Deploy, tiny_bundle: Path, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    names = {"BUNDLE": tiny_bundle, "DIR": tmp_path / "device"}
    said = deploy(*(names.get(argument, argument) for argument in arguments))
    assert said.code == 2
    assert complaint in said.error
    assert not (tmp_path / "device").exists()


def test_options_that_the_sites_settings_contradict(
    deploy: Deploy, tiny_bundle: Path, other_bundle: Path, tmp_path: Path
) -> None:
    root = tmp_path / "device"
    assert deploy(tiny_bundle, "--to", root, "--section", "00", "--board", "pi-zero-2w").code == 0
    said = deploy(other_bundle, "--to", root, "--section", "01")
    assert said.code == 2
    assert "--section: found '01', the site's settings say '00'" in said.error
    assert "--board changes nothing in" in deploy(tiny_bundle, "--to", root, "--board", "pi-5").error


def test_the_board_makes_the_first_settings(deploy: Deploy, tiny_bundle: Path, tmp_path: Path) -> None:
    assert deploy(tiny_bundle, "--to", tmp_path, "--section", "00", "--board", "pi-zero-2w").code == 0
    path = tmp_path / "etc" / "edge-asd" / "device.toml"
    assert "from the board pi-zero-2w" in path.read_text()
    assert config.load(path).capture.device == "default"


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    program = (
        "import sys; from edge_asd import cli; cli.build();"
        "print(*sorted({'soundfile', 'scipy', 'torch', 'ai_edge_litert', 'tflite_runtime'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert finished.stdout.strip() == ""
