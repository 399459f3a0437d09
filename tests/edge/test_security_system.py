"""Root on a device, and an account there that was broken into: neither links nor locks of that one reach root."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge_asd import child, files, release_tree, status
from edge_asd.arrival.places import Places
from edge_asd.errors import StorageError

NOBODY = 65534
ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")


def test_what_is_no_file_is_not_even_opened(tmp_path: Path) -> None:
    """A device may act when it is opened, as a watchdog does: a link to one must not come to life when root looks."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / status.FILE_NAME).symlink_to(tmp_path / "pipe")
    program = (
        "import os, sys; from pathlib import Path; from edge_asd import errors, files\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, told: opened.append(told) if event == 'open' else None)\n"
        "try: files.beginning(Path(sys.argv[1]), 10)\n"
        "except errors.StorageError as error: print(error)\n"
        "print([flags & os.O_PATH != 0 for path, _, flags in opened if path and str(path) == sys.argv[1]])\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path / status.FILE_NAME)]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "is no file; move it away." in said
    assert said.endswith("[True]\n")


def test_a_status_is_read_up_to_its_limit(tmp_path: Path) -> None:
    with (tmp_path / status.FILE_NAME).open("wb") as file:
        file.truncate(1 << 40)  # a hole: what would be read whole, would take all memory
    with pytest.raises(StorageError, match="is no status"):
        status.read(tmp_path)


def test_what_is_written_takes_the_place_of_a_link_and_not_of_what_it_leads_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    (tmp_path / "site.json").symlink_to(victim)
    files.write_text(tmp_path / "site.json", "ours")
    assert victim.read_text() == "whole"
    assert not (tmp_path / "site.json").is_symlink()


@ONLY_ROOT
def test_root_that_listens_becomes_the_owner_of_the_state_folder_first(tmp_path: Path) -> None:
    """Else links in that folder, which its owner may lay, would be written through with root's rights."""
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    settings = tmp_path / "device.toml"
    settings.write_text(f'bundle = "fan.easd"\nstate = "{state}"\n[capture]\ndevice = "x"\n')
    program = (
        "import os, sys; from edge_asd import daemon, daemon_process\n"
        "def run(*_, **__): print(*os.getresuid(), *os.getresgid(), 0 in os.getgroups()); sys.exit()\n"
        "daemon.run = run; daemon_process.main(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(settings)], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{' '.join([str(NOBODY)] * 6)} False\n", done.stderr


def test_nobody_but_root_can_hold_up_a_deployment(tmp_path: Path) -> None:
    """Who can open a file for reading can lock it: a daemon that was broken into could keep its own update away."""
    tree = release_tree.Tree(tmp_path)
    lock = tree.home / "lock"
    with release_tree.locked(tree):
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    lock.chmod(0o644)
    with Places(str(tmp_path)).alone():
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    lock.chmod(0o644)  # of an earlier version
    with release_tree.locked(tree):
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600


@ONLY_ROOT
def test_a_strangers_bundle_is_tried_by_an_account_without_rights_that_is_the_first_to_go() -> None:
    """Its network is read by native code: where that takes all memory, no other process is to die of it."""
    account = pwd.getpwnam("daemon")  # every Debian has it, with a group of its name
    told = "sleep 3; cat /proc/self/oom_score_adj; id -u; id -G; env | cut -d= -f1 | sort | tr '\\n' ' '"
    done = child.run(["/bin/sh", "-c", told], seconds=30, account=account.pw_name)
    score, user, groups, names = done.output.splitlines()
    assert (score, user, groups) == ("1000", str(account.pw_uid), str(account.pw_gid))
    assert set(names.split()) <= {"PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
