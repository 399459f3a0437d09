"""What listening costs a Raspberry Pi: instructions counted on aarch64, not emulated milliseconds."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_asd.errors import MissingRequirement
from edge_asd_trainer.bench.arm64 import Arm64, arm64
from edge_asd_trainer.bench.made_up_bundle import written
from edge_asd_trainer.bench.measurement import Effort, Row

EMULATOR = "qemu-aarch64"  # the dynamic one, for the static one loads no plugins
ENTRIES = 1000
HOPS = 16
SECONDS = 900

# Clock in MHz, and instructions a cycle: an assumption, half of what such a core issues at most (2, 3 and 4), for it
# waits for memory and after mispredicted branches.
BOARDS = {
    "Pi Zero 2 W (A53, 1.0 GHz)": (1000, 1.0),
    "Pi 3B+ (A53, 1.4 GHz)": (1400, 1.0),
    "Pi 4 (A72, 1.5 GHz)": (1500, 1.5),
    "Pi 5 (A76, 2.4 GHz)": (2400, 2.0),
}
PESSIMISTIC = 0.25  # instructions a cycle of the slowest board, in the last row

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

    Counted on aarch64 under QEMU, the device's own code and wheels. A board's figure is what one core does in a second,
    which rests on an assumption: so many instructions a cycle. The last row has it a quarter of one on the slowest.
    Under 10 % of a core is a ratio of 10.
    """
    with TemporaryDirectory(prefix="edge-asd-bench.") as folder:
        bundle = written(Path(folder), effort.of(ENTRIES, 20))
        counted = count(arm64(Path(".arm64"), Path("constraints.txt")), bundle, effort.of(HOPS, 2))
    whole = counted["listening"]
    rows = [
        Row(f"{part} of listening", counted[part], whole, "M", "the whole") for part in ("front end", "model", "bank")
    ]
    for board, (megahertz, per_cycle) in BOARDS.items():
        rows.append(Row("listening", whole, megahertz * per_cycle, "M", f"{board}, {per_cycle:g} a cycle", 10.0))
    slowest, (megahertz, _) = next(iter(BOARDS.items()))
    rows.append(Row("listening", whole, megahertz * PESSIMISTIC, "M", f"{slowest}, {PESSIMISTIC:g} a cycle", 10.0))
    return rows


def count(pi: Arm64, bundle: Path, hops: int) -> dict[str, float]:
    """By part, million instructions for a second of sound.

    Raises:
        MissingRequirement: the emulator or a compiler isn't installed here.
    """
    for program in (EMULATOR, "gcc"):
        if not shutil.which(program):
            raise MissingRequirement(f"counting instructions needs {program}, which isn't installed here.")
    with TemporaryDirectory(prefix="edge-asd-count.") as folder:
        plugin = Path(folder) / "count_instructions.so"
        with resources.as_file(resources.files(__package__) / "count_instructions.c") as source:
            build = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(plugin), str(source)]
            subprocess.run(build, check=True, timeout=60)
        done = subprocess.run(
            pi.command("-c", GUEST, str(bundle), str(hops), emulator=(EMULATOR, "-plugin", str(plugin))),
            env=pi.environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    marks = {int(number): int(n) for number, n in re.findall(r"^mark (\d+): (\d+)$", done.stderr, re.MULTILINE)}
    if done.returncode or not marks.keys() >= set(range(1, len(PARTS) + 1)):
        raise MissingRequirement(f"{EMULATOR} could not count: {' '.join(done.stderr.split())[-300:]}")
    seconds = hops * 0.256
    return {part: (marks[number] - marks[1]) / 1e6 / seconds for number, part in enumerate(PARTS, 1)}
