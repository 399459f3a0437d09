"""The daemon: what a hop of sound costs it, how much memory it holds, how soon its first score is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import numpy as np
import soundfile

from edge_asd import bundle as bundles
from edge_asd import daemon
from edge_asd.capture import Block
from edge_asd.clock import SystemClock
from edge_asd.duty import Duty
from edge_asd.errors import CaptureError
from edge_asd.events import Origin
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.keeper import Keeper
from edge_asd.kept_sounds import SoundKeeper
from edge_asd.post import Post
from edge_asd.scoring import StreamScorer
from edge_asd.settings import ClipSettings, EventSettings
from edge_asd.store import FILE_NAME
from edge_asd.verdict import AlarmRule
from edge_asd.workers import one_thread
from edge_asd_trainer.bench.log_mels import waveform
from edge_asd_trainer.bench.made_up_bundle import HEARD, written
from edge_asd_trainer.bench.measurement import Effort, Row
from edge_asd_trainer.bench.pool import started_pool
from edge_asd_trainer.bench.turns import Contenders, Group, fastest_apart

SECTION, ENTRIES = "00", 1000
RATE = FrontEnd().sample_rate
HOP = 8 * FrontEnd().hop  # samples from one score to the next
HOP_LIMIT = 1e3 * HOP / RATE / 100  # ms: 1 % of the time that the sound takes
OURS, THE_LIMIT = "ours", "the limit"
RECORDING_MINUTES, HOUR, DAY = 10, 3600, 24 * 3600  # of sound
DAEMON_LIMIT, GROWTH_LIMIT, START_LIMIT = 20.0, 1.0, 1.5  # MB, MB, s
PATIENCE = 300.0  # s for a process that should take far less
PAGE = 0.004096  # MB: memory comes in pages, so that nothing at all isn't said more exactly

# What an interpreter with NumPy takes at the least: it has loaded the network, and made no room yet for what flows.
INTERPRETER = """
import sys, numpy
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
print(open("/proc/self/status").read())
"""


def hop(effort: Effort) -> list[Row]:
    """What 256 ms of sound cost a daemon that has heard 10 s, milliseconds on one thread: front end, window, bank.

    The limit is 1 % of a core.
    """
    with TemporaryDirectory(prefix="edge-asd-bench.") as folder:
        bundle = written(Path(folder), effort.of(ENTRIES, 20))
        seconds = fastest_apart([Group(partial(_hops, bundle), effort.of(400))], effort.repetitions)
    return [Row("listening, 256 ms of sound", 1e3 * seconds[OURS], HOP_LIMIT, "ms", "1 % of a core", 1.0)]


def memory(effort: Effort) -> list[Row]:
    """Resident memory of `edge-asd run` that listens to a recording, and how it grows in a day of sound, MB.

    Beside it stands a process that has imported NumPy and the interpreter and loaded the same network, but computed
    nothing. A day is heard by the daemon's own loop, as fast as it can; the growth is from the end of the first hour
    to the end of the last, a page at the least. Measured once, for memory isn't time.
    """
    with TemporaryDirectory(prefix="edge-asd-bench.") as name, one_thread():
        folder = Path(name)
        bundle = written(folder, effort.of(ENTRIES, 20))
        resident = _resident_of_daemon(bundle, effort.of(RECORDING_MINUTES * 60, 60))
        network = folder / "network.tflite"
        network.write_bytes(bundles.read(bundle).model)
        bare = _resident_of_interpreter(network)
        growth = _growth(bundle, effort.of(HOUR, 12), effort.of(DAY, 24))
    beyond = max(PAGE, resident - bare)
    return [
        Row("memory of the daemon", resident, bare, "MB", "interpreter and NumPy loaded"),
        Row("memory of the daemon beyond that", beyond, DAEMON_LIMIT, "MB", THE_LIMIT, 1.0),
        Row("its growth, first to last hour of a day", max(PAGE, growth), GROWTH_LIMIT, "MB", THE_LIMIT, 1.0),
    ]


def start(effort: Effort) -> list[Row]:
    """From the start of the process `edge-asd run` to its first score, seconds.

    A quiet room and then a hum, in a recording that takes no time itself. A microphone's first 10 s come on top.
    """
    with TemporaryDirectory(prefix="edge-asd-bench.") as name, one_thread():
        folder = Path(name)
        room = 1e-3 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)  # zeros would be a fault
        sound = np.concatenate([room, waveform(HEARD)])
        config = _config(written(folder, effort.of(ENTRIES, 20)), sound)
        seconds = min(_seconds_to_first_score(config) for _ in range(effort.repetitions))
    return [Row("start of the daemon to its first score", seconds, START_LIMIT, "s", THE_LIMIT, 1.0)]


class Repeated:
    """The same sound again and again, as an `AudioSource`, as fast as it is listened to; notes memory after a while."""

    def __init__(self, sound: Samples, notes_at: Sequence[int]) -> None:
        """Some sound in whole blocks; memory is noted after so many seconds of it each, and the last ends it."""
        hop = FrontEnd().hop
        self._blocks = [Block(sound[start : start + hop]) for start in range(0, len(sound), hop)]
        self._notes_at = [seconds * RATE // hop for seconds in notes_at]
        self.noted: list[float] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nothing to close."""

    def __iter__(self) -> Iterator[Block]:
        for number, block in enumerate(cycle(self._blocks)):
            if number in self._notes_at:
                self.noted.append(_resident("self"))
                if number == self._notes_at[-1]:
                    return
            yield block


def _hops(path: Path) -> Contenders:
    scorer = StreamScorer(bundles.read(path).detector(threads=1), SECTION)
    chunks = cycle(np.split(_whole(waveform(HEARD), HOP), len(waveform(HEARD)) // HOP))
    for _ in range(RATE * 12 // HOP):
        scorer.push(next(chunks))
    return {OURS: lambda: scorer.push(next(chunks))}


def _growth(bundle: Path, first: int, last: int) -> float:
    """MB by which the daemon's loop holds more after the last second than after the first one."""
    with (
        started_pool(1, partial(bundles.read, bundle)) as pool,
        pool.each(partial(_listened, bundle), [(first, last)], 1) as results,
    ):
        [(before, after)] = results
    return after - before


def _listened(path: Path, notes_at: Sequence[int]) -> list[float]:
    """Memory after so many seconds of sound each, MB."""
    bundle, state = bundles.read(path), path.parent / "day"
    state.mkdir()
    rule = AlarmRule(bundle.manifest.sections[SECTION].thresholds.alarm)
    origin = Origin(bundle.manifest.machine, SECTION, bundle.digest)
    post = Post(bundle.detector(threads=1), origin, rule)
    source = Repeated(_whole(waveform(HEARD), FrontEnd().hop), notes_at)
    with Keeper(state / FILE_NAME, EventSettings()) as log, SoundKeeper(state, ClipSettings(), FrontEnd()) as sounds:
        duty = Duty(post, log, state, clock=SystemClock(), sounds=sounds, paced=False)
        daemon.listen(source, duty, threading.Event())
    return source.noted


def _resident_of_daemon(bundle: Path, seconds: int) -> float:
    """The largest of the process's sizes at its scores, MB."""
    config = _config(bundle, np.resize(waveform(HEARD), seconds * RATE))
    sizes = []
    with _running(config) as lines:
        for process, _ in lines:
            with suppress(OSError, ValueError):  # it has ended, and says nothing more of itself
                sizes.append(_resident(process))
    if not sizes:
        raise CaptureError(f"{config}: edge-asd run ended before its size could be read.")
    return max(sizes)


def _resident_of_interpreter(network: Path) -> float:
    command = [sys.executable, "-c", INTERPRETER, str(network)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return _megabytes(done.stdout)


def _seconds_to_first_score(config: Path) -> float:
    began = time.perf_counter()
    with _running(config) as lines:
        for _ in lines:
            return time.perf_counter() - began
    raise CaptureError(f"{config}: edge-asd run ended without a score.")


@contextmanager
def _running(config: Path) -> Iterator[Iterator[tuple[int, dict[str, object]]]]:
    """`edge-asd run`: its process and the scores that it says, until that ends or nobody asks for more."""
    command = [sys.executable, "-m", "edge_asd", "run", "--config", str(config), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        too_late = threading.Timer(PATIENCE, process.kill)
        too_late.start()
        try:
            said = (json.loads(line) for line in process.stdout or ())
            yield ((process.pid, one) for one in said if one["kind"] == "score")
        finally:
            too_late.cancel()
            process.kill()


def _config(bundle: Path, sound: Samples) -> Path:
    """A device.toml beside the bundle, for a recording of this sound."""
    folder = bundle.parent
    soundfile.write(folder / "sound.wav", sound, RATE, subtype="PCM_16")
    text = f'bundle = "{bundle.name}"\nstate = "state"\n[capture]\nwav = "sound.wav"\npace = "fast"\n'
    config = folder / "device.toml"
    config.write_text(text)
    return config


def _whole(sound: Samples, block: int) -> Samples:
    """As much of it as fills whole blocks."""
    return sound[: len(sound) // block * block]


def _resident(process: int | str) -> float:
    return _megabytes(Path(f"/proc/{process}/status").read_text())


def _megabytes(status: str) -> float:
    """The resident size that the kernel says of a process."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    if not found:
        raise ValueError("no VmRSS: the process has ended")
    return int(found[1]) * 1024 / 1e6
