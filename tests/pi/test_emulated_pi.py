"""The emulated Pi is what the tests of deployment take it for: bare, reached by ssh alone, and it survives its plug."""

from __future__ import annotations

import array
import base64
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from common import until
from pi.container import Container, booted
from pi.debian_root import SUITES, Suite

pytestmark = pytest.mark.slow

UNIT = """
[Service]
ExecStart=/usr/bin/sleep infinity
Restart=always
RestartSec=0
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module", params=SUITES, ids=lambda suite: suite.name)
def pi(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    suite: Suite = request.param
    with booted(suite, tmp_path_factory.mktemp(suite.name)) as pi:
        yield pi


def said(pi: Container, *words: str) -> str:
    done = pi.run(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_a_bare_pi(pi: Container) -> None:
    assert said(pi, "uname", "-m") == "aarch64"
    assert said(pi, "hostname") == "raspberrypi"
    assert said(pi, "python3", "--version").startswith(f"Python {pi.suite.python}.")
    assert said(pi, "sudo", "-n", "id", "-un") == "root"
    assert "audio" in said(pi, "id", "-Gn").split()
    assert pi.run("python3", "-c", "import pip").returncode == 1
    assert pi.run("python3", "-c", "import ensurepip").returncode == 1
    assert said(pi, "sudo", "-n", "systemctl", "is-system-running") == "running"


def test_it_has_no_network_but_loopback(pi: Container) -> None:
    assert said(pi, "ls", "/sys/class/net") == "lo"


def test_the_microphone_delivers_every_sample_at_the_pace_of_time(pi: Container, tmp_path: Path) -> None:
    ramp = array.array("h", range(-32768, 32768))
    (tmp_path / "ramp.raw").write_bytes(ramp.tobytes())
    pi.play(tmp_path / "ramp.raw")
    record = "timeout 10 arecord -q -D default -t raw -f S16_LE -r 16000 -c 1 --period-time=100000 | base64 -w 0"
    encoded = said(pi, "sh", "-c", record)
    heard = array.array("h", base64.b64decode(encoded))
    assert 3 < len(heard) / 16_000 < 11
    assert {(later - earlier) % 65536 for earlier, later in pairwise(heard)} == {1}


def test_a_unit_that_is_killed_comes_back_and_comes_back_after_power_is_lost(pi: Container) -> None:
    def number() -> int:
        return int(said(pi, "systemctl", "show", "--property=MainPID", "--value", "beat"))

    said(pi, "sudo", "-n", "sh", "-c", f"echo '{UNIT}' > /etc/systemd/system/beat.service")
    said(pi, "sudo", "-n", "systemctl", "enable", "--quiet", "--now", "beat")
    first = number()
    said(pi, "sudo", "-n", "systemctl", "kill", "--signal=KILL", "beat")
    until(lambda: number() not in (0, first), seconds=30)

    boots = [said(pi, "cat", "/proc/sys/kernel/random/boot_id")]
    said(pi, "sync")
    for again in (pi.reboot, pi.power_cut):
        again()
        boots.append(said(pi, "cat", "/proc/sys/kernel/random/boot_id"))
        assert said(pi, "systemctl", "is-active", "beat") == "active"
    assert len(set(boots)) == 3
