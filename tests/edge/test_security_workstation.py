"""A device that was broken into answers its workstation: bounded, in words, and by nothing that hangs or falls over."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

import edge_asd_tools.deploy
from edge_asd.errors import DeploymentError, DownloadError, EdgeAsdError, Unreachable
from edge_asd_tools.deploy import lock, registry, ssh
from edge_asd_tools.deploy.visit import visit

FACTS = {
    "host": "h", "model": "", "machine": "aarch64", "python": "3.11", "glibc": "2.36", "systemd": True, "busy": False,
    "serves": True, "config": None, "signers": False, "record": None, "current": None, "runtimes": [],
}  # fmt: skip


@dataclass(frozen=True)
class Answering:
    """A device that answers the first question with this."""

    answer: str
    name: str = "pi@shop-floor-7"
    root: str = "/"

    def command(self, *words: str, account: str = "") -> list[str]:
        program = (
            "import sys; read = sys.stdin.buffer.readline; sys.stdin.buffer.read(int(read())); read()\n"
            f"print({self.answer!r}, flush=True)\n"
        )
        return [sys.executable, "-I", "-c", program]

    def explain(self, code: int, errors: str) -> EdgeAsdError:
        return Unreachable(f"{self.name}: ended with {code}")


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("glibc", "9" * 5000),
        ("glibc", "2.\u00b2"),  # a digit that isn't a number
        ("python", "3.11\x1b[2J"),
        ("machine", "../../etc"),
        ("host", "h" * 1000),
        ("current", "fan\nALERT"),
        ("runtimes", ["r"] * 5000),
        ("config", " " * 100_000),
        ("record", "[" * 100_000),
    ],
)
def test_facts_that_can_not_be_are_one_clear_line(fact: str, value: object) -> None:
    refused = pytest.raises(DeploymentError, match="answers what can't be understood")
    with refused, visit(Answering(json.dumps({"done": {**FACTS, fact: value}}))) as there:
        there.look()


def test_a_line_without_end_comes_in_pieces() -> None:
    """Else a device could fill the workstation's memory with one."""
    device = "import sys; [sys.stdout.write('x' * (1 << 20)) for _ in range(4)]"
    here = "from edge_asd_tools.deploy import remote; remote.run('pi@shop-floor-7', ['journalctl'])"
    found = {**os.environ, ssh.PROGRAM: f'{sys.executable} -I -c "{device}"'}
    said = subprocess.run([sys.executable, "-c", here], env=found, capture_output=True, text=True, timeout=60).stdout
    assert said.count("x") == 4 << 20
    assert max(map(len, said.splitlines())) <= 1 << 20


def test_what_a_device_complains_of_is_understood_in_no_time() -> None:
    began = time.monotonic()
    ssh.Ssh("pi@shop-floor-7").explain(1, "sudo: " * 200_000)
    ssh.Ssh("pi@shop-floor-7").explain(ssh.LOST, "fingerprint for the " * 100_000)
    assert time.monotonic() - began < 10


def test_what_root_is_asked_for_there_is_one_program_that_never_asks_for_a_password() -> None:
    """The surface of sudo is Python, once: what that does is `arrival`, and nothing of it is a shell's."""
    words = ssh.Ssh("pi@shop-floor-7").command("python3", "-I", "a b; rm -rf /", "$(id)")
    assert words[-2] == "pi@shop-floor-7"
    assert words[-3] == "--"
    assert "'a b; rm -rf /' '$(id)'" in words[-1]
    assert "sudo -n --" in words[-1]
    for option in ("BatchMode=yes", "ClearAllForwardings=yes"):
        assert option in words
    assert not re.search("StrictHostKeyChecking=(no|accept)|UserKnownHostsFile", " ".join(ssh.OPTIONS))


def test_every_wheel_of_every_lock_has_its_hash() -> None:
    folder = files(edge_asd_tools.deploy) / "locks"
    pairs = [(machine, python) for machine in lock.MACHINES for python in lock.PYTHONS]
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{one}-{other}.txt" for one, other in pairs)
    for machine, python in pairs:
        found = lock.read(machine, python)
        text = (folder / f"{machine}-{python}.txt").read_text()
        required = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert len(required) == len(found.pins) > 10
        for line in required:
            assert re.fullmatch(r"[a-z\d-]+==[\w.+!]+ --hash=sha256:[\da-f]{64}", line), line


def test_no_code_of_a_package_runs_while_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that offers a source package in place of a wheel: pip would run its set-up to look into it."""
    setup = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n".encode()
    (tmp_path / "index").mkdir()
    with tarfile.open(tmp_path / "index" / "harmless-1.0.tar.gz", "w:gz") as archive:
        for name, content in (("setup.py", setup), ("PKG-INFO", b"Metadata-Version: 2.1\nName: harmless\n")):
            about = tarfile.TarInfo(f"harmless-1.0/{name}")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(DownloadError, match="could not be fetched"):
        registry.fetch("harmless==1.0", registry.Target("aarch64", "3.11", ("manylinux_2_17_aarch64",)), into)
    assert not (tmp_path / "ran").exists()
