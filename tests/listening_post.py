"""A listening post without a network: a model that hears loudness, sounds, a clock that the sound drives, a log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge_asd.bank import Bank
from edge_asd.capture import Block
from edge_asd.comparison import Comparison
from edge_asd.deviation import Spectrum
from edge_asd.events import Event, Origin, Transition
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.post import Post
from edge_asd.scoring import Detector, embed
from edge_asd.verdict import AlarmRule
from edge_asd.windows import Windows

RATE = 16000
FIRST_SCORE = (31 * 8 + 64 + 2) * 512 / RATE  # 32 windows, and the frame behind them
BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Loudness:
    """A model whose embedding is the mean level, in dB: a score is so many dB from normal."""

    name = "loudness"

    def prepare(self, log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
        return log_mel

    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return windows.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)[:, None]


class StreamClock:
    """Time passes as samples do; the wall clock may jump meanwhile, and be set or not."""

    boot_id = "the first boot"

    def __init__(self) -> None:
        self.seconds = 0.0
        self.jumped = timedelta()
        self.is_synchronised = True

    def utc_now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.seconds) + self.jumped

    def monotonic(self) -> float:
        return 1000.0 + self.seconds

    def synchronised(self) -> bool:
        return self.is_synchronised


class Recording:
    """A source of given blocks; an error among them is raised, a function is called."""

    def __init__(self, blocks: Iterable[Block | Exception | Callable[[], None]], clock: StreamClock) -> None:
        self._blocks = blocks
        self._clock = clock
        self.closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True

    def __iter__(self) -> Iterator[Block]:
        for block in self._blocks:
            if isinstance(block, Exception):
                raise block
            if isinstance(block, Block):
                self._clock.seconds += (len(block.samples) + block.lost) / RATE
                if block.absent:
                    self._clock.seconds += 0.5
                yield block
            else:
                block()


class Log:
    """Where events go, in memory."""

    trouble = ""
    unwritten = 0

    def __init__(self) -> None:
        self.told: list[tuple[Transition, Event]] = []

    def put(self, transition: Transition, event: Event) -> None:
        self.told.append((transition, event))

    @property
    def kept(self) -> list[Event]:
        """What each event has become, the first one first."""
        return list({event.id: event for _, event in self.told}.values())


def noise(seconds: float, level: float = 0.01, seed: int = 1) -> Samples:
    samples: Samples = (level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)
    return samples


def tone(seconds: float) -> Samples:
    """Loud, with harmonics all over the spectrum."""
    time_axis = np.arange(round(seconds * RATE)) / RATE
    samples: Samples = sum(0.05 * np.sin(2 * np.pi * 200 * k * time_axis) for k in range(1, 40)).astype(np.float32)  # type: ignore[union-attr]
    return samples + noise(seconds, 0.1)


def blocks(samples: Samples) -> Iterator[Block]:
    for start in range(0, len(samples), 500):
        yield Block(samples[start : start + 500])


def absent(seconds: float) -> Iterator[Block]:
    """A microphone that isn't plugged in, looked for twice a second."""
    for _ in range(round(seconds * 2)):
        yield Block(np.empty(0, np.float32), absent="there is no such card")


def detector() -> Detector:
    front_end, windows, model = FrontEnd(), Windows(), Loudness()
    normal = embed(windows, model, front_end.log_mel(noise(10)))
    return Detector(front_end, windows, model, {"00": Comparison({"embedding": Bank.of(normal[None], ["quiet.wav"])})})


def post(**changes: object) -> Post:
    known = detector()
    spectrum = Spectrum.of([known.front_end.log_mel(noise(10, seed=seed)) for seed in range(3)])
    given: dict[str, object] = {
        "detector": known,
        "origin": Origin("fan", "00", "0123456789abcdef", "shop-floor-7"),
        "rule": AlarmRule(threshold=3.0),
        "threshold_from": "the bundle's alarm",
        "spectrum": spectrum,
    }
    return Post(**{**given, **changes})  # type: ignore[arg-type]


def device_toml(folder: Path, bundle: Path, capture: str, more: str = "[alarm]\nthreshold = 1e6\n") -> Path:
    """A configuration of section 00 in a folder, its state beside it."""
    path = folder / "device.toml"
    path.write_text(f'bundle = "{bundle}"\nstate = "state"\nsection = "00"\n[capture]\n{capture}\n{more}')
    return path
