"""The files of a bare Raspberry Pi: Debian arm64 as its system image has it, with the user pi, and without venv or pip.

It is unpacked and configured by this machine's programs alone, for dpkg under emulation takes minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from common import missing
from edge_asd_trainer.bench.arm64 import unpack_debian
from pi.cache import kept

PI = 1000  # the first user's number
AUDIO = 29  # Debian's number of that group
SECONDS = 120.0

PACKAGES = (
    *("base-files", "base-passwd", "bash", "coreutils", "dash", "debianutils", "diffutils", "findutils", "grep"),
    *("gzip", "hostname", "init-system-helpers", "libc-bin", "login", "mount", "ncurses-base", "ncurses-bin", "sed"),
    *("sysvinit-utils", "tar", "util-linux", "mawk", "passwd", "systemd-sysv", "dbus", "libpam-modules"),
    *("libpam-modules-bin", "libpam-runtime", "libpam-systemd", "kmod", "udev", "python3", "openssh-server"),
    *("openssh-sftp-server", "alsa-utils", "libstdc++6", "sudo", "procps", "iproute2", "tzdata", "netbase"),
    "ca-certificates",
)
# What a headless device never opens, and what makes copies of the root slow.
NEVER_READ = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/bug",
)


@dataclass(frozen=True)
class Suite:
    """A release of Raspberry Pi OS, by the Debian that it is.

    Attributes:
        name: Debian's.
        python: the version of its Python.
        packages: that this one has and others name otherwise.
    """

    name: str
    python: str
    packages: tuple[str, ...]


BOOKWORM = Suite("bookworm", "3.11", ("libasound2",))
TRIXIE = Suite("trixie", "3.13", ("libasound2t64",))
SUITES = (BOOKWORM, TRIXIE)

PAM = {
    "common-auth": "auth sufficient pam_unix.so nullok\nauth required pam_deny.so\n",
    "common-account": "account required pam_unix.so\n",
    "common-password": "password required pam_unix.so yescrypt\n",
    "common-session": "session required pam_unix.so\n",  # pam_systemd would wait for a logind that isn't there
    "common-session-noninteractive": "session required pam_unix.so\n",
}
# They would reach for this machine's kernel or terminal, or wait for what isn't there.
MASKED = (
    *("systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "systemd-firstboot.service"),
    *("systemd-logind.service", "getty.target", "console-getty.service"),
    *("alsa-restore.service", "alsa-state.service", "e2scrub_all.timer"),
)


def bare_pi(suite: Suite) -> Path:
    """The root of a bare device, as every test copies it; made once, and kept in the checkout."""
    if os.getuid():
        missing("an emulated Raspberry Pi, for which one must be root")
    for program in ("systemctl", "systemd-sysusers", "ssh-keygen"):
        if not shutil.which(program):
            missing(program)
    return kept(f"pi-{suite.name}", sys.modules[__name__], lambda into: _make(into, suite))


def copied(root: Path, into: Path) -> Path:
    """A root of the test's own, with a host key of its own."""
    _do("cp", "--archive", "--reflink=auto", str(root), str(into))
    _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(into / "etc/ssh/ssh_host_ed25519_key"))
    return into


def let_in(root: Path, key: Path) -> None:
    """Let whoever has a key in as pi."""
    folder = root / "home" / "pi" / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(key.with_suffix(".pub"), folder / "authorized_keys")
    for one in (folder, folder / "authorized_keys"):
        os.chown(one, PI, PI)


def _make(root: Path, suite: Suite) -> None:
    unpack_debian(root, suite.name, (*PACKAGES, *suite.packages))
    for folder in NEVER_READ:
        shutil.rmtree(root / folder, ignore_errors=True)
    _users(root)
    _settings(root)
    units = ("--root", str(root), "--quiet")
    _do("systemctl", *units, "mask", *MASKED)
    _do("systemctl", *units, "enable", "ssh.service")


def _users(root: Path) -> None:
    """What base-passwd and the packages' own scripts would do, and the first user."""
    etc = root / "etc"
    for name in ("passwd", "group"):
        shutil.copy(root / "usr/share/base-passwd" / f"{name}.master", etc / name)
    accounts = (etc / "passwd").read_text().replace(":*:", ":x:")
    (etc / "passwd").write_text(accounts)
    names = [line.split(":")[0] for line in accounts.splitlines()]
    (etc / "shadow").write_text("".join(f"{name}:*:19000:0:99999:7:::\n" for name in names))
    (etc / "shadow").chmod(0o640)
    _do("systemd-sysusers", f"--root={root}")
    for name, number, group, home in (("sshd", 105, 65534, "/run/sshd"), ("messagebus", 104, 110, "/nonexistent")):
        if not _has(etc / "passwd", name):
            _add(etc / "passwd", f"{name}:x:{number}:{group}::{home}:/usr/sbin/nologin")
            _add(etc / "shadow", f"{name}:!*:19000::::::")
        if group != 65534 and not _has(etc / "group", name):
            _add(etc / "group", f"{name}:x:{group}:")
    _add(etc / "passwd", f"pi:x:{PI}:{PI}:,,,:/home/pi:/bin/bash")
    _add(etc / "shadow", "pi:*:19000:0:99999:7:::")
    _add(etc / "group", f"pi:x:{PI}:")
    groups = (etc / "group").read_text().splitlines()
    audio = next(line for line in groups if line.startswith("audio:"))
    (etc / "group").write_text("\n".join(f"audio:x:{AUDIO}:pi" if line == audio else line for line in groups) + "\n")
    (root / "home" / "pi").mkdir(parents=True)
    os.chown(root / "home" / "pi", PI, PI)
    launcher = root / "usr/lib/dbus-1.0/dbus-daemon-launch-helper"
    os.chown(launcher, 0, int(next(line for line in groups if line.startswith("messagebus:")).split(":")[2]))
    launcher.chmod(0o4754)


def _settings(root: Path) -> None:
    etc = root / "etc"
    for name, package in (("nsswitch.conf", "libc-bin"), ("profile", "base-files")):
        if not (etc / name).exists():
            shutil.copy(root / "usr/share" / package / name, etc / name)
    for name, text in PAM.items():
        (etc / "pam.d" / name).write_text(text)
    if not (etc / "ssh" / "sshd_config").exists():
        shutil.copy(root / "usr/share/openssh/sshd_config", etc / "ssh" / "sshd_config")
    (etc / "sudoers.d" / "010_pi-nopasswd").write_text("pi ALL=(ALL) NOPASSWD: ALL\n")
    (etc / "sudoers.d" / "010_pi-nopasswd").chmod(0o440)
    (etc / "hostname").write_text("raspberrypi\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n127.0.1.1 raspberrypi\n")
    for name in ("environment", "default/locale"):  # pam looks for them at every login
        (etc / name).touch()
    (etc / "machine-id").write_text("")  # a new one at every copy's first start
    (etc / "localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    (root / "usr/bin/awk").symlink_to("mawk")
    for name in ("tmp", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(0o1777)
    for name in ("run", "proc", "sys", "dev", "root", "mnt"):
        (root / name).mkdir(exist_ok=True)
    for name, target in (("var/run", "/run"), ("var/lock", "/run/lock")):
        if not (root / name).is_symlink():
            shutil.rmtree(root / name, ignore_errors=True)  # a package may have made a folder of it
            (root / name).symlink_to(target)


def _has(file: Path, name: str) -> bool:
    return any(line.startswith(f"{name}:") for line in file.read_text().splitlines())


def _add(file: Path, line: str) -> None:
    with file.open("a") as text:
        text.write(f"{line}\n")


def _do(*command: str) -> None:
    environment = {**os.environ, "SYSTEMCTL_SKIP_SYSV": "1"}  # it would start a program of the root's processor
    subprocess.run(command, check=True, timeout=SECONDS, capture_output=True, env=environment)
