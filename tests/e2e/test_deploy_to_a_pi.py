"""From the workstation to a bare Raspberry Pi OS, as a user does it: over ssh, with systemd, and never a brick.

The Pi is arm64 and emulated: its seconds say nothing of a real one's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from common import missing, until
from edge_asd import bundle
from edge_asd_tools.deploy.ssh import PROGRAM
from pi.container import Container, booted
from pi.debian_root import BOOKWORM, SUITES, Suite
from pi.emulated_pi import HOST

pytestmark = pytest.mark.slow

SECONDS = 300
STATUS = "/run/edge-asd/status.json"
PYTHON = "/opt/edge-asd/current/venv/bin/python"
GOLDEN = f"{PYTHON} -I -m edge_asd bundle verify /opt/edge-asd/current/bundle.easd"


@dataclass(frozen=True)
class Plant:
    """A Pi on the shop floor, and the workstation's command."""

    pi: Container

    def edge_asd(self, *words: object, until_said: str = "") -> subprocess.CompletedProcess[str]:
        """The command, as it is typed; `until_said`: it is killed as soon as a line begins so."""
        command = [sys.executable, "-m", "edge_asd", *map(str, words)]
        environment = {**os.environ, PROGRAM: f"ssh -F {self.pi.ssh_config}"}
        if not until_said:
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            for line in process.stderr:
                if line.startswith(until_said):
                    self.pi.pull_the_plug()
                    process.kill()
        return subprocess.CompletedProcess(command, process.returncode)

    def root(self, *words: str) -> str:
        """What a command says there, as root."""
        done = self.pi.run("sudo", "-n", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def status(self) -> dict[str, object]:
        done = self.pi.run("sudo", "-n", "cat", STATUS)
        found: dict[str, object] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def scores(self, digest: str) -> int:
        """The process that has scored with this bundle; 0 where none has."""
        said = self.status()
        number = int(self.root("systemctl", "show", "--value", "--property=MainPID", "edge-asd"))
        return number if said.get("bundle") == digest and said.get("pid") == number and said["scores"] else 0

    def soon(self, digest: str) -> int:
        until(lambda: self.scores(digest), seconds=120)
        return self.scores(digest)

    def files(self) -> dict[str, str]:
        """All that a deployment writes, and when it was written; not the folder of the site's events."""
        listed = self.root("find", "/opt/edge-asd", "/etc", "!", "-type", "d", "-printf", "%p %T@ %l\\n")
        return dict(line.split(" ", 1) for line in listed.splitlines())


# The system's own, which write while it runs; its accounts, to which the first deployment adds one; and its microphone.
SYSTEMS_OWN = re.compile(
    r"/(run|tmp|proc|sys|dev|var/log|var/tmp|var/lib/systemd|var/lib/microphone|etc/\.pwd\.lock|etc/g?shadow-?|etc/passwd-?"
    r"|etc/group-?|etc/\.updated|var/\.updated|etc/machine-id|home/pi/\.\w+|var/lib/sudo)(/|$)"
)
OURS = (
    *("/opt/edge-asd/", "/etc/edge-asd/", "/var/lib/edge-asd/", "/etc/systemd/system/edge-asd.service"),
    "/etc/systemd/system/multi-user.target.wants/edge-asd.service",
)


def written_since(root: Path, moment: float) -> list[str]:
    """What isn't the system's own and was written below a root since then."""
    found = []
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            with suppress(FileNotFoundError):
                if path.lstat().st_ctime > moment:
                    found.append(f"/{path.relative_to(root)}")
    return sorted(name for name in found if not SYSTEMS_OWN.match(name))


@pytest.fixture(scope="module", params=SUITES, ids=lambda suite: suite.name)
def plant_floor(
    request: pytest.FixtureRequest, plant: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Plant]:
    """A Pi that has just been set up, and hears a fan that runs well."""
    suite: Suite = request.param
    folder = tmp_path_factory.mktemp(suite.name)
    clip = sorted((plant / "fan" / "train").glob("section_00_*.wav"))[0]
    samples, rate = soundfile.read(clip, dtype="int16")
    assert rate == 16000
    sound = folder / "fan.raw"
    sound.write_bytes(np.ascontiguousarray(samples).astype("<i2").tobytes())
    with booted(suite, folder / "pi") as pi:
        pi.play(sound)
        yield Plant(pi)


@pytest.fixture(scope="module")
def bundles(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three that differ in their cards, and one whose golden clip is said to have scored something else."""
    folder = tmp_path_factory.mktemp("bundles")
    whole = bundle.read(tiny_bundle)
    for number in range(3):
        bundle.write(folder / f"{number}.easd", replace(whole, model_card=f"# {number}\n"))
    golden = msgspec.structs.replace(whole.manifest.golden, score=0.5)
    bundle.write(folder / "3.easd", replace(whole, manifest=msgspec.structs.replace(whole.manifest, golden=golden)))
    return [folder / f"{number}.easd" for number in range(4)]


def digest(path: Path) -> str:
    return bundle.digest(path.read_bytes())


def test_a_pis_life(plant_floor: Plant, bundles: Sequence[Path]) -> None:
    """Deployed, killed, given a bad bundle and a good one, rolled back, rebooted: at every end it scores."""
    floor, (first, second, _, bad) = plant_floor, bundles
    laps, began = [], time.monotonic()

    def lap(what: str) -> None:
        laps.append(f"{what} {time.monotonic() - began:.0f} s")

    said = floor.edge_asd("deploy", first, HOST, "--section", "00", "--dry-run")
    assert said.returncode == 0, said.stderr
    assert re.search(r"would +send [\d.]+ MB of wheels", said.stderr)
    assert floor.pi.run("ls", "/opt").stdout == ""

    before_it = time.time()
    said = floor.edge_asd("deploy", first, HOST, "--section", "00")
    if said.returncode == 11:
        missing(f"the package registry ({said.stderr.strip()})")
    assert said.returncode == 0, said.stderr
    steps = [line.split()[0] for line in said.stderr.splitlines() if not line.startswith("Fetching")]
    wanted = ["connect", "send", "unpack", "compile", "stage", "verify", "golden", "switch", "health", "commit"]
    assert steps[: len(wanted)] == wanted
    assert "first window scored" in said.stderr
    assert floor.scores(digest(first))
    lap("deployed")
    assert [name for name in written_since(floor.pi.root, before_it) if not name.startswith(OURS)] == []

    before = floor.files()
    said = floor.edge_asd("deploy", first, HOST)
    assert "ran already: nothing was changed" in said.stderr
    assert floor.files() == before
    lap("deployed again")

    said = floor.edge_asd("status", HOST)
    assert (said.returncode, said.stderr) == (0, "")
    assert "fan 00: runs as process" in said.stdout
    assert "listening with bundle" in floor.edge_asd("logs", HOST).stdout

    process = floor.scores(digest(first))
    floor.root("systemctl", "kill", "--signal=KILL", "edge-asd")
    until(lambda: floor.scores(digest(first)) not in (0, process), seconds=120)
    lap("killed, and scores again")

    process = floor.scores(digest(first))
    said = floor.edge_asd("deploy", bad, HOST)
    assert said.returncode == 8
    assert re.search(r"was refused: the golden clip.*Now \S+ runs as before", said.stderr)
    assert floor.scores(digest(first)) == process  # it never stopped
    assert floor.files() == before
    lap("a bad bundle refused")

    said = floor.edge_asd("deploy", second, HOST)
    assert said.returncode == 0, said.stderr
    assert re.search(rf"^send +{second.stat().st_size / 1e6:.1f} MB of", said.stderr, re.MULTILINE)
    assert floor.scores(digest(second))
    lap("updated")

    assert floor.edge_asd("deploy", HOST, "--rollback").returncode == 0
    assert floor.scores(digest(first))
    lap("rolled back")

    floor.pi.reboot()
    assert floor.soon(digest(first))
    lap("rebooted, and scores again")
    sys.stderr.write(f"\n{floor.pi.suite.name}: {', '.join(laps)}\n")


def test_a_power_cut_before_the_new_release_proved_itself(plant_floor: Plant, bundles: Sequence[Path]) -> None:
    """What starts then is the release before; the next deployment finishes, and nothing is left over."""
    floor, (first, _, third, _) = plant_floor, bundles
    assert floor.scores(digest(first))
    floor.edge_asd("deploy", third, HOST, until_said="switch")
    floor.pi.start()
    assert floor.soon(digest(first))
    assert "the one before runs again" in floor.root("journalctl", "--unit", "edge-asd", "--output=cat", "--boot")
    assert floor.root("ls", "-A", "/opt/edge-asd").split() == [
        *("committed.json", "current", "incoming", "lock", "previous", "releases", "runtimes", "wheels")
    ]
    said = floor.edge_asd("deploy", third, HOST)
    assert said.returncode == 0, said.stderr
    assert floor.scores(digest(third))
    assert "incoming" not in floor.root("ls", "-A", "/opt/edge-asd")


def test_a_bundle_on_trial_is_promoted(plant_floor: Plant, bundles: Sequence[Path]) -> None:
    floor, (_, second, third, _) = plant_floor, bundles
    process = floor.scores(digest(third))
    assert process
    said = floor.edge_asd("deploy", second, HOST, "--shadow")
    assert said.returncode == 0, said.stderr
    until(lambda: floor.status().get("shadow") == digest(second), seconds=120)
    assert floor.scores(digest(third)) == process  # the same daemon, which lost no sample
    until(lambda: floor.edge_asd("shadow", HOST).returncode == 0, seconds=120)
    said = floor.edge_asd("promote", HOST)
    assert said.returncode == 0, said.stderr
    assert floor.scores(digest(second))
    assert floor.edge_asd("drop", HOST).returncode == 8


def test_the_sandbox_holds(plant_floor: Plant) -> None:
    """The golden clip scores under the unit as shipped, and from within it nothing else can be written or read."""
    floor = plant_floor
    if floor.pi.suite is not BOOKWORM:
        pytest.skip("Trixie's systemd makes no sandbox under emulation: the virtual machine has it (make test-pi)")
    exposure = floor.root("systemd-analyze", "security", "--no-pager", "--threshold=25", "edge-asd")
    assert "Overall exposure level for edge-asd.service: " in exposure
    attempts = [
        "for place in /etc /opt/edge-asd /opt/edge-asd/current/ /usr /var/lib /home/pi; do",
        'touch "$place/written" 2>/dev/null && echo "wrote $place"; done;',
        "ls /home/pi /root 2>/dev/null && echo read a home;",
        'touch "$STATE_DIRECTORY/written" && echo "wrote its state";',
        f"{GOLDEN}",
    ]
    unit = floor.root("cat", "/etc/systemd/system/edge-asd.service")
    probe = re.sub(r"(?m)^ExecStart=.*$", f"ExecStart=/bin/sh -c '{' '.join(attempts)}'".replace("$", "$$"), unit)
    for setting, value in (("Type", "oneshot"), ("Restart", "no"), ("WatchdogSec", "0")):
        probe = re.sub(rf"(?m)^{setting}=.*$", f"{setting}={value}", probe)
    floor.pi.run("sudo", "-n", "tee", "/run/systemd/system/probe.service", given=probe)
    floor.root("systemctl", "daemon-reload")
    done = floor.pi.run("sudo", "-n", "systemctl", "start", "probe")
    said = floor.root("journalctl", "--unit", "probe", "--output=cat")
    assert done.returncode == 0, said
    assert "bit for bit" in said
    assert re.findall(r"^(wrote .*|read .*)$", said, re.MULTILINE) == ["wrote its state"]


def test_undeploy_leaves_nothing_but_what_is_asked_for(plant_floor: Plant) -> None:
    floor = plant_floor
    said = floor.edge_asd("undeploy", HOST)
    assert (said.returncode, "--remove-data or --keep-data" in said.stderr) == (2, True)
    assert floor.edge_asd("undeploy", HOST, "--keep-data").returncode == 0
    assert floor.pi.run("ls", "/opt").stdout == ""
    assert "device.toml" in floor.root("ls", "/etc/edge-asd")
    assert floor.pi.run("systemctl", "is-active", "edge-asd").stdout.strip() == "inactive"
    assert floor.root("find", "/etc/systemd", "-name", "edge-asd*") == ""
    assert floor.edge_asd("undeploy", HOST, "--remove-data").returncode == 0
    assert floor.root("find", "/etc", "/var/lib", "-name", "edge-asd*") == ""
    assert floor.pi.run("id", "edge-asd").returncode == 1
