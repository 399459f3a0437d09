"""The way to a device: the user's own `ssh`, with its configuration, agent, jump hosts and known hosts.

Nothing here asks for a password or keeps one. What ssh refuses is said in our words, with what to do.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from typing import Protocol

from edge_asd.errors import DeploymentError, EdgeAsdError, MissingRequirement, NotAdmitted, Unreachable, UsageError
from edge_asd.plain import plain

PROGRAM = "EDGE_ASD_SSH"  # in the environment: the words that start ssh, as GIT_SSH_COMMAND has them
PROBE_SECONDS = 40
OPTIONS = (
    "-T",
    *("-o", "BatchMode=yes"),  # never asks: neither for a password nor whether to trust a host
    *("-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=10"),
    *("-o", "ServerAliveCountMax=3"),
    *("-o", "ClearAllForwardings=yes"),  # those of the user's configuration are for a person's visit
    *("-o", "RemoteCommand=none"),
)
MOST_ERRORS = 16 << 10  # characters
LOST = 255  # the exit code of ssh itself

# As root where we are, else by sudo, which never asks: the program is `$@`.
# LC_ALL: its refusals are read here.
AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec "$@"; fi; LC_ALL=C exec sudo -n -- "$@"'
AS_ACCOUNT = (
    'if [ "$(id -u)" = 0 ]; then exec runuser -u edge-asd -- "$@"; fi; LC_ALL=C exec sudo -n -u edge-asd -- "$@"'
)
AS_WE_ARE = 'exec "$@"'  # for a stand-in's folder

_TARGET = re.compile(r"([0-9A-Za-z_][0-9A-Za-z_.-]{0,63}@)?[0-9A-Za-z\[][0-9A-Za-z_.:%\]-]{0,252}")
_FINGERPRINT = re.compile(r"(?:Server host key: \S+ |fingerprint for the \S+ key sent by the remote host is\s+)(\S+)")


class Transport(Protocol):
    """A way to a device."""

    @property
    def name(self) -> str:
        """What the device is called, for people."""
        ...

    @property
    def root(self) -> str:
        """The folder there that is its "/"."""
        ...

    def command(self, *words: str, account: str = AS_ROOT) -> list[str]:
        """The words that start a program there, with these rights."""
        ...

    def explain(self, code: int, errors: str) -> EdgeAsdError:
        """What to raise where such a command ended with this code, and said this."""
        ...


@dataclass(frozen=True)
class Ssh:
    """A device that ssh finds by its name: an entry of the user's configuration, a host, `user@host`."""

    name: str
    root: str = "/"

    def __post_init__(self) -> None:
        if not _TARGET.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r}: is no device; expected USER@HOST, such as pi@shop-floor-7, or a Host of your "
                "~/.ssh/config (a port belongs there, too)."
            )

    def command(self, *words: str, account: str = AS_ROOT) -> list[str]:
        rights = account if self.root == "/" else AS_WE_ARE
        there = shlex.join(["sh", "-c", rights, "edge-asd", *words])
        return [*_program(), *OPTIONS, "--", self.name, there]

    def explain(self, code: int, errors: str) -> EdgeAsdError:
        errors = errors[-MOST_ERRORS:]  # the device may have said as much as it liked
        said = errors.strip().splitlines()
        last = plain(said[-1].strip()) if said else f"it left with {code}"
        if code == LOST:
            return self._of_ssh(errors, last)
        if re.search("sudo: .*(password|terminal|authentication) is required", errors):
            return NotAdmitted(
                f"{self.name}: sudo wants a password there, which is never asked for; allow the account to do without "
                f"(there: echo '{self._user() or 'pi'} ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/edge-asd), "
                "or deploy as root."
            )
        if "sudo: not found" in errors or "sudo: command not found" in errors:
            return NotAdmitted(f"{self.name}: there is no sudo there; deploy as root@{self._host()}.")
        if "unknown user" in errors or "current/venv/bin/python" in errors:
            return DeploymentError(f"{self.name}: nothing is deployed there: edge-asd deploy fan.easd {self.name}")
        if re.search("python3: (command )?not found|ModuleNotFoundError", errors):
            return NotAdmitted(
                f"{self.name}: there is no whole Python there ({last}); install it: sudo apt-get install python3"
            )
        return NotAdmitted(f"{self.name}: {last}")

    def _of_ssh(self, errors: str, last: str) -> EdgeAsdError:
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in errors:
            return NotAdmitted(
                f"{self.name}: IS NOT THE HOST THAT IT WAS: its key is now {self._fingerprint(errors)}. If it was "
                f"installed anew, hold that against `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there, then "
                f"forget the old key: ssh-keygen -R {self._host()}. If it wasn't, somebody else answers: stop here."
            )
        if "Host key verification failed" in errors:
            return NotAdmitted(
                f"{self.name}: an unknown host, whose key is {self._fingerprint(errors)}. Hold that against "
                f"`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there; if they agree, connect once by hand and "
                f"say yes: ssh {self.name}"
            )
        if "Permission denied" in errors or "Too many authentication failures" in errors:
            return NotAdmitted(
                f"{self.name}: doesn't let us in without a password ({last}); give it your key: ssh-copy-id {self.name}"
            )
        return Unreachable(f"{self.name}: can't be reached ({last}); is it on, and does `ssh {self.name}` get there?")

    def _fingerprint(self, errors: str) -> str:
        """Of the key that the host shows: what ssh said, else what it says when it is asked to say more."""
        if found := _FINGERPRINT.findall(errors):
            return str(found[-1]).rstrip(".")
        command = [*_program(), "-v", *OPTIONS, "-o", "StrictHostKeyChecking=yes", "--", self.name, "true"]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
            )
            return str(_FINGERPRINT.findall(done.stderr)[-1])
        except (subprocess.TimeoutExpired, IndexError):
            return "not to be had"

    def _user(self) -> str:
        return self.name.rpartition("@")[0]

    def _host(self) -> str:
        return self.name.rpartition("@")[2]


def _program() -> list[str]:
    """How ssh is started. Raises: UsageError, where the environment says nonsense."""
    try:
        return shlex.split(os.environ.get(PROGRAM, "")) or ["ssh"]
    except ValueError as error:
        raise UsageError(f"{PROGRAM}={os.environ[PROGRAM]}: isn't a command ({error}); mend or unset it.") from error


def no_ssh(error: OSError) -> MissingRequirement:
    """What to raise where ssh can't be started."""
    return MissingRequirement(
        f"{_program()[0]} can't be started ({error.strerror}); install OpenSSH's client: apt-get install openssh-client"
    )
