"""From the workstation to a whole machine, as a user does it: what only a kernel, a disk and a sound card can show.

`make test-pi` runs it, for it takes most of an hour: the Pi is emulated, and its seconds say nothing of a real one's.
The tests are one journey: each begins where the one before ended.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pi import machine, sandboxed
from pi.cache import CACHE
from pi.debian_root import SUITES, TRIXIE, Suite
from pi.emulated_pi import HOST
from pi.workstation import Workstation, digest, four_bundles, seated

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("EDGE_ASD_VIRTUAL_PI"), reason="a virtual Pi takes long: make test-pi"),
]

PYTHON = "/opt/edge-asd/current/venv/bin/python"
MOST_EXPOSED = 2.5  # by the scale of systemd-analyze, which ends at 10


@pytest.fixture(scope="module", params=SUITES, ids=lambda suite: suite.name)
def seat(
    request: pytest.FixtureRequest, plant: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workstation]:
    suite: Suite = request.param
    folder = tmp_path_factory.mktemp(suite.name)
    with machine.booted(suite, folder / "pi") as pi, seated(pi, plant, CACHE / f"journey-{suite.name}.txt") as found:
        yield found


@pytest.fixture(scope="module")
def bundles(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return four_bundles(tiny_bundle, tmp_path_factory.mktemp("bundles"))


def test_a_bare_device_is_deployed_on(seat: Workstation, bundles: Sequence[Path]) -> None:
    with seat.transcript.lap("a bare device, wheels and all"):
        said = seat.does("deploy", bundles[0], HOST, "--section", "00")
    assert "first window scored" in said
    assert seat.scoring(digest(bundles[0]))


def test_it_answers(seat: Workstation, bundles: Sequence[Path]) -> None:
    with seat.transcript.lap("status"):
        assert "fan 00: runs as process" in seat.does("status", HOST)
    with seat.transcript.lap("doctor"):
        assert "bit for bit" in seat.does("doctor", HOST)
    with seat.transcript.lap("logs"):
        assert f"listening with bundle {digest(bundles[0])}" in seat.does("logs", HOST)


def test_the_same_again_changes_nothing(seat: Workstation, bundles: Sequence[Path]) -> None:
    process, files = seat.scoring(digest(bundles[0])), seat.files()
    with seat.transcript.lap("the same bundle again"):
        assert "ran already: nothing was changed" in seat.does("deploy", bundles[0], HOST)
    assert seat.scoring(digest(bundles[0])) == process
    assert sorted(seat.files() ^ files) == []


def test_a_daemon_that_is_killed_comes_back(seat: Workstation, bundles: Sequence[Path]) -> None:
    process = seat.scoring(digest(bundles[0]))
    with seat.transcript.lap("killed, until it scores again"):
        seat.root("kill", "-9", str(process))
        seat.soon_scoring(digest(bundles[0]), other_than=process)
    assert seat.shown("NRestarts")["NRestarts"] == "1"


def test_the_sandbox_holds(seat: Workstation) -> None:
    text = Path(sandboxed.__file__).read_text()
    seat.root("tee", "/run/sandboxed.py", given=text)
    found = json.loads(seat.under_the_unit(f"exec {PYTHON} -I /run/sandboxed.py\n"))
    assert found == {
        "write /etc": "EROFS",
        "write /opt/edge-asd": "EROFS",
        "write /opt/edge-asd/current/": "EROFS",
        "write /usr": "EROFS",
        "write /var/lib": "EROFS",
        "write /var/lib/microphone": "EROFS",
        "write /var/lib/edge-asd": "done",
        "write /tmp": "done",
        "write /sys/kernel": "EACCES" if seat.pi.suite is TRIXIE else "EROFS",  # refused by whoever is asked first
        "list /home": "EACCES",
        "read /home/pi": "EACCES",
        "read /root": "EACCES",
        "read /etc/shadow": "EACCES",
        "read /etc/edge-asd": "done",
        "see the first process": "ENOENT",
        "read the kernel's log": "EACCES",
        "open a raw socket": "EAFNOSUPPORT",
        "open a socket": "done",
        "make a namespace": "EPERM",
        "be real time": "EPERM",
        "open the sound card": "done",
        "open another device": "EPERM",
    }
    with_it = seat.root("cat", f"/proc/{seat.shown('MainPID')['MainPID']}/status")
    rights = dict(line.split(":\t") for line in with_it.splitlines() if ":\t" in line)
    assert (rights["CapBnd"], rights["NoNewPrivs"], rights["Seccomp"]) == ("0" * 16, "1", "2")
    exposed = json.loads(seat.root("systemd-analyze", "security", "--json=short", "edge-asd"))
    points = float(seat.root("systemd-analyze", "security", "--no-pager", "edge-asd").split(":")[-1].split()[0])
    seat.transcript.say(f"systemd-analyze security: {points}, of {len(exposed)} checks")
    assert points <= MOST_EXPOSED


def test_the_golden_clip_scores_within_the_sandbox(seat: Workstation) -> None:
    with seat.transcript.lap("the golden clip under the unit"):
        command = f"exec {PYTHON} -I -m edge_asd bundle verify /opt/edge-asd/current/bundle.easd\n"
        assert "bit for bit" in seat.under_the_unit(command)


def test_it_stays_small(seat: Workstation) -> None:
    shown = seat.shown("MemoryCurrent", "TasksCurrent", "MainPID", "MemoryMax")
    status = seat.root("cat", f"/proc/{shown['MainPID']}/status")
    said = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    resident, peak = (int(said[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    charged = int(shown["MemoryCurrent"]) / 2**20
    used = seat.root("free", "--mebi").splitlines()[1].split()[2]
    seat.transcript.say(
        f"memory: {charged:.0f} MiB charged to the unit, {resident:.0f} MiB resident, {peak:.0f} at most; "
        f"{shown['TasksCurrent']} tasks; {used} of {machine.MEMORY} MiB used on the whole device"
    )
    assert shown["MemoryMax"] == str(300 << 20)
    assert charged < 150
    assert peak < 150


def test_a_bundle_that_scores_otherwise_here_is_refused(seat: Workstation, bundles: Sequence[Path]) -> None:
    process, files = seat.scoring(digest(bundles[0])), seat.files()
    with seat.transcript.lap("a bundle with a wrong golden score"):
        done = seat.edge_asd("deploy", bundles[3], HOST)
    assert done.returncode == 8
    assert "was refused: the golden clip" in done.stdout
    assert seat.scoring(digest(bundles[0])) == process
    assert sorted(seat.files() ^ files) == []


def test_an_update_and_back(seat: Workstation, bundles: Sequence[Path]) -> None:
    with seat.transcript.lap("an update"):
        seat.does("deploy", bundles[1], HOST)
    assert seat.scoring(digest(bundles[1]))
    with seat.transcript.lap("back"):
        seat.does("deploy", HOST, "--rollback")
    assert seat.scoring(digest(bundles[0]))


def test_a_bundle_on_trial_is_promoted(seat: Workstation, bundles: Sequence[Path]) -> None:
    process = seat.scoring(digest(bundles[0]))
    with seat.transcript.lap("a bundle on trial"):
        seat.does("deploy", bundles[2], HOST, "--shadow")
        patience = time.monotonic() + 240
        while (done := seat.edge_asd("shadow", HOST)).returncode:
            assert time.monotonic() < patience, done.stdout
            time.sleep(5)
    assert seat.scoring(digest(bundles[0])) == process  # the same daemon, which lost no sample
    with seat.transcript.lap("promoted"):
        seat.does("promote", HOST)
    assert seat.scoring(digest(bundles[2]))


def test_it_listens_after_a_reboot(seat: Workstation, bundles: Sequence[Path]) -> None:
    with seat.transcript.lap("a reboot, until it scores"):
        seat.pi.reboot()
        seat.soon_scoring(digest(bundles[2]))
    assert seat.shown("NRestarts")["NRestarts"] == "0"


def test_the_plug_takes_what_was_not_flushed(seat: Workstation, bundles: Sequence[Path]) -> None:
    seat.root("sh", "-c", "echo kept > /root/kept; sync; echo lost > /root/lost")
    with seat.transcript.lap("a power cut, until it scores"):
        seat.pi.power_cut()
        seat.soon_scoring(digest(bundles[2]))
    assert seat.root("ls", "/root") == "kept"


@pytest.mark.parametrize("step", ["switch", "health"])
def test_a_power_cut_in_an_update(seat: Workstation, bundles: Sequence[Path], step: str) -> None:
    """Then one of both runs; the next deployment finishes, and nothing is left over."""
    old, new = bundles[2], bundles[1]
    assert seat.scoring(digest(old))
    with seat.transcript.lap(f"a power cut at `{step}`, until it scores"):
        # What follows on `health` is the commit, to which the device may have come; the host asks until it is told.
        done = seat.edge_asd("deploy", new, HOST, plug_at=step)
        runs = seat.soon_scoring(digest(old), *([digest(new)] if step == "health" else []))
    assert done.returncode == (8 if runs == digest(old) else 0), done.stdout
    seat.transcript.say(f"({'the old' if runs == digest(old) else 'the new'} one runs)")
    with seat.transcript.lap("the update once more"):
        seat.does("deploy", new, HOST)
    assert seat.scoring(digest(new))
    left = seat.root("ls", "-A", "/opt/edge-asd", "/opt/edge-asd/releases", "/opt/edge-asd/runtimes").split()
    assert [name for name in left if name.startswith(".") or name == "incoming"] == []
    seat.does("deploy", HOST, "--rollback")


def test_it_goes_and_leaves_what_it_is_asked_to(seat: Workstation) -> None:
    with seat.transcript.lap("undeployed"):
        seat.does("undeploy", HOST, "--keep-data")
    assert seat.pi.run("systemctl", "is-active", "edge-asd").stdout.strip() == "inactive"
    assert seat.root("find", "/opt", "/etc/systemd", "-name", "edge-asd*") == ""
    assert "events.sqlite" in seat.root("ls", "/var/lib/edge-asd")
    assert "device.toml" in seat.root("ls", "/etc/edge-asd")
    seat.does("undeploy", HOST, "--remove-data")
    assert seat.root("find", "/opt", "/etc", "/var/lib", "/run/systemd/system", "-name", "edge-asd.*") == ""
    assert seat.root("find", "/opt", "/etc", "/var/lib", "-name", "edge-asd") == ""
    assert seat.pi.run("id", "edge-asd").returncode == 1
