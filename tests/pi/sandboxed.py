"""What may be done from where it is run: tries, and prints a JSON object of each attempt and the name of its error.

Run by the device's own Python, from within the sandbox of the daemon's unit.
"""

import ctypes
import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

NEW_USER = 0x10000000  # CLONE_NEWUSER, <linux/sched.h>


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def write(folder: str) -> Callable[[], object]:
    def attempt() -> None:
        path = Path(folder, "written from within")
        path.touch()
        path.unlink()

    return attempt


def new_namespace() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_USER):
        raise OSError(ctypes.get_errno(), "unshare")


ATTEMPTS = {
    **{f"write {folder}": write(folder) for folder in ("/etc", "/opt/edge-asd", "/opt/edge-asd/current/", "/usr")},
    **{f"write {folder}": write(folder) for folder in ("/var/lib", "/var/lib/microphone", "/var/lib/edge-asd")},
    "write /tmp": write("/tmp"),  # noqa: S108 - one of its own
    "write /sys/kernel": lambda: Path("/sys/kernel/profiling").write_text("1"),
    "list /home": lambda: os.listdir("/home"),
    "read /home/pi": lambda: os.listdir("/home/pi"),
    "read /root": lambda: os.listdir("/root"),
    "read /etc/shadow": lambda: Path("/etc/shadow").read_bytes(),
    "read /etc/edge-asd": lambda: Path("/etc/edge-asd/device.toml").read_bytes(),
    "see the first process": lambda: os.stat("/proc/1"),
    "read the kernel's log": lambda: Path("/dev/kmsg").open("rb").close(),
    "open a raw socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "open a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
    "make a namespace": new_namespace,
    "be real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "open the sound card": lambda: Path("/dev/snd/controlC0").open("rb").close(),
    "open another device": lambda: Path("/dev/fuse").open("rb").close(),  # which everybody may, outside of a sandbox
}

if __name__ == "__main__":
    print(json.dumps({name: outcome(attempt) for name, attempt in ATTEMPTS.items()}))  # noqa: T201
