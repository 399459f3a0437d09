"""What systemd is told, over a real socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from edge_asd.notify import Supervisor


def test_systemd_hears_it_all(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.settimeout(5.0)
        environment = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "60000000",
            "WATCHDOG_PID": str(os.getpid()),
        }
        supervisor = Supervisor(environment)
        assert supervisor.watchdog_seconds == 60.0
        supervisor.ready("listening")
        supervisor.alive()
        supervisor.say("fan 00: sounds like itself")
        supervisor.stopping()
        heard = [line.recv(1000).decode() for _ in range(4)]
    assert heard == ["READY=1\nSTATUS=listening", "WATCHDOG=1", "STATUS=fan 00: sounds like itself", "STOPPING=1"]


def test_an_abstract_socket() -> None:
    name = f"edge-asd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(f"\0{name}")
        line.settimeout(5.0)
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert line.recv(1000) == b"WATCHDOG=1"


def test_without_systemd_nobody_is_told(tmp_path: Path) -> None:
    assert Supervisor({}).watchdog_seconds == 0.0
    Supervisor({}).alive()
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "nobody listens")}).ready("listening")


def test_a_watchdog_that_is_meant_for_another_process() -> None:
    assert Supervisor({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}).watchdog_seconds == 0.0
    assert Supervisor({"WATCHDOG_USEC": "often"}).watchdog_seconds == 0.0
