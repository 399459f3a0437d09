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

from edge_asd.arrival import removal, runtimes, uploads
from edge_asd.arrival.places import LARGEST_TEXT, Places, Refused, exit_code_of, text_of
from edge_asd.arrival.runtimes import Runtime
from edge_asd.arrival.uploads import Expected

LARGEST_REQUEST = 1 << 20
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
        if bundle:
            uploads.check_name(name)  # before anything of that name is removed
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
        """Everything that deployments brought, with the site's data or without; what was removed."""
        return removal.remove(self._places, data=data)

    def _committed(self) -> Path:
        """The environment of the committed release, or of one before where that doesn't work. Raises: Refused."""
        record = json.loads(text_of(self._places.home / "committed.json") or "{}")
        for release in [one for one in record.get("releases", []) if RELEASE.fullmatch(one)]:
            environment = Path(self._places.releases, release, "venv").resolve()
            command = [str(environment / "bin" / "python"), *ISOLATED, "-c", "import edge_asd.release_commands"]
            with suppress(OSError, subprocess.SubprocessError):
                if exit_code_of(*command) == 0:
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
        return all(exit_code_of("systemctl", word, "--quiet", runtimes.UNIT) == 0 for word in asked)

    def _say(self, **answer: object) -> None:
        with suppress(OSError):  # nobody reads it any more
            self._answers.write(json.dumps(answer).encode() + b"\n")
            self._answers.flush()


def main(root: str) -> None:
    """Answer what comes on standard input."""
    os.umask(0o022)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Desk(root, sys.stdin.buffer, sys.stdout.buffer).serve()
