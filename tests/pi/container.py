"""An emulated Pi that starts in seconds: its own systemd is the first process of a container, where all is emulated.

It shares this machine's kernel, so it has no sound card, no kernel modules, and no account of memory; and nothing else:
its network is empty but for loopback, into which a relay brings ssh.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from common import missing
from pi import relay
from pi.debian_root import TRIXIE, Suite, bare_pi, copied, let_in
from pi.emulated_pi import MORTAL, EmulatedPi, loopback_socket
from pi.emulator import registered

CGROUPS = Path("/sys/fs/cgroup")
SYSTEMD = Path("/run/systemd/system")  # is there where it runs this machine, and hands its control groups out
RATE, BYTES = 16_000, 2
BLOCK = 0.1  # seconds of sound that the microphone delivers at a time
MICROPHONE = "var/lib/microphone"  # a pipe in the root
# Without `plug`, which takes what isn't there yet for sound: whoever records asks for the rate and format of the pipe.
ASOUND = f"""# A pipe, into which whoever emulates this Pi writes at the pace of time: S16_LE, {RATE} Hz, mono.
pcm.!default {{
    type file
    slave.pcm {{ type null }}
    file /dev/null
    infile /{MICROPHONE}
    format raw
}}
"""
# Moves itself into its own control groups, so that two containers don't share one, and becomes the command.
ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift; exec "$@"'


@contextmanager
def booted(suite: Suite, folder: Path) -> Iterator[Container]:
    """A Pi of the test's own, just started for the first time; gone at the end, whatever happens.

    Args:
        suite: of Raspberry Pi OS.
        folder: a new one of the test's.
    """
    for program in ("systemd-nspawn", "mount", "nsenter", "unshare"):
        if not shutil.which(program):
            missing(program)
    cached = bare_pi(suite)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"edge-asd-{uuid.uuid4().hex[:12]}"
    with ExitStack() as ends:
        ends.enter_context(registered())
        root = ends.enter_context(_copy(cached, folder / "root"))
        microphone = ends.enter_context(Microphone(root / MICROPHONE))
        groups = ends.enter_context(_own_groups(name))
        cable = ends.enter_context(Cable())
        pi = Container(suite, folder, name, root, microphone, groups, cable)
        ends.callback(pi.pull_the_plug)
        pi.start()
        yield pi


class Container(EmulatedPi):
    """A copy of the root, started by systemd-nspawn.

    Attributes:
        root: its files, which a test may read, and write while it is off.
    """

    def __init__(
        self,
        suite: Suite,
        folder: Path,
        name: str,
        root: Path,
        microphone: Microphone,
        groups: Sequence[Path],
        cable: Cable,
    ) -> None:
        super().__init__(suite, folder)
        self.root = root
        self._name = name
        self._microphone = microphone
        self._groups = groups
        self._cable = cable
        let_in(root, self.key)
        (root / "etc/asound.conf").write_text(ASOUND)
        drop_in = root / "etc/systemd/system/service.d/under-emulation.conf"
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text(_drop_in(suite))
        self._reached_at(cable.port, (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text())

    def play(self, sound: Path) -> None:
        self._microphone.play(sound)

    def pull_the_plug(self) -> None:
        if self._process is not None:
            number = self._process.pid  # of unshare, which waits for its only child
            for first in Path(f"/proc/{number}/task/{number}/children").read_text().split():
                os.kill(int(first), signal.SIGKILL)
            self._process.wait(30)
        super().pull_the_plug()

    def _power(self) -> list[str]:
        words = [
            "systemd-nspawn",
            "--quiet",
            "--boot",
            f"--directory={self.root}",
            f"--machine={self._name}",
            "--register=no",
            "--keep-unit",
            "--network-namespace-path=/proc/self/ns/net",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            "--console=pipe",
            "--setenv=SYSTEMD_COLORS=0",
        ]
        if SYSTEMD.is_dir():
            grouped = ["systemd-run", "--scope", "--quiet", "--property=Delegate=yes", "--"]
        else:
            grouped = ["sh", "-c", ENTER, "sh", *map(str, self._groups), "--"]
        return [
            *grouped,
            *("nsenter", f"--net=/proc/{self._cable.process.pid}/ns/net"),
            # The first process of a space of its own: with it everything ends that it ever started.
            *("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
            *("env", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"),  # as on a Pi; the systemd of Trixie knows no other
            *words,
        ]


class Cable:
    """The process that holds the Pi's network and brings ssh into it; both outlast a reboot.

    Attributes:
        port: of this machine's loopback.
        process: whose network is the Pi's.
    """

    def __init__(self) -> None:
        with loopback_socket() as listening:
            self.port = int(listening.getsockname()[1])
            words = [sys.executable, relay.__file__, str(listening.fileno())]
            self.process = subprocess.Popen([*MORTAL, *words], stdout=subprocess.PIPE, pass_fds=[listening.fileno()])

    def __enter__(self) -> Cable:
        assert self.process.stdout is not None
        with self.process.stdout as said_there:
            said = said_there.readline()
        if said != b"connected\n":
            self.__exit__()
            missing("the right to make a network of one's own")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)


class Microphone:
    """A pipe that delivers sound as fast as time goes by, or silence; nothing is kept while nobody listens."""

    def __init__(self, pipe: Path) -> None:
        os.mkfifo(pipe, 0o644)
        self._pipe = pipe
        self._sound = b"\0" * RATE * BYTES
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name="microphone", daemon=True)

    def play(self, sound: Path) -> None:
        self._sound = sound.read_bytes()
        assert self._sound, f"{sound} is empty"

    def __enter__(self) -> Microphone:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join(10)

    def _deliver(self) -> None:
        while not self._closed.is_set():
            try:
                to = os.open(self._pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody listens
                self._closed.wait(0.05)
                continue
            fcntl.fcntl(to, fcntl.F_SETPIPE_SZ, 1 << 20)  # a pause of this machine's is no fault of the Pi's
            with suppress(BrokenPipeError):
                self._deliver_to(to)
            os.close(to)

    def _deliver_to(self, to: int) -> None:
        due = time.monotonic()
        block = round(RATE * BLOCK) * BYTES
        sound, place = self._sound, 0
        while not self._closed.is_set():
            if sound is not self._sound:
                sound, place = self._sound, 0
            some = sound[place : place + block]
            while len(some) < block:
                some += sound[: block - len(some)]
            with suppress(BlockingIOError):  # it listens too slowly, as it may to a real one, and loses samples
                os.write(to, some)
            place = (place + block) % len(sound)
            due += BLOCK
            self._closed.wait(max(0.0, due - time.monotonic()))


def _drop_in(suite: Suite) -> str:
    """For every service, systemd's own too: what can't be had under emulation, and would keep it from starting.

    Credentials would have to be mounted. Trixie's systemd can't let a service see the file system otherwise than all
    do: it asks by statx whether two folders are the same mount, and the emulator hands on that the answer is there, but
    not the answer.
    """
    lines = ["[Service]", "LoadCredential=", "LoadCredentialEncrypted=", "SetCredential="]
    if suite is TRIXIE:
        lines += ["ImportCredential="]
        lines += [f"{name}=no" for name in ("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices")]
        lines += [f"ProtectKernel{name}=no" for name in ("Logs", "Modules", "Tunables")]
        lines += ["ProtectControlGroups=no", "ProtectProc=default"]
    return "\n".join(lines) + "\n"


@contextmanager
def _copy(cached: Path, root: Path) -> Iterator[Path]:
    try:
        yield copied(cached, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)  # hundreds of megabytes, which pytest would keep for three runs


@contextmanager
def _own_groups(name: str) -> Iterator[list[Path]]:
    """Control groups for a container, where this machine has no systemd to ask for them."""
    hierarchies = [CGROUPS] if (CGROUPS / "cgroup.procs").exists() else [CGROUPS / "unified", CGROUPS / "systemd"]
    groups = [hierarchy / name for hierarchy in hierarchies if hierarchy.is_dir() and not SYSTEMD.is_dir()]
    try:
        for group in groups:
            group.mkdir()
        yield groups
    finally:
        for group in groups:
            _remove_group(group)


def _remove_group(group: Path) -> None:
    """With what systemd made in it; a group has no files that could be deleted."""
    patience = time.monotonic() + 10
    while group.is_dir():
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):  # busy, as long as one of its processes is dying
                Path(folder).rmdir()
        assert time.monotonic() < patience, f"{group} isn't empty"
        time.sleep(0.05)
