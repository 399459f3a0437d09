"""Who deploys on an emulated Pi: types commands, looks at what they came to, and keeps a transcript of it all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import soundfile

from edge_asd import bundle
from edge_asd_tools.deploy.ssh import PROGRAM
from pi.emulated_pi import HOST, EmulatedPi

SECONDS = 600.0
PATIENCE = 300.0
STATUS = "/run/edge-asd/status.json"
UNIT = "/etc/systemd/system/edge-asd.service"
ONCE = "edge-asd-once"  # a unit that is edge-asd's in all but what it starts


@dataclass
class Transcript:
    """What was typed, what was said, and how long it took as a multiple of the Pi's own start.

    Attributes:
        path: of the file, which outlasts the test.
        start: seconds that the Pi took to start; with an emulated one, only ratios mean something.
    """

    path: Path
    start: float
    laps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path.write_text("")

    def say(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{text.rstrip()}\n")

    @contextmanager
    def lap(self, what: str) -> Iterator[None]:
        self.say(f"\n# {what}")
        began = time.monotonic()
        yield
        self.laps.append(f"{(time.monotonic() - began) / self.start:6.2f} starts  {what}")

    def end(self) -> None:
        self.say("\n# how long each took, in starts of the Pi\n" + "\n".join(self.laps))
        sys.stdout.write("\n" + "\n".join([*self.laps, f"transcript: {self.path}"]) + "\n")


@dataclass(frozen=True)
class Workstation:
    """The user's seat."""

    pi: EmulatedPi
    transcript: Transcript

    def edge_asd(self, *words: object, plug_at: str = "") -> subprocess.CompletedProcess[str]:
        """A command as it is typed; both its streams are `stdout`.

        Args:
            words: behind `edge-asd`.
            plug_at: the Pi's plug is pulled as soon as a line begins so, and put in again.
        """
        self.transcript.say(f"$ edge-asd {' '.join(Path(str(word)).name for word in words)}")
        environment = {**os.environ, PROGRAM: f"ssh -F {self.pi.ssh_config}"}
        command = [sys.executable, "-m", "edge_asd", *map(str, words)]
        heard = []
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout
            for line in process.stdout:
                heard.append(line)
                self.transcript.say(line)
                if plug_at and line.startswith(plug_at):
                    self.transcript.say("(the plug is pulled, and put in again)")
                    self.pi.power_cut()
            code = process.wait(SECONDS)
        self.transcript.say(f"({code})" if code else "")
        return subprocess.CompletedProcess(command, code, "".join(heard))

    def does(self, *words: object) -> str:
        """What a command says that must succeed."""
        done = self.edge_asd(*words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def root(self, *words: str, given: str | None = None) -> str:
        """What a program says there, as root."""
        done = self.pi.run("sudo", "-n", *words, given=given, seconds=SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def shown(self, *properties: str, unit: str = "edge-asd") -> Mapping[str, str]:
        """What systemd says of a unit."""
        said = self.root("systemctl", "show", f"--property={','.join(properties)}", unit)
        return dict(line.partition("=")[::2] for line in said.splitlines())

    def scoring(self, digest: str) -> int:
        """The process that has scored with this bundle; 0 where none has."""
        done = self.pi.run("sudo", "-n", "cat", STATUS)
        said = json.loads(done.stdout) if done.returncode == 0 else {}
        number = int(self.shown("MainPID")["MainPID"])
        return number if (said.get("bundle"), said.get("pid")) == (digest, number) and said["scores"] else 0

    def soon_scoring(self, *digests: str, other_than: int = 0) -> str:
        """Which of these bundles scores, as soon as one does, in another process than that one."""
        patience = time.monotonic() + PATIENCE
        while True:
            for digest in digests:
                if self.scoring(digest) not in (0, other_than):
                    return digest
            assert time.monotonic() < patience, self.edge_asd("logs", HOST).stdout
            time.sleep(1)

    def files(self) -> set[str]:
        """All that a deployment writes, and when it was written."""
        listed = self.root("find", "/opt/edge-asd", "/etc", "!", "-type", "d", "-printf", r"%p %T@ %l\n")
        return set(listed.splitlines())

    def under_the_unit(self, program: str) -> str:
        """What a shell program says that runs once as edge-asd does: the unit as shipped, but for what it starts."""
        unit = self.root("cat", UNIT)
        unit = re.sub(r"(?m)^(ExecStartPre|ExecReload|NotifyAccess|WatchdogSec)=.*\n", "", unit)
        said = f"/run/{ONCE}.said"
        for name, value in (
            ("Type", "oneshot"),
            ("Restart", "no"),
            ("ExecStart", f"/bin/sh /run/{ONCE}.sh\nStandardOutput=truncate:{said}\nStandardError=inherit"),
        ):
            unit, changed = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", unit)
            assert changed == 1, name
        self.root("tee", f"/run/{ONCE}.sh", given=program)
        self.root("tee", f"/run/systemd/system/{ONCE}.service", given=unit)
        self.root("systemctl", "daemon-reload")
        done = self.pi.run("sudo", "-n", "systemctl", "start", ONCE, seconds=SECONDS)
        found = self.root("cat", said)
        self.transcript.say(f"(under the unit) {program.strip()}\n{found}")
        assert done.returncode == 0, found + done.stderr
        return found


def four_bundles(whole: Path, folder: Path) -> list[Path]:
    """Three that differ in their cards, and one whose golden clip is said to have scored something else."""
    content = bundle.read(whole)
    golden = msgspec.structs.replace(content.manifest.golden, score=0.5)
    cards = [replace(content, model_card=f"# {number}\n") for number in range(3)]
    wrong = replace(content, manifest=msgspec.structs.replace(content.manifest, golden=golden))
    paths = [folder / f"fan-{name}.easd" for name in (0, 1, 2, "wrong")]
    for path, made in zip(paths, [*cards, wrong], strict=True):
        bundle.write(path, made)
    return paths


@contextmanager
def seated(pi: EmulatedPi, plant: Path, transcript: Path) -> Iterator[Workstation]:
    """The seat before a Pi that has just been set up, and hears a fan that runs well."""
    seat = Workstation(pi, Transcript(transcript, pi.start_seconds))
    try:
        pi.play(_sound_of_a_fan(plant, pi.folder))
        yield seat
    finally:
        seat.transcript.end()


def _sound_of_a_fan(plant: Path, folder: Path) -> Path:
    """As a Pi hears it: raw samples."""
    samples, rate = soundfile.read(sorted((plant / "fan" / "train").glob("section_00_*.wav"))[0], dtype="int16")
    assert rate == 16000
    np.ascontiguousarray(samples).astype("<i2").tofile(folder / "fan.raw")
    return folder / "fan.raw"


def digest(path: Path) -> str:
    """By which a bundle is known."""
    return bundle.digest(path.read_bytes())
