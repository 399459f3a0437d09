"""A virtual Pi: a whole machine of the Pi's processor, with a kernel, a disk and a sound card of its own.

It shows what a container can't: a unit's sandbox as a kernel enforces it, an account of memory, logins as logind has
them, sound through ALSA, and a disk that loses what wasn't yet on it when the power goes. What it can't show either is
how fast a Pi is. It takes half a minute to start, and some minutes to be deployed on.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import free_port, missing
from pi.debian_root import MASKED, Suite, bare_pi, copied, let_in
from pi.emulated_pi import HOST, EmulatedPi
from pi.kernel import Kernel, kernel

QEMU = "qemu-system-aarch64"
PROCESSOR, CORES, MEMORY = "cortex-a53", 2, 512  # as a Pi Zero 2 W; MB
DISK = "3G"  # sparse
SOUND = "var/lib/microphone/sound.raw"
ASOUND = """# What is played into the other end of the loopback card is what the microphone hears.
pcm.!default {
    type plug
    slave.pcm "hw:Loopback,1"
}
ctl.!default {
    type hw
    card Loopback
}
"""
# One player without an end, so that there is no gap where the sound begins anew.
MICROPHONE = f"""[Unit]
ConditionPathExists=/{SOUND}
After=sound.target systemd-modules-load.service
[Service]
ExecStart=/bin/sh -c 'while cat /{SOUND}; do :; done | aplay -q -D plughw:Loopback,0 -t raw -f S16_LE -r 16000 -c 1'
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
"""
NEVER_ASKED = (
    *("systemd-firstboot.service", "console-getty.service"),
    *("systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount"),
)  # of what a container masks


@contextmanager
def booted(suite: Suite, folder: Path) -> Iterator[Machine]:
    """A virtual Pi of the test's own, just started for the first time; gone at the end, whatever happens.

    Args:
        suite: of Raspberry Pi OS.
        folder: a new one of the test's.
    """
    for program in (QEMU, "qemu-img", "mke2fs"):
        if not shutil.which(program):
            missing(program)
    folder.mkdir(parents=True, exist_ok=True)
    pi = Machine(suite, folder, kernel(suite))
    try:
        pi.start()
        yield pi
    finally:
        pi.pull_the_plug()
        pi.throw_away()


class Machine(EmulatedPi):
    """QEMU's machine `virt`, started from a disk that is made of the root's files."""

    patience = 400.0

    def __init__(self, suite: Suite, folder: Path, kernel: Kernel) -> None:
        super().__init__(suite, folder)
        self._kernel = kernel
        self._port = free_port()
        root = copied(bare_pi(suite), folder / "root")
        try:
            let_in(root, self.key)
            _furnish(root, kernel)
            self._reached_at(self._port, (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text())
            _do("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-d", str(root), str(self._files), DISK)
        finally:
            shutil.rmtree(root)
        _do("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self._files), "-F", "raw", str(self._disk))

    def play(self, sound: Path) -> None:
        at_once = f"cat > /{SOUND}.new && sync /{SOUND}.new && mv /{SOUND}.new /{SOUND} && systemctl restart microphone"
        with sound.open("rb") as content:
            subprocess.run(
                ["ssh", "-F", str(self.ssh_config), HOST, f"sudo -n sh -c '{at_once}'"],
                stdin=content,
                check=True,
                capture_output=True,
                timeout=120,
            )

    def throw_away(self) -> None:
        """Its disk: hundreds of megabytes, which pytest would keep for three runs."""
        for file in (self._files, self._disk):
            file.unlink(missing_ok=True)

    @property
    def _files(self) -> Path:
        """As they were before the first start; never written to."""
        return self.folder / "files.ext4"

    @property
    def _disk(self) -> Path:
        """What was written since.

        A disk with a cache of its own, which is lost with the power: QEMU writes what the guest writes (into this
        machine's memory, which outlasts QEMU), but where in the file a block lies that was never written before, it
        keeps to itself until the guest flushes. So does a card that has written to fresh flash, and not yet its table.
        """
        return self.folder / "disk.qcow2"

    def _power(self) -> list[str]:
        return [
            QEMU,
            *("-M", "virt", "-cpu", PROCESSOR, "-smp", str(CORES), "-m", str(MEMORY)),
            *("-kernel", str(self._kernel.image), "-initrd", str(self._kernel.initramfs)),
            *("-append", "console=ttyAMA0 panic=5 loglevel=4 systemd.show_status=no"),
            *("-drive", f"file={self._disk},format=qcow2,if=none,id=disk,cache=writeback"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self._port}-:22"),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-rng-pci"),
            *("-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"),
        ]


def _furnish(root: Path, kernel: Kernel) -> None:
    """What a machine has, and a container hasn't."""
    etc = root / "etc"
    _do("cp", "--archive", f"{kernel.modules}/.", str(root / "usr/lib/modules"))
    (etc / "fstab").write_text("/dev/vda / ext4 defaults,noatime 0 0\n")
    (etc / "systemd/network").mkdir(parents=True, exist_ok=True)
    (etc / "systemd/network/10-wired.network").write_text("[Match]\nName=e*\n[Network]\nDHCP=ipv4\n")
    with (etc / "pam.d/common-session").open("a") as session:
        session.write("session optional pam_systemd.so\n")
    (etc / "modules-load.d").mkdir(exist_ok=True)
    (etc / "modules-load.d/microphone.conf").write_text("snd-aloop\n")
    (etc / "asound.conf").write_text(ASOUND)
    (root / SOUND).parent.mkdir(parents=True)
    (etc / "systemd/system/microphone.service").write_text(MICROPHONE)
    units = ("systemctl", "--root", str(root), "--quiet")
    _do(*units, "unmask", *(unit for unit in MASKED if unit not in NEVER_ASKED))
    _do(*units, "mask", "systemd-networkd-wait-online.service", "e2scrub_all.timer")
    _do(*units, "enable", "systemd-networkd.service", "microphone.service")


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"
