"""A Raspberry Pi as its user sees it, whatever it is made of: by ssh, by its sound, by its plug."""

from __future__ import annotations

import shlex
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from common import missing
from pi.debian_root import Suite

HOST = "shop-floor-7"
TURNED_OFF = 90.0  # seconds at most
# What begins so ends with the thread that started it, also where the test is killed.
MORTAL = ("setpriv", "--pdeathsig", "KILL")


class EmulatedPi(ABC):
    """One that is on, and can be reached as pi@shop-floor-7 by `ssh -F <ssh_config>`.

    Attributes:
        suite: of Raspberry Pi OS.
        folder: of the test, where all that belongs to it lies.
        ssh_config: the configuration file of an ssh client.
        start_seconds: that its last start took.
    """

    patience = 120.0  # seconds from power to the end of its start
    start_seconds = 0.0

    def __init__(self, suite: Suite, folder: Path) -> None:
        for program in ("ssh", "ssh-keygen", "setpriv"):
            if not shutil.which(program):
                missing(program)
        self.suite = suite
        self.folder = folder
        self.ssh_config = folder / "ssh_config"
        self.key = folder / "key"
        self._process: subprocess.Popen[bytes] | None = None
        make_key(self.key)

    @abstractmethod
    def _power(self) -> list[str]:
        """The words of the program that is the device: it ends when the device is turned off."""

    @abstractmethod
    def play(self, sound: Path) -> None:
        """Let it hear a sound from now on, over and over, and after a reboot.

        Args:
            sound: raw samples, S16_LE, 16 kHz, one channel.
        """

    def run(self, *words: str, seconds: float = 120.0, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program there as pi, with something on its standard input or nothing."""
        return subprocess.run(
            ["ssh", "-F", str(self.ssh_config), HOST, shlex.join(words)],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def reboot(self) -> None:
        """Shut it down as its user would, and start it again."""
        self.shut_down()
        self.start()

    def power_cut(self) -> None:
        """Pull the plug, and put it in again."""
        self.pull_the_plug()
        self.start()

    def start(self) -> None:
        """Turn it on, and wait until it has started."""
        assert self._process is None
        command = [*MORTAL, *self._power()]
        with (self.folder / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        began = time.monotonic()
        while True:
            # "degraded" is a start, too: some unit failed, which may be what a test is about
            with suppress(subprocess.TimeoutExpired):
                state = self.run("systemctl", "is-system-running", "--wait", seconds=30)
                if state.stdout.strip() in ("running", "degraded"):
                    self.start_seconds = time.monotonic() - began
                    return
                said = f"{state.stdout} {state.stderr}"
            assert self._process.poll() is None, f"it ended: {self.console()}"
            assert time.monotonic() < began + self.patience, f"it didn't start: {said}; {self.console()}"
            time.sleep(0.3)

    def shut_down(self) -> None:
        assert self._process is not None
        # Not `systemctl poweroff`: it asks logind, which isn't everywhere.
        self.run("sudo", "-n", "systemctl", "start", "--no-block", "poweroff.target", "--job-mode=replace-irreversibly")
        try:
            self._process.wait(TURNED_OFF)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it doesn't turn itself off: {self.console()}") from error
        self._process = None

    def pull_the_plug(self) -> None:
        """End all of it at once, with no chance to write anything."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def console(self) -> str:
        """The last of what it said there."""
        return (self.folder / "console.log").read_text(errors="replace")[-4000:]

    def _reached_at(self, port: int, host_key: str) -> None:
        known = self.folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{port} {host_key}")
        settings = {
            "HostName": "127.0.0.1",
            "Port": port,
            "User": "pi",
            "IdentityFile": self.key,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": known,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": 20,
        }
        lines = [f"Host {HOST}", *(f"  {name} {value}" for name, value in settings.items())]
        self.ssh_config.write_text("\n".join(lines) + "\n")


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True, timeout=30)


def loopback_socket() -> socket.socket:
    """Bound to a free port, which the system chose."""
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    return found
