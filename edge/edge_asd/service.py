"""What listens on a device, as a deployment sees it: it is provided, started, and proves itself by scoring a window.

`Rehearsal` is a stand-in's: nothing runs there, so a daemon hears the golden clip once. `Systemd` is a device's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from edge_asd import child, release_checks, status
from edge_asd.child import Finished
from edge_asd.errors import CheckFailed, EdgeAsdError
from edge_asd.release_record import bundle_of
from edge_asd.release_tree import Release, Tree, linked
from edge_asd.status import Status

ACCOUNT = "edge-asd"
UNIT = "edge-asd.service"
UNIT_LINK = Path("/etc/systemd/system") / UNIT

COMMAND_SECONDS = 120.0
PROOF_SECONDS = 300.0  # a Pi Zero 2 W that hears the clips of its site anew takes half a minute before it listens
DEAF_SECONDS = 45.0  # a microphone may come up late, and is tried again after 1, 2, 4 ... s
MOST_RESTARTS = 2
LOOK_SECONDS = 0.5


class Service(Protocol):
    """What listens on a device."""

    @property
    def account(self) -> str | None:
        """As whom the new release is tried; None: as who deploys."""
        ...

    def lacks(self, tree: Tree) -> list[str]:
        """What stands between the device and `current` listening there, a line each; none where it does."""
        ...

    def provide(self, tree: Tree) -> None:
        """What has to be there before a release is tried. Raises: CheckFailed."""
        ...

    def start(self, tree: Tree) -> None:
        """Let `current` listen, and nothing else. Raises: CheckFailed."""
        ...

    def prove(self, tree: Tree, release: Release) -> str:
        """Wait for its first scored window; give it in words. Raises: CheckFailed."""
        ...

    def withdraw(self, tree: Tree) -> None:
        """Nothing listens there any more. Raises: CheckFailed."""
        ...

    def look_again(self, tree: Tree) -> None:
        """Let what listens notice that a shadow came or went. Raises: CheckFailed."""
        ...


class Rehearsal:
    """Of a stand-in: a daemon of its own hears the golden clip under the site's settings, and ends."""

    account: str | None = None

    def lacks(self, tree: Tree) -> list[str]:
        return []

    def provide(self, tree: Tree) -> None:
        """Nothing is needed."""

    def start(self, tree: Tree) -> None:
        """Nothing runs."""

    def prove(self, tree: Tree, release: Release) -> str:
        return f"{release_checks.health(tree, release)} scores from the daemon"

    def withdraw(self, tree: Tree) -> None:
        """Nothing runs."""

    def look_again(self, tree: Tree) -> None:
        """Nothing runs."""


class _Shown(msgspec.Struct):
    """What systemd says of the unit."""

    state: str = ""
    substate: str = ""
    enabled: str = ""
    restarts: int = 0
    process: int = 0


class Systemd:
    """Of a device: the unit that its release brings along, under an account of its own."""

    account: str | None = ACCOUNT

    def __init__(
        self,
        *,
        accept_deaf: bool = False,
        proof_seconds: float = PROOF_SECONDS,
        deaf_seconds: float = DEAF_SECONDS,
        run: Callable[..., Finished] = child.run,
        unit_link: Path = UNIT_LINK,
    ) -> None:
        """`accept_deaf`: a daemon that runs and says that its microphone doesn't hear proves enough."""
        self._accept_deaf = accept_deaf
        self._proof_seconds = proof_seconds
        self._deaf_seconds = deaf_seconds
        self._run = run
        self._unit_link = unit_link
        self._started = int(time.time())

    def lacks(self, tree: Tree) -> list[str]:
        shown, found = self._shown(), []
        if shown.enabled != "enabled":
            found.append(f"enable {UNIT}, so that it starts with the device")
        said = _status(tree)
        current = bundle_of(linked(tree.current) or "")
        if shown.state != "active" or said is None or (said.pid, said.bundle) != (shown.process, current):
            found.append(f"start {UNIT}")
        return found

    def provide(self, tree: Tree) -> None:
        account = (f'u {ACCOUNT} - "edge-asd" {tree.state}', f"m {ACCOUNT} audio")
        self._do("systemd-sysusers", "--inline", *account)

    def start(self, tree: Tree) -> None:
        """The unit is linked and not copied: it belongs to the release, and changes with `current`."""
        if self._shown().enabled != "enabled":
            self._do("systemctl", "enable", "--quiet", str(tree.current / "venv" / UNIT))
        self._do("systemctl", "daemon-reload")
        # Stopped to its end, or `prove` could take the last words of the one before for the first of the new one.
        self._do("systemctl", "stop", UNIT)
        self._do("systemctl", "reset-failed", UNIT, fails=True)
        self._started = int(time.time())
        self._do("systemctl", "start", "--no-block", UNIT)

    def prove(self, tree: Tree, release: Release) -> str:
        began, deaf_since = time.monotonic(), 0.0
        restarts = self._shown().restarts
        while (now := time.monotonic()) < began + self._proof_seconds:
            shown, said = self._shown(), _status(tree)
            if said and (said.pid, said.bundle) == (shown.process, bundle_of(release.id)):
                if said.scores:
                    return f"first window scored {said.last_score:.4g} after {now - began:.0f} s"
                deaf_since = (deaf_since or now) if said.gated else 0.0
                if said.gated and self._accept_deaf:
                    return f"it runs and can't hear ({said.sensor or ', '.join(said.faults)})"
                if said.gated and now - deaf_since > self._deaf_seconds:
                    raise CheckFailed(
                        f"no window could be scored, for the microphone doesn't hear: {said.sensor}; mend that, or "
                        "deploy with --accept-deaf"
                    )
            if shown.restarts - restarts >= MOST_RESTARTS or shown.state == "failed":
                raise CheckFailed(f"the daemon ends as soon as it is started: {self._last_words()}")
            time.sleep(LOOK_SECONDS)
        raise CheckFailed(f"no window was scored within {self._proof_seconds:.0f} s: {self._last_words()}")

    def withdraw(self, tree: Tree) -> None:
        self._do("systemctl", "disable", "--quiet", "--now", UNIT, fails=True)
        self._unit_link.unlink(missing_ok=True)
        self._do("systemctl", "daemon-reload")

    def look_again(self, tree: Tree) -> None:
        if self._shown().state == "active":
            self._do("systemctl", "reload", UNIT)

    def _shown(self) -> _Shown:
        properties = "ActiveState,SubState,UnitFileState,NRestarts,MainPID"
        said = self._do("systemctl", "show", f"--property={properties}", UNIT).output
        values = dict(line.partition("=")[::2] for line in said.splitlines())
        return _Shown(
            state=values.get("ActiveState", ""),
            substate=values.get("SubState", ""),
            enabled=values.get("UnitFileState", ""),
            restarts=_number(values.get("NRestarts", "")),
            process=_number(values.get("MainPID", "")),
        )

    def _last_words(self) -> str:
        """What the daemon said last, for it knows best why it left."""
        words = ("--unit", UNIT, f"--since=@{self._started}", "--lines=20", "--output=cat", "--no-pager")
        said = self._do("journalctl", *words, fails=True).output
        ours = [line for line in said.splitlines() if line.startswith("edge-asd: ")]
        lines = ours or said.splitlines() or ["it said nothing"]
        return f"{lines[-1].removeprefix('edge-asd: ')} (see `journalctl -u {UNIT}` there)"

    def _do(self, *command: str, fails: bool = False) -> Finished:
        """Run one command to its end. Raises: CheckFailed, unless it may fail."""
        finished = self._run(command, seconds=COMMAND_SECONDS)
        if finished.code and not fails:
            raise CheckFailed(f"`{' '.join(command[:3])}` failed: {finished.last_line}")
        return finished


def _status(tree: Tree) -> Status | None:
    try:
        return status.read(tree.state)
    except EdgeAsdError:  # of another version, or half of a file: what is asked here is whether it's the new one's
        return None


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
