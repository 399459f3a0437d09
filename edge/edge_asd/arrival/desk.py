"""Where a workstation's requests are answered, one after the other, for as long as its connection lasts.

One request a line, as JSON, comes on standard input, the bytes of a file behind it. Answers go to standard output: any
number of {"say": [step, outcome]}, then {"done": ...} or {"refused": why, "code": exit code}.

    look     what this device is, and what is on it
    expect   which files will come; how much of each is here
    take     the rest of one of them
    build    a virtual environment out of wheels
    run      a step of `edge-asd release`, by the runtime that came or the one that is committed
    remove   everything, with or without the site's data

When the connection breaks, what arrived is kept, and a step of `edge-asd release` goes on alone.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from edge_asd.arrival import runtimes, uploads
from edge_asd.arrival.places import LARGEST_TEXT, Places, Refused, sha256_of, text_of
from edge_asd.arrival.runtimes import Runtime
from edge_asd.arrival.uploads import Expected

LARGEST_REQUEST = 1 << 20
COMMAND_SECONDS = 120
STEPS = ("activate", "rollback", "shadow", "promote", "drop")
ISOLATED = ("-I", "-B")  # nothing of root's environment decides what runs, and nothing compiled is kept anywhere
# What a request, or a wheel, may be answered with that isn't what it should be.
UNREADABLE = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
)
RELEASE = re.compile(r"[0-9A-Za-z_-]{1,32}-[0-9a-f]{16}(\.[0-9a-f]{8})?")
ACCOUNT = "edge-asd"
UNIT_LINK = Path("/etc/systemd/system") / runtimes.UNIT


class Desk:
    """One visit of a workstation."""

    def __init__(self, root: str, requests: IO[bytes], answers: IO[bytes]) -> None:
        self._places = Places(root)
        self._requests = requests
        self._answers = answers
        self._asked = {
            one.__name__: one for one in (self.look, self.expect, self.take, self.build, self.run, self.remove)
        }

    def serve(self) -> None:
        """Answer until the connection ends."""
        while line := self._requests.readline(LARGEST_REQUEST):
            try:
                request = json.loads(line)
                self._say(done=self._asked[request.pop("do")](**request))
            except Refused as refusal:
                self._say(refused=str(refusal), code=refusal.code)
            except (OSError, subprocess.SubprocessError) as error:
                where = getattr(error, "filename", None) or self._places.home
                why = getattr(error, "strerror", None) or error
                self._say(refused=f"{where}: {why}; free space or mend the permissions there, then again.", code=7)
            except UNREADABLE as error:
                self._say(
                    refused=f"{error!r}: can't be understood; is edge-asd of the same version on both sides?", code=8
                )

    def look(self) -> dict[str, Any]:
        """What this device is, and what is on it; changes nothing."""
        places = self._places
        return {
            "host": socket.gethostname(),
            "model": text_of(Path("/proc/device-tree/model")).strip("\0\n "),
            "machine": platform.machine(),
            "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
            "glibc": (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(" ")[2],
            "systemd": Path("/run/systemd/system").is_dir(),
            "busy": places.busy(),
            "serves": self._serves(),
            "config": text_of(places.etc / "device.toml") or None,
            "signers": (places.etc / "allowed_signers").exists(),
            "record": text_of(places.home / "committed.json") or None,
            "current": places.current.resolve().name if places.current.exists() else None,
            "runtimes": sorted(path.name for path in places.runtimes.glob("[!.]*")),
            "releases": {name: sha256_of(path) for name, path in places.bundles().items()},
        }

    def expect(self, files: Sequence[Sequence[Any]], room: int, dry: bool = False) -> dict[str, int]:
        return uploads.expect(self._places, [Expected(*one) for one in files], room, dry=dry)

    def take(self, file: Sequence[Any], begin: int) -> None:
        uploads.take(self._places, Expected(*file), begin, self._requests)

    def build(self, runtime: dict[str, Any]) -> None:
        runtimes.build(self._places, Runtime(**runtime), lambda *said: self._say(say=said))

    def run(
        self,
        step: str,
        runtime: str = "",
        bundle: str = "",
        name: str = "",
        signature: str | None = None,
        first_config: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """A step of `edge-asd release`; what that says is passed on as it is said. Raises: Refused, with its code."""
        if step not in STEPS or (runtime and not runtimes.ID.fullmatch(runtime)):
            raise Refused(f"{step}: there is no such step.")
        environment = self._places.runtimes / runtime if runtime else self._committed()
        words = [str(environment / "bin" / "python"), *ISOLATED, "-m", "edge_asd", "release", step, "--json"]
        words += ["--root", str(self._places.root), *options]
        try:
            if bundle:
                words += ["--bundle", str(uploads.bundle(self._places, name, bundle, signature))]
            if runtime:
                words += ["--environment", str(environment)]
            if first_config is not None:
                path = self._places.incoming / "first.toml"
                path.write_text(first_config)
                words += ["--first-config", str(path)]
            self._relay(words)
        finally:  # done with, whatever came of it; another visit's uploads stay
            for left in (name, f"{name}.sig", "first.toml") if bundle else ():
                (self._places.incoming / left).unlink(missing_ok=True)
            with suppress(OSError):
                self._places.incoming.rmdir()

    def remove(self, data: bool) -> list[str]:
        """Everything that deployments brought, the folder by which they find their way last; what was removed."""
        places = self._places
        system = places.root == Path("/")
        gone = [*([places.etc, places.state] if data else []), places.home]
        gone = [folder for folder in gone if folder.is_dir()]
        if not gone:
            return []
        with places.alone():
            if system:
                self._do("systemctl", "disable", "--quiet", "--now", runtimes.UNIT)
                if self._do("systemctl", "is-active", "--quiet", runtimes.UNIT) == 0:
                    raise Refused(f"{runtimes.UNIT} doesn't stop; see `systemctl status {runtimes.UNIT}` there.")
                with suppress(FileNotFoundError):
                    UNIT_LINK.unlink()
                self._do("systemctl", "daemon-reload")
                shutil.rmtree("/run/edge-asd", ignore_errors=True)
                if data:
                    self._do("userdel", ACCOUNT)
            for folder in (places.runtimes, places.releases):
                if folder.is_dir():  # half of one would be taken for whole
                    folder.rename(folder.with_name(f".gone-{folder.name}"))
            for folder in dict.fromkeys([*gone, places.home]):  # the lock made that one, if it wasn't there
                shutil.rmtree(folder)
        return [str(folder) for folder in gone]

    def _committed(self) -> Path:
        """The environment of the committed release, or of one before where that doesn't work. Raises: Refused."""
        record = json.loads(text_of(self._places.home / "committed.json") or "{}")
        for release in [one for one in record.get("releases", []) if RELEASE.fullmatch(one)]:
            environment = Path(self._places.releases, release, "venv").resolve()
            command = [str(environment / "bin" / "python"), *ISOLATED, "-c", "import edge_asd.release_commands"]
            with suppress(OSError, subprocess.SubprocessError):
                if not subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS, check=False).returncode:
                    return environment
        raise Refused("nothing is deployed on this device that could do that; deploy a bundle.")

    def _relay(self, words: Sequence[str]) -> None:
        """Run a program to its end, whoever still listens: it leads a session of its own, and outlives us."""
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            assert process.stdout  # noqa: S101 - for the type checker: it was asked for
            last = ""
            while line := process.stdout.readline(LARGEST_TEXT):
                try:
                    self._say(say=json.loads(line)["say"])
                except (ValueError, KeyError, TypeError):
                    last = line.decode(errors="replace").strip() or last
        if process.returncode:
            why = last.partition("edge-asd: ")[2] or last or f"the step left with {process.returncode}"
            raise Refused(why, process.returncode if process.returncode > 0 else 8)

    def _serves(self) -> bool:
        """Whether the daemon runs and starts with the device; of a stand-in nothing does, and nothing should."""
        if self._places.root != Path("/"):
            return True
        asked = ("is-active", "is-enabled")
        return all(self._do("systemctl", word, "--quiet", runtimes.UNIT) == 0 for word in asked)

    def _do(self, *words: str) -> int:
        """Run a command that may have nothing to do; its exit code."""
        return subprocess.run(words, capture_output=True, timeout=COMMAND_SECONDS, check=False).returncode

    def _say(self, **answer: object) -> None:
        with suppress(OSError):  # nobody reads it any more
            self._answers.write(json.dumps(answer).encode() + b"\n")
            self._answers.flush()


def main(root: str) -> None:
    """Answer what comes on standard input."""
    os.umask(0o022)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Desk(root, sys.stdin.buffer, sys.stdout.buffer).serve()
