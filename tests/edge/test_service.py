"""What a deployment makes of systemd: provided, started, proved; a real one is in tests/e2e and tests/pi."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from edge_asd import service, status
from edge_asd.child import Finished
from edge_asd.errors import CheckFailed
from edge_asd.release_tree import Tree
from edge_asd.service import UNIT, Systemd
from made_up_events import STATUS

DIGEST = "0123456789abcdef"
RELEASE = f"fan-{DIGEST}.01234567"


@dataclass
class FakeSystemd:
    """Answers as systemctl does, and lets a daemon write one status after the other."""

    tree: Tree
    statuses: list[dict[str, object]] = field(default_factory=list)
    enabled: str = "enabled"
    state: str = "active"
    restarts: list[int] = field(default_factory=lambda: [0])
    journal: str = ""
    fails: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)

    def run(self, command: Sequence[str], *, seconds: float) -> Finished:
        words = " ".join(command)
        self.asked.append(words)
        if self.statuses:
            changed = self.statuses.pop(0)
            status.write(self.tree.state, msgspec.structs.replace(STATUS, bundle=DIGEST, pid=7, **changed))
        if command[1] == "show":
            restarts = self.restarts.pop(0) if len(self.restarts) > 1 else self.restarts[0]
            values = (self.state, self.enabled, restarts, 7)
            names = ("ActiveState", "UnitFileState", "NRestarts", "MainPID")
            output = "".join(f"{name}={value}\n" for name, value in zip(names, values, strict=True))
            return Finished(0, output, "")
        if command[0] == "journalctl":
            return Finished(0, self.journal, "")
        return Finished(1, "", "it failed\n") if any(word in words for word in self.fails) else Finished(0, "", "")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.001)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    found = Tree(tmp_path)
    found.state.mkdir(parents=True)
    found.release(RELEASE).folder.mkdir(parents=True)
    found.current.symlink_to(Path("releases") / RELEASE)
    return found


def prove(tree: Tree, fake: FakeSystemd, **settings: object) -> str:
    systemd = Systemd(run=fake.run, **{"proof_seconds": 1.0, "deaf_seconds": 0.05, **settings})  # type: ignore[arg-type]
    return systemd.prove(tree, tree.release(RELEASE))


def test_a_window_was_scored(tree: Tree) -> None:
    fake = FakeSystemd(tree, [{"scores": 0}, {"scores": 0}, {"scores": 1, "last_score": 1.5}])
    assert prove(tree, fake).startswith("first window scored 1.5 after ")


@pytest.mark.parametrize("other", [{"bundle": "f" * 16}, {"pid": 8}])
def test_a_score_of_the_daemon_before_counts_for_nothing(tree: Tree, other: dict[str, object]) -> None:
    said = msgspec.structs.replace(STATUS, **{"bundle": DIGEST, "pid": 7, "scores": 9, **other})
    status.write(tree.state, said)
    with pytest.raises(CheckFailed, match="no window was scored within"):
        prove(tree, FakeSystemd(tree), proof_seconds=0.05)


def test_a_daemon_that_ends_at_once(tree: Tree) -> None:
    fake = FakeSystemd(
        tree, restarts=[0, 0, 1, 2], journal="Started.\nedge-asd: device.toml, line 3: no\nMain process exited.\n"
    )
    with pytest.raises(CheckFailed, match=r"ends as soon as it is started: device\.toml, line 3: no"):
        prove(tree, fake)


def test_a_microphone_that_does_not_hear(tree: Tree) -> None:
    deaf = {"scores": 0, "gated": True, "faults": ("absent",), "sensor": "there is no card called Device"}
    with pytest.raises(CheckFailed, match=r"there is no card called Device; mend that, or deploy with --accept-deaf"):
        prove(tree, FakeSystemd(tree, [deaf]))
    assert "can't hear (there is no card" in prove(tree, FakeSystemd(tree, [deaf]), accept_deaf=True)


def test_a_microphone_that_comes_late_is_waited_for(tree: Tree) -> None:
    deaf: dict[str, object] = {"scores": 0, "gated": True, "faults": ("absent",)}
    fake = FakeSystemd(tree, [deaf, deaf, {"scores": 3, "last_score": 2.0}])
    assert "scored" in prove(tree, fake, deaf_seconds=1.0)


def test_what_is_lacking(tree: Tree) -> None:
    status.write(tree.state, msgspec.structs.replace(STATUS, bundle=DIGEST, pid=7))
    assert Systemd(run=FakeSystemd(tree).run).lacks(tree) == []
    assert len(Systemd(run=FakeSystemd(tree, enabled="linked").run).lacks(tree)) == 1
    assert len(Systemd(run=FakeSystemd(tree, state="inactive").run).lacks(tree)) == 1
    status.write(tree.state, msgspec.structs.replace(STATUS, bundle="f" * 16, pid=7))
    assert Systemd(run=FakeSystemd(tree).run).lacks(tree) == [f"start {UNIT}"]


def test_started_with_the_unit_of_the_release(tree: Tree) -> None:
    fake = FakeSystemd(tree, enabled="")
    Systemd(run=fake.run).start(tree)
    wanted = [
        "show",
        f"enable --quiet {tree.current}/venv/{UNIT}",
        "daemon-reload",
        "stop",
        "reset-failed",
        "start --no-block",
    ]
    assert [word for word, asked in zip(wanted, fake.asked, strict=True) if word in asked] == wanted
    again = FakeSystemd(tree)
    Systemd(run=again.run).start(tree)
    assert not any(" enable " in asked for asked in again.asked)


def test_what_systemd_refuses_is_said(tree: Tree) -> None:
    with pytest.raises(CheckFailed, match=r"`systemctl daemon-reload` failed: it failed"):
        Systemd(run=FakeSystemd(tree, fails=("daemon-reload",)).run).start(tree)
    with pytest.raises(CheckFailed, match=r"`systemd-sysusers"):
        Systemd(run=FakeSystemd(tree, fails=("sysusers",)).run).provide(tree)


def test_withdrawn(tree: Tree, tmp_path: Path) -> None:
    link = tmp_path / UNIT
    link.symlink_to("/nowhere")
    fake = FakeSystemd(tree, fails=("disable",))  # it may never have been enabled
    Systemd(run=fake.run, unit_link=link).withdraw(tree)
    assert not link.is_symlink()
    assert fake.asked[-1] == "systemctl daemon-reload"


def test_a_shadow_is_looked_for_by_a_daemon_that_runs(tree: Tree) -> None:
    fake = FakeSystemd(tree)
    Systemd(run=fake.run).look_again(tree)
    assert fake.asked[-1] == f"systemctl reload {UNIT}"
    fake = FakeSystemd(tree, state="inactive")
    Systemd(run=fake.run).look_again(tree)
    assert not any("reload" in asked for asked in fake.asked)


def test_the_daemon_before_has_ended_before_the_new_one_is_asked_for(tree: Tree) -> None:
    """Of the same bundle in another runtime its last words would look like the new one's first."""
    fake = FakeSystemd(tree)
    Systemd(run=fake.run).start(tree)
    order = [words for words in fake.asked if words.split()[1] in ("stop", "start")]
    assert order == [f"systemctl stop {UNIT}", f"systemctl start --no-block {UNIT}"]


def test_a_status_that_is_a_pipe_stops_nobody(tree: Tree) -> None:
    """The daemon's account may put there what it likes, and root reads it."""
    os.mkfifo(tree.state / status.FILE_NAME)
    assert len(Systemd(run=FakeSystemd(tree).run).lacks(tree)) == 1
