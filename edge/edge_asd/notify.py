"""What systemd is told: that the daemon is ready, what it does, and that it lives (`sd_notify(3)`, `Type=notify`)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Supervisor:
    """The systemd that started this process; where none did, nobody is told anything."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """From the variables that systemd sets. `watchdog_seconds` is how often it wants to hear; 0 never."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environment.get("WATCHDOG_USEC", "0")
        self.watchdog_seconds = int(usec) / 1e6 if meant and usec.isdigit() else 0.0

    def ready(self, said: str) -> None:
        """Listening has begun."""
        self._tell(f"READY=1\nSTATUS={said}")

    def say(self, said: str) -> None:
        """What it does now, for `systemctl status`."""
        self._tell(f"STATUS={said}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """It was asked to end, and does."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.settimeout(0.2)  # a supervisor that doesn't listen must not stop the daemon
                line.connect(address)
                line.send(message.encode())
        except OSError:
            return
