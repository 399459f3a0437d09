"""A device as its operator sees it: systemd is told, the machine is learned while it runs, the page shows it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common import interrupted
from edge_asd import commission_desk, site, status

# A machine whose loudness wanders, heard as fast as it is listened to.
MACHINE = """
import sys, numpy
random, level = numpy.random.default_rng(0), 0.0
while True:
    level = 0.98 * level + 0.05 * random.standard_normal()
    samples = 0.05 * 10 ** (level / 5) * random.standard_normal(16000)
    sys.stdout.buffer.write(numpy.clip(samples * 32768, -32768, 32767).astype("<i2").tobytes())
"""


def edge_asd(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge_asd", *map(str, arguments)]


def said(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(edge_asd(*arguments), capture_output=True, text=True, timeout=120)


def device_toml(folder: Path, bundle: Path) -> Path:
    path = folder / "device.toml"
    path.write_text(
        f'bundle = "{bundle}"\nsection = "00"\nstate = "state"\nname = "shop-floor-7"\n'
        f"[capture]\ncommand = {json.dumps([sys.executable, '-c', MACHINE])}\n"
        '[page]\nlisten = "127.0.0.1:0"\n'
    )
    return path


class Daemon:
    """A running daemon, what it said, and what systemd was told."""

    def __init__(self, config: Path, folder: Path, line: socket.socket) -> None:
        self._errors = folder / "errors"
        self._notify = str(folder / "notify")
        self.state = folder / "state"
        self.told: list[str] = []  # what systemd has been told so far
        self._systemd = threading.Thread(target=self._hear, args=(line,), daemon=True)
        self._systemd.start()
        environment = {**os.environ, "NOTIFY_SOCKET": self._notify, "WATCHDOG_USEC": "2000000"}
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                edge_asd("run", "--config", config), stderr=errors, stdout=subprocess.DEVNULL, env=environment
            )

    @property
    def said(self) -> str:
        return self._errors.read_text()

    def _hear(self, line: socket.socket) -> None:
        """Takes all that is said at once, as systemd does: the queue of such a socket is short."""
        while message := line.recv(4096):
            self.told += message.decode().splitlines()

    def end(self) -> None:
        """Its end, and systemd's, who has then read all that it was told."""
        self.process.kill()
        self.process.wait()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.sendto(b"", self._notify)
        self._systemd.join(10)

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < deadline, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.05)

    def get(self, path: str) -> bytes:
        [address] = [line.partition("page: ")[2] for line in self.said.splitlines() if line.startswith("page: ")]
        with urllib.request.urlopen(f"{address}{path}", timeout=10) as answer:  # noqa: S310 - the page's own address
            return bytes(answer.read())

    def status(self) -> status.Status | None:
        return status.read(self.state)


@contextmanager
def running(config: Path, folder: Path) -> Iterator[Daemon]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(folder / "notify"))
        daemon = Daemon(config, folder, line)
        try:
            yield daemon
        finally:
            daemon.end()
            (folder / "notify").unlink()


@pytest.mark.slow
def test_a_machine_is_learned_while_the_daemon_runs(tmp_path: Path, tiny_bundle: Path) -> None:
    config = device_toml(tmp_path, tiny_bundle)
    with running(config, tmp_path) as daemon:
        daemon.wait_for(lambda: "READY=1" in daemon.told)
        daemon.wait_for(lambda: daemon.told.count("WATCHDOG=1") >= 2)
        first = daemon.status()
        assert first
        assert (first.threshold_from, first.site) == ("the bundle's alarm", "")

        done = said("commission", "--config", config, "--minutes", 10, "--false-alarms", 2)
        assert done.returncode == 0, done.stderr
        for words in (
            "fan 00: 30 clips learned and measured in 10 minutes",
            "before ",
            "at most 2 false alarms a week",
        ):
            assert words in done.stdout
        learned = site.read(daemon.state)
        assert learned
        daemon.wait_for(lambda: (now := daemon.status()) and now.site == learned.made_utc)
        now = daemon.status()
        assert now
        assert now.threshold == learned.threshold
        assert now.threshold_from == f"the site, {learned.made_utc}"

        seen = json.loads(daemon.get("api/status"))
        assert (seen["device"], seen["threshold"]) == ("shop-floor-7", learned.threshold)
        families = text_string_to_metric_families(daemon.get("metrics").decode())
        metrics = {sample.name: sample.value for family in families for sample in family.samples}
        assert metrics["edge_asd_threshold"] == learned.threshold
        assert metrics["edge_asd_scores_total"] > 1000
        assert f"threshold {learned.threshold:.4g} from the site" in said("status", "--state", daemon.state).stdout

        undone = said("commission", "--config", config, "--undo")
        assert undone.stdout == "in force again: the bundle alone, with its own threshold\n"
        daemon.wait_for(lambda: (now := daemon.status()) and now.threshold == first.threshold)

        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(30) == 0, daemon.said
    assert "STOPPING=1" in daemon.told


def test_commissioning_that_is_interrupted_leaves_all_as_it_was(tmp_path: Path, tiny_bundle: Path) -> None:
    config = device_toml(tmp_path, tiny_bundle)
    with running(config, tmp_path) as daemon:
        daemon.wait_for(lambda: (now := daemon.status()) and now.scores)
        asked = lambda: (now := daemon.status()) and now.commissioning  # noqa: E731
        done = interrupted(edge_asd("commission", "--config", config, "--minutes", 1000), asked)
        assert done.returncode == 1
        assert b"commissioning was given up; all is as it was" in done.stderr
        assert commission_desk.requested(daemon.state) is None
        daemon.wait_for(lambda: (now := daemon.status()) and now.commissioning is None)
        assert "given up" in daemon.said
        assert site.read(daemon.state) is None


def test_without_a_daemon_the_command_listens_itself(tmp_path: Path, tiny_bundle: Path) -> None:
    config = device_toml(tmp_path, tiny_bundle)
    config.write_text(config.read_text() + '[alarm]\nthreshold = "alarm"\n')
    done = said("commission", "--config", config, "--minutes", 8, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["machine"], told["section"], len(told["clips"])) == ("fan", "00", 24)
    assert "remove that line" in done.stderr  # device.toml says another threshold


@pytest.mark.parametrize("options", [["--minutes", "3"], ["--false-alarms", "0"], ["--false-alarms", "nan"]])
def test_wishes_that_cannot_be(tmp_path: Path, options: list[str]) -> None:
    done = said("commission", "--config", device_toml(tmp_path, tmp_path / "fan.easd"), *options)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_nothing_to_undo(tmp_path: Path) -> None:
    done = said("commission", "--config", device_toml(tmp_path, tmp_path / "fan.easd"), "--undo")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing to undo" in done.stderr


def test_a_request_that_nobody_could_begin_is_not_left_behind(tmp_path: Path) -> None:
    config = device_toml(tmp_path, tmp_path / "no such bundle.easd")
    done = said("commission", "--config", config, "--minutes", 8)
    assert done.returncode == 5
    assert commission_desk.requested(tmp_path / "state") is None


def test_root_acts_as_the_owner_of_the_state_folder(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can act as somebody else")
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    program = (
        "import os, sys; from pathlib import Path; from edge_asd.owner import act_as_owner\n"
        "act_as_owner(Path(sys.argv[1])); print(*os.getresuid(), *os.getresgid(), 0 in os.getgroups())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(state)], capture_output=True, text=True, check=True)
    assert done.stdout == f"{' '.join(['65534'] * 6)} False\n"


def test_one_sink_that_cannot_be_had_keeps_no_other_from_being_told(tmp_path: Path, tiny_bundle: Path) -> None:
    config = device_toml(tmp_path, tiny_bundle)
    told = tmp_path / "told.jsonl"
    config.write_text(
        config.read_text().replace("127.0.0.1:0", '127.0.0.1:1"\ntoken_file = "no token')
        + '[sinks.webhook]\nurl = "http://127.0.0.1:1/"\ntoken_file = "nothing"\n'
        + f'[sinks.json_lines]\npath = "{told}"\n[alarm]\nthreshold = 1e-9\nminimum_seconds = 0\n'
    )
    with running(config, tmp_path) as daemon:
        daemon.wait_for(lambda: told.exists() and told.read_text().count("\n"))
        daemon.wait_for(lambda: (now := daemon.status()) and len(now.sinks) == 2)
        assert "listening without a page: " in daemon.said
        now = daemon.status()
        assert now
        troubles = {sink.name: sink.trouble for sink in now.sinks}
        assert troubles["json_lines"] == ""
        assert "nothing: can't be read as a password or token" in troubles["webhook"]
