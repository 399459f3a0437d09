"""From the workstation to a bare Raspberry Pi OS, as a user does it: over ssh, with systemd, and never a brick.

The Pi is arm64 and emulated: its seconds say nothing of a real one's. What only a kernel, a disk and a sound card can
show is in tests/pi/test_machine.py.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from common import missing, until
from pi.container import Container, booted
from pi.debian_root import BOOKWORM, SUITES, Suite
from pi.emulated_pi import HOST
from pi.workstation import Workstation, digest, four_bundles, seated

pytestmark = pytest.mark.slow

GOLDEN = "/opt/edge-asd/current/venv/bin/python -I -m edge_asd bundle verify /opt/edge-asd/current/bundle.easd"

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
def seat(
    request: pytest.FixtureRequest, plant: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workstation]:
    suite: Suite = request.param
    folder = tmp_path_factory.mktemp(suite.name)
    with booted(suite, folder / "pi") as pi, seated(pi, plant, folder / "journey.txt") as found:
        yield found


@pytest.fixture(scope="module")
def bundles(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return four_bundles(tiny_bundle, tmp_path_factory.mktemp("bundles"))


def test_a_pis_life(seat: Workstation, bundles: Sequence[Path]) -> None:
    """Deployed, killed, given a bad bundle and a good one, rolled back, rebooted: at every end it scores."""
    first, second, _, bad = bundles
    lap = seat.transcript.lap
    assert isinstance(seat.pi, Container)

    with lap("a dry run"):
        assert re.search(
            r"would +send [\d.]+ MB of wheels", seat.does("deploy", first, HOST, "--section=00", "--dry-run")
        )
        assert seat.pi.run("ls", "/opt").stdout == ""

    with lap("a bare device, wheels and all"):
        began = time.time()
        done = seat.edge_asd("deploy", first, HOST, "--section", "00")
        if done.returncode == 11:
            missing(f"the package registry ({done.stdout.strip()})")
        assert done.returncode == 0, done.stdout
        steps = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith("Fetching")]
        wanted = ["connect", "send", "unpack", "compile", "stage", "verify", "golden", "switch", "health", "commit"]
        assert steps[: len(wanted)] == wanted
        assert "first window scored" in done.stdout
        process = seat.scoring(digest(first))
        assert process
    assert [name for name in written_since(seat.pi.root, began) if not name.startswith(OURS)] == []

    before = seat.files()
    with lap("the same again"):
        assert "ran already: nothing was changed" in seat.does("deploy", first, HOST)
        assert seat.files() == before

    with lap("status, logs"):
        assert "fan 00: runs as process" in seat.does("status", HOST)
        assert "listening with bundle" in seat.does("logs", HOST)

    with lap("kill -9, until it scores"):
        seat.root("systemctl", "kill", "--signal=KILL", "edge-asd")
        seat.soon_scoring(digest(first), other_than=process)
        process = seat.scoring(digest(first))

    with lap("a bad bundle is refused"):
        done = seat.edge_asd("deploy", bad, HOST)
        assert done.returncode == 8
        assert re.search(r"was refused: the golden clip.*Now \S+ runs as before", done.stdout)
        assert seat.scoring(digest(first)) == process  # it never stopped
        assert seat.files() == before

    with lap("an update"):
        sent = f"{second.stat().st_size / 1e6:.1f} MB of"
        assert re.search(rf"^send +{sent}", seat.does("deploy", second, HOST), re.MULTILINE)
        assert seat.scoring(digest(second))

    with lap("back"):
        seat.does("deploy", HOST, "--rollback")
        assert seat.scoring(digest(first))

    with lap("a reboot, until it scores"):
        seat.pi.reboot()
        seat.soon_scoring(digest(first))


def test_a_power_cut_before_the_new_release_proved_itself(seat: Workstation, bundles: Sequence[Path]) -> None:
    """What starts then is the release before; the next deployment finishes, and nothing is left over."""
    if seat.pi.suite is not BOOKWORM:
        pytest.skip("on Trixie this is the virtual machine's (make test-pi), which keeps the suite short")
    first, _, third, _ = bundles
    with seat.transcript.lap("the plug at the switch, until the release before scores"):
        done = seat.edge_asd("deploy", third, HOST, plug_at="switch")
        seat.soon_scoring(digest(first))
    assert done.returncode == 8, done.stdout
    assert "didn't take over" in done.stdout  # the host asked until it was told
    assert "the one before runs again" in seat.root("journalctl", "--unit", "edge-asd", "--output=cat", "--boot")
    with seat.transcript.lap("deployed again"):
        seat.does("deploy", third, HOST)
        assert seat.scoring(digest(third))
    left = {"committed.json", "current", "lock", "previous", "releases", "runtimes", "wheels"}
    assert set(seat.root("ls", "-A", "/opt/edge-asd").split()) == left


def test_a_bundle_on_trial_is_promoted(seat: Workstation, bundles: Sequence[Path]) -> None:
    if seat.pi.suite is not BOOKWORM:
        pytest.skip("on Trixie this is the virtual machine's (make test-pi), which keeps the suite short")
    _, second, third, _ = bundles
    process = seat.scoring(digest(third))
    assert process
    with seat.transcript.lap("on trial, until both were compared"):
        seat.does("deploy", second, HOST, "--shadow")
        until(lambda: digest(second) in seat.edge_asd("shadow", HOST).stdout, seconds=120)
        assert seat.scoring(digest(third)) == process  # the same daemon, which lost no sample
    with seat.transcript.lap("promoted"):
        seat.does("promote", HOST)
        assert seat.scoring(digest(second))
    assert seat.edge_asd("drop", HOST).returncode == 8


def test_the_sandbox_holds(seat: Workstation) -> None:
    """The golden clip scores under the unit as shipped, and from within it nothing else can be written or read."""
    if seat.pi.suite is not BOOKWORM:
        pytest.skip("Trixie's systemd makes no sandbox under emulation: the virtual machine has it (make test-pi)")
    exposure = seat.root("systemd-analyze", "security", "--no-pager", "--threshold=25", "edge-asd")
    assert "Overall exposure level for edge-asd.service: " in exposure
    said = seat.under_the_unit(
        "for place in /etc /opt/edge-asd /opt/edge-asd/current/ /usr /var/lib /home/pi; do\n"
        '  touch "$place/written" 2>/dev/null && echo "wrote $place"\n'
        "done\n"
        "ls /home/pi /root 2>/dev/null && echo read a home\n"
        'touch "$STATE_DIRECTORY/written" && echo wrote its state\n'
        f"{GOLDEN}\n"
    )
    assert "bit for bit" in said
    assert re.findall(r"^(wrote .*|read .*)$", said, re.MULTILINE) == ["wrote its state"]


def test_undeploy_leaves_nothing_but_what_is_asked_for(seat: Workstation) -> None:
    done = seat.edge_asd("undeploy", HOST)
    assert (done.returncode, "--remove-data or --keep-data" in done.stdout) == (2, True)
    with seat.transcript.lap("undeployed"):
        seat.does("undeploy", HOST, "--keep-data")
    assert seat.pi.run("ls", "/opt").stdout == ""
    assert "device.toml" in seat.root("ls", "/etc/edge-asd")
    assert seat.pi.run("systemctl", "is-active", "edge-asd").stdout.strip() == "inactive"
    assert seat.root("find", "/etc/systemd", "-name", "edge-asd*") == ""
    seat.does("undeploy", HOST, "--remove-data")
    assert seat.root("find", "/etc", "/var/lib", "-name", "edge-asd*") == ""
    assert seat.pi.run("id", "edge-asd").returncode == 1
