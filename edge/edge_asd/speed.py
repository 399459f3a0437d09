"""How fast this device scores: each part by itself and the whole, of clips and of a stream that it listens to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from edge_asd import golden, status
from edge_asd.bundle import Bundle
from edge_asd.front_end import Samples
from edge_asd.model import Runtime
from edge_asd.scoring import ClipScorer, Detector, StreamScorer
from edge_asd.window_stream import WindowStream

CLIP_SECONDS = 10
LEAST_ROUNDS = 3  # however little time there is


class Effort(msgspec.Struct, frozen=True, kw_only=True):
    """How long one thing takes, over and over: the least is what the device can do, the median what it does.

    Attributes:
        least_ms, median_ms: milliseconds.
        times: how often it was done.
    """

    least_ms: float
    median_ms: float
    times: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of scoring takes.

    Attributes:
        clip: for a clip of 10 s.
        hop: for the sound from one score of a stream to the next, see `Speed.hop_ms`.
        core: share of one core that listening takes, the median.
    """

    clip: Effort
    hop: Effort
    core: float


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a device scores with one thread.

    Attributes:
        runtime: the interpreter's name and version.
        machine, section, bundle: what was scored for, with the bundle of which digest.
        front_end: samples to log-mel.
        model: log-mel to what is compared: of a clip all windows at once, of a stream one.
        bank: that to a score.
        whole: samples to a score. More than its parts, for there are things between them.
        hop_ms: sound from one score of a stream to the next, 256 ms.
        windows_per_second: that the model embeds, many at once.
        resident_mb: memory of the process that measured, bundle and all, MB.
        times_real_time: how many streams' worth of sound it scores in the time that one takes, by the median.
        keeps_up: that is at least 1.
    """

    runtime: str
    machine: str
    section: str
    bundle: str
    front_end: Part
    model: Part
    bank: Part
    whole: Part
    hop_ms: float
    windows_per_second: float
    resident_mb: float
    times_real_time: float
    keeps_up: bool


def measure(bundle: Bundle, section: str = "", runtime: Runtime | None = None, seconds: float = 3.0) -> Speed:
    """Score the golden clip again and again, with one thread.

    Args:
        bundle: whose detector is measured.
        section: for which; "" is the golden clip's.
        runtime: the interpreter; whichever is installed.
        seconds: so long, half of it whole clips and half of it a stream; longer where three rounds take longer.

    Raises:
        UsageError: no such section.
        BundleError: the golden clip or the model can't be used.
        MissingRequirement: no interpreter, or not the one asked for.
    """
    section = section or bundle.manifest.golden.section
    detector = bundle.detector(threads=1, runtime=runtime)
    detector.check_section(section)
    rate = detector.front_end.sample_rate
    waveform = np.resize(golden.waveform(bundle), CLIP_SECONDS * rate)
    hop = detector.windows.hop * detector.front_end.hop
    hop_ms = 1e3 * hop / rate
    clips = _repeated(_of_a_clip(detector, section, waveform), seconds / 2)
    hops = _repeated(_of_a_stream(detector, section, waveform, hop), seconds / 2)
    parts = {
        name: Part(clip=clips[name], hop=hops[name], core=hops[name].median_ms / hop_ms)
        for name in ("front_end", "model", "bank", "whole")
    }
    times = hop_ms / hops["whole"].median_ms
    return Speed(
        runtime=detector.model.name,
        machine=bundle.manifest.machine,
        section=section,
        bundle=bundle.digest,
        **parts,
        hop_ms=hop_ms,
        windows_per_second=1e3 * detector.windows.count(_frames(detector)) / clips["model"].median_ms,
        resident_mb=status.resident_mb(),
        times_real_time=times,
        keeps_up=times >= 1,
    )


def verdict(speed: Speed) -> str:
    """Whether it keeps up with one stream, and how easily."""
    if not speed.keeps_up:
        return (
            f"can't keep up: scoring {speed.hop_ms:.0f} ms of sound takes "
            f"{speed.whole.hop.median_ms:.0f} ms with {speed.runtime}"
        )
    times = speed.times_real_time
    return f"keeps up {math.floor(times) if times >= 10 else math.floor(times * 10) / 10:,} times over"


def lines(speed: Speed) -> list[str]:
    """The figures, for people; the verdict last."""
    parts = {"front end": speed.front_end, "model": speed.model, "bank": speed.bank, "whole": speed.whole}
    return [
        f"{speed.machine} {speed.section}, bundle {speed.bundle}: {speed.runtime}, one thread, "
        f"{speed.whole.clip.times} clips, {speed.whole.hop.times} hops",
        "",
        f"{'':<12}{f'clip of {CLIP_SECONDS} s, ms':>20}{f'listening, ms in {speed.hop_ms:.0f}':>24}{'of a core':>12}",
        f"{'':<12}{'least':>10}{'median':>10}{'least':>14}{'median':>10}",
        *(
            f"{name:<12}{part.clip.least_ms:>10.3f}{part.clip.median_ms:>10.3f}"
            f"{part.hop.least_ms:>14.3f}{part.hop.median_ms:>10.3f}{part.core:>12.2%}"
            for name, part in parts.items()
        ),
        "",
        f"{speed.windows_per_second:,.0f} windows a second; {speed.resident_mb:.0f} MB of memory",
        verdict(speed),
    ]


def _of_a_clip(detector: Detector, section: str, waveform: Samples) -> dict[str, Callable[[], object]]:
    scorer = ClipScorer(detector)
    log_mel = detector.front_end.log_mel(waveform)
    heard = detector.hear(log_mel)
    return {
        "front_end": lambda: detector.front_end.log_mel(waveform),
        "model": lambda: detector.hear(log_mel),
        "bank": lambda: detector.judge(heard, section),
        "whole": lambda: scorer.score(waveform, section),
    }


def _of_a_stream(detector: Detector, section: str, waveform: Samples, hop: int) -> dict[str, Callable[[], object]]:
    """The work of one hop, once the stream has been heard for long enough to be scored."""
    scorer, stream = StreamScorer(detector, section), WindowStream(detector.front_end, detector.windows)
    before = np.resize(waveform, (len(waveform) // hop + 2) * hop)
    scorer.push(before)
    _, window = list(stream.push(before))[-1]
    heard = detector.hear(detector.front_end.log_mel(waveform))
    some = waveform[:hop]
    return {
        "front_end": lambda: list(stream.push(some)),
        "model": lambda: detector.model.embed(window[None]),
        "bank": lambda: detector.judge(heard, section),
        "whole": lambda: scorer.push(some),
    }


def _frames(detector: Detector) -> int:
    return detector.front_end.frames(CLIP_SECONDS * detector.front_end.sample_rate)


def _repeated(work: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Effort]:
    """Each in its turn, round after round, so that a busy moment of the device meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for once in work.values():
        once()  # memory is fetched and tables are made at the first time
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found["whole"]) < LEAST_ROUNDS:
        for name, once in work.items():
            begin = time.perf_counter()
            once()
            found[name].append(1e3 * (time.perf_counter() - begin))
    return {
        name: Effort(least_ms=min(taken), median_ms=float(np.median(taken)), times=len(taken))
        for name, taken in found.items()
    }
