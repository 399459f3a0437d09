"""What listening costs a Raspberry Pi: instructions counted on aarch64, not emulated milliseconds."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from edge_asd.errors import MissingRequirement
from edge_asd_trainer.bench.arm64 import Arm64, arm64
from edge_asd_trainer.bench.made_up_bundle import written
from edge_asd_trainer.bench.measurement import Effort, Row

EMULATOR = "qemu-aarch64"  # the dynamic one, for the static one loads no plugins
ENTRIES = 1000
HOPS = 16
SECONDS = 300


class Board(NamedTuple):
    """A Pi: its name, QEMU's name of its core, the clock in MHz, and how many instructions a cycle are assumed."""

    name: str
    core: str
    megahertz: int
    per_cycle: float


# Instructions a cycle are an assumption, and a cautious one: such cores issue at most 2, 3 and 4, but they wait for
# memory and after mispredicted branches. The counts themselves are not: each is of the board's own core, for the
# network takes twice as many where there are no dot products, on all Pis before the 5.
BOARDS = (
    Board("Pi Zero 2 W", "cortex-a53", 1000, 0.7),
    Board("Pi 3B+", "cortex-a53", 1400, 0.7),
    Board("Pi 4, early", "cortex-a72", 1500, 1.2),
    Board("Pi 4", "cortex-a72", 1800, 1.2),
    Board("Pi 5", "cortex-a76", 2400, 2.0),
)
PESSIMISTIC = (0.5, 0.25)  # instructions a cycle of the slowest board, in the last rows
GOAL = 10.0  # under 10 % of a core

GUEST = """
import os, sys
from pathlib import Path
import numpy as np
from edge_asd import bundle, golden
from edge_asd.scoring import StreamScorer
from edge_asd.window_stream import WindowStream

def mark(number):
    try:
        os.write(1000, bytes(number))
    except OSError:
        pass

opened = bundle.read(Path(sys.argv[1]))
hops = int(sys.argv[2])
detector, section = opened.detector(), opened.manifest.golden.section
front_end, windows = detector.front_end, detector.windows
sound = np.resize(golden.waveform(opened), 12 * front_end.sample_rate)
hop = windows.hop * front_end.hop
scorer, stream = StreamScorer(detector, section), WindowStream(front_end, windows)
scorer.push(sound)
_, window = list(stream.push(sound))[-1]
heard = detector.hear(front_end.log_mel(sound))
work = [
    lambda: None,
    lambda: list(stream.push(sound[:hop])),
    lambda: detector.model.embed(window[None]),
    lambda: detector.judge(heard, section),
    lambda: scorer.push(sound[:hop]),
]
for once in work:
    once()
for number, once in enumerate(work, 1):
    mark(100)
    for _ in range(hops):
        once()
    mark(number)
"""
PARTS = ("nothing", "front end", "model", "bank", "listening")


def continuous(effort: Effort) -> list[Row]:
    """Listening to one microphone on a Raspberry Pi: million instructions for a second of sound, a window every 256 ms.

    Counted under QEMU on each board's own core, the device's own code and wheels; LiteRT doesn't learn there whose
    core it is, and its kernels for an A53 or an A72 take 2 % more. A board's figure is what one core does in a second,
    which rests on an assumption: so many instructions a cycle. The last rows have fewer on the slowest. Under 10 % of
    a core is a ratio of 10.
    """
    with TemporaryDirectory(prefix="edge-asd-bench.") as folder:
        bundle = written(Path(folder), effort.of(ENTRIES, 20))
        pi, hops = arm64(Path(".arm64"), Path("constraints.txt")), effort.of(HOPS, 2)
        counted = {core: count(pi, bundle, hops, core) for core in dict.fromkeys(board.core for board in BOARDS)}
    slowest = BOARDS[0]
    parts = counted[slowest.core]
    rows = [
        Row(f"{part} of listening, {slowest.core}", parts[part], parts["listening"], "M", "the whole")
        for part in ("front end", "model", "bank")
    ]
    assumed = [*BOARDS, *(slowest._replace(per_cycle=per_cycle) for per_cycle in PESSIMISTIC)]
    for name, core, megahertz, per_cycle in assumed:
        peer = f"{name}, {megahertz / 1000:g} GHz, {per_cycle:g} a cycle"
        rows.append(Row(f"listening, {core}", counted[core]["listening"], megahertz * per_cycle, "M", peer, GOAL))
    return rows


def count(pi: Arm64, bundle: Path, hops: int, core: str) -> dict[str, float]:
    """By part, million instructions for a second of sound, on a core by QEMU's name of it.

    Raises:
        MissingRequirement: the emulator or a compiler isn't installed here, or can't do this.
    """
    for program in (EMULATOR, "gcc"):
        if not shutil.which(program):
            raise MissingRequirement(f"counting instructions needs {program}, which isn't installed here.")
    with TemporaryDirectory(prefix="edge-asd-count.") as folder:
        plugin = Path(folder) / "count_instructions.so"
        with resources.as_file(resources.files(__package__) / "count_instructions.c") as source:
            _run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(plugin), str(source)])
        emulator = (EMULATOR, "-plugin", str(plugin))
        said = _run(pi.command("-c", GUEST, str(bundle), str(hops), cpu=core, emulator=emulator), pi.environment())
    marks = {int(number): int(n) for number, n in re.findall(r"^mark (\d+): (\d+)$", said, re.MULTILINE)}
    if not marks.keys() >= set(range(1, len(PARTS) + 1)):
        raise MissingRequirement(f"{EMULATOR} could not count; it has to be QEMU 7.2: {' '.join(said.split())[-300:]}")
    seconds = hops * 0.256
    return {part: (marks[number] - marks[1]) / 1e6 / seconds for number, part in enumerate(PARTS, 1)}


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What a program says on standard error. Raises: MissingRequirement where it fails or doesn't end."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise MissingRequirement(f"counting instructions: {command[0]} took more than {SECONDS} s.") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[-300:]
        raise MissingRequirement(f"instructions can't be counted: {command[0]} says: {said}")
    return done.stderr
