"""A real SSH server on loopback, for whoever runs the tests, and a client's configuration that finds it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common import free_port, missing

HOST = "shop-floor-7"


@dataclass(frozen=True)
class Server:
    """A server that runs: its folder, its port, its process, and how `ssh` is started so that it finds it as HOST."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def ssh(self) -> str:
        return f"ssh -F {self.folder / 'config'}"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def authorized_keys(self) -> Path:
        return self.folder / "authorized_keys"

    def host_key(self, name: str = "host") -> str:
        """The public key of the server, of this name."""
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])

    def fingerprint(self, name: str = "host") -> str:
        command = ["ssh-keygen", "-lf", str(self.folder / f"{name}.pub")]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()[1]

    def is_known(self, name: str = "host") -> None:
        """Let the client know the server by a key."""
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {self.host_key(name)}\n")


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A server for the length of the block; its own `python3` is the one of these tests, without their packages."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("ssh") is None:
        missing("sshd and ssh (packages openssh-server, openssh-client)")
    for name in ("host", "other", "client"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
        subprocess.run(command, check=True, timeout=30)
    port = free_port()
    programs = folder / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys.executable).resolve())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile {folder / 'pid'}\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nSetEnv PATH={programs}:/usr/bin:/bin:/usr/sbin:/sbin\n"
    )
    (folder / "config").write_text(
        f"Host {HOST}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {folder / 'client'}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder / 'known_hosts'}\n  GlobalKnownHostsFile /dev/null\n"
    )
    shutil.copyfile(folder / "client.pub", folder / "authorized_keys")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    assert sshd
    process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL)
    try:
        server = Server(folder, port, process)
        server.is_known()
        patience = time.monotonic() + 20
        while True:
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "sshd ended"
            assert time.monotonic() < patience, "sshd never answered"
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)
