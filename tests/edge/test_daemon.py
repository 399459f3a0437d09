"""The daemon's wiring: a strange sound becomes one event, a gap becomes none, and it leaves when asked to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edge_asd import status
from edge_asd.bank import Bank
from edge_asd.capture import Block
from edge_asd.comparison import Comparison
from edge_asd.config import load
from edge_asd.daemon import Duty, Post, Summary, listen, run
from edge_asd.errors import CaptureError, ConfigError, StorageError
from edge_asd.events import Event, Origin
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.scoring import Detector, Score, embed
from edge_asd.store import EventStore
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
    """Time passes as samples do."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def utc_now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1000.0 + self.seconds


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
                yield block
            else:
                block()


def noise(seconds: float, level: float = 0.01) -> Samples:
    samples: Samples = (level * np.random.default_rng(1).standard_normal(round(seconds * RATE))).astype(np.float32)
    return samples


def tone(seconds: float) -> Samples:
    """Loud, with harmonics all over the spectrum."""
    time_axis = np.arange(round(seconds * RATE)) / RATE
    samples: Samples = sum(0.05 * np.sin(2 * np.pi * 200 * k * time_axis) for k in range(1, 40)).astype(np.float32)  # type: ignore[union-attr]
    return samples + noise(seconds, 0.1)


def blocks(samples: Samples) -> Iterator[Block]:
    for start in range(0, len(samples), 500):
        yield Block(samples[start : start + 500])


def post() -> Post:
    front_end, windows, model = FrontEnd(), Windows(), Loudness()
    normal = embed(windows, model, front_end.log_mel(noise(10)))
    detector = Detector(
        front_end, windows, model, {"00": Comparison({"embedding": Bank.of(normal[None], ["quiet.wav"])})}
    )
    return Post(detector, Origin("fan", "00", "0123456789abcdef"), AlarmRule(threshold=3.0))


class Run:
    """One run of `listen`, and all that came out."""

    def __init__(self, folder: Path, heard: Iterable[Block | Exception | Callable[[], None]]) -> None:
        self.scores: list[Score] = []
        self.changes: list[tuple[str, Event]] = []
        self.stop = threading.Event()
        self.clock = StreamClock()
        self.source = Recording(heard, self.clock)
        self._folder = folder

    def go(self) -> Summary:
        with EventStore(self._folder / "events.sqlite") as store:
            duty = Duty(
                post(),
                store,
                self._folder,
                clock=self.clock,
                on_score=self.scores.append,
                on_change=lambda kind, event: self.changes.append((kind, event)),
            )
            return listen(self.source, duty, self.stop)

    @property
    def stored(self) -> list[Event]:
        with EventStore(self._folder / "events.sqlite", read_only=True) as store:
            return store.newest(100)


def read_status(folder: Path) -> status.Status:
    found = status.read(folder)
    assert found
    return found


def test_a_normal_sound_raises_nothing(tmp_path: Path) -> None:
    heard = Run(tmp_path, blocks(noise(30)))
    summary = heard.go()
    assert heard.changes == heard.stored == []
    assert heard.scores[0].seconds == pytest.approx(FIRST_SCORE, abs=0.1)
    assert len(heard.scores) == pytest.approx((30 - FIRST_SCORE) / 0.256, abs=1.5)
    assert summary == Summary(30.0, len(heard.scores), 0, 0, stopped=False)
    assert heard.source.closed


def test_a_strange_sound_is_one_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = np.concatenate([noise(20), tone(15), noise(30)])
    heard = Run(tmp_path, blocks(sound))
    assert heard.go().alerts == 1
    [(first, raised), (second, cleared)] = heard.changes
    assert (first, second) == ("raised", "cleared")
    # A score is the mean of 10 s; here strange windows are 20 dB and more off, so 3 dB take a few windows.
    assert 20.0 < raised.began_s < 23.0
    assert 1.0 <= raised.raised_s - raised.began_s < 1.3
    assert raised.ended_s is None
    assert heard.stored == [cleared]
    assert cleared.id == raised.id
    assert cleared.ended_s is not None
    assert 43.0 < cleared.ended_s < 47.5
    assert cleared.peak == max(score.value for score in heard.scores)
    assert cleared.raised_utc == raised.raised_utc
    raised_at = datetime.fromisoformat(raised.raised_utc)
    assert raised_at - BEGAN == pytest.approx(timedelta(seconds=raised.raised_s), abs=timedelta(seconds=0.1))
    began_at = datetime.fromisoformat(raised.began_utc)
    assert (raised_at - began_at).total_seconds() == pytest.approx(raised.raised_s - raised.began_s, abs=0.002)
    assert raised.began_utc.endswith("Z")
    [alert, clear] = capsys.readouterr().err.splitlines()
    for words in (f"{raised.began_s:.1f} s", raised.began_utc, "over 3", "nearest normal clip quiet.wav"):
        assert words in alert
    assert f"cleared at {cleared.ended_s:.1f} s" in clear


def test_lost_samples_never_score(tmp_path: Path) -> None:
    lost = 3 * RATE + 7
    sound = [*blocks(noise(20)), Block(noise(0.1), lost=lost), *blocks(noise(20))]
    heard = Run(tmp_path, sound)
    summary = heard.go()
    gap_ends = 20 + lost / RATE
    seconds = [score.seconds for score in heard.scores]
    assert [moment for moment in seconds if 20 < moment < gap_ends + FIRST_SCORE - 0.1] == []
    assert [moment for moment in seconds if moment > gap_ends]
    assert max(score.value for score in heard.scores) < 1.0
    assert summary.lost_samples == lost
    assert summary.heard_seconds == pytest.approx(40.1 + lost / RATE)
    assert read_status(tmp_path).lost_samples == lost


def test_a_gap_ends_an_alert(tmp_path: Path) -> None:
    sound = [*blocks(noise(12)), *blocks(tone(10)), Block(noise(0.1), lost=RATE), *blocks(noise(5))]
    heard = Run(tmp_path, sound)
    heard.go()
    assert [kind for kind, _ in heard.changes] == ["raised", "cleared"]
    assert heard.stored[0].ended_s == 22.0


def test_an_alert_that_lasts_is_stored_as_it_stands(tmp_path: Path) -> None:
    heard = Run(tmp_path, ())
    heard.source = Recording([*blocks(noise(12)), *blocks(tone(5)), heard.stop.set, *blocks(tone(9))], heard.clock)
    summary = heard.go()
    assert summary.stopped
    assert summary.heard_seconds == pytest.approx(17.0, abs=0.05)
    [event] = heard.stored
    assert event.ended_s is None
    assert event.peak == heard.scores[-1].value > heard.changes[0][1].peak
    assert [kind for kind, _ in heard.changes] == ["raised"]
    assert read_status(tmp_path).alert


def test_what_was_heard_is_kept_when_the_source_gives_up(tmp_path: Path) -> None:
    heard = Run(tmp_path, [*blocks(noise(12)), *blocks(tone(5)), CaptureError("unplugged")])
    with pytest.raises(CaptureError, match="unplugged"):
        heard.go()
    assert heard.source.closed
    assert heard.stored[0].peak == heard.scores[-1].value
    assert read_status(tmp_path).heard_seconds == 17.0


def test_status_says_it_all_and_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[status.Status] = []
    write = status.write

    def count(folder: Path, found: status.Status) -> None:
        written.append(found)
        write(folder, found)

    monkeypatch.setattr(status, "write", count)
    heard = Run(tmp_path, blocks(np.concatenate([noise(12), tone(4)])))
    heard.go()
    assert 15 <= len(written) <= 18
    assert [entry.scores for entry in written if entry.heard_seconds < 10] == [0] * 10
    last = read_status(tmp_path)
    assert last == written[-1]
    assert (last.pid, last.machine, last.section, last.bundle) == (os.getpid(), "fan", "00", "0123456789abcdef")
    assert (last.since, last.updated) == ("2026-03-01T12:00:00.000Z", "2026-03-01T12:00:16.000Z")
    assert (last.heard_seconds, last.scores, last.last_score) == (16.0, len(heard.scores), heard.scores[-1].value)
    assert (last.threshold, last.alert, last.lost_samples) == (3.0, True, 0)
    assert 10 < last.resident_mb < 10_000
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".new"] == []


def full_disk(*arguments: object) -> None:
    raise StorageError("the disk is full")


def test_an_alert_is_told_though_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(EventStore, "put", full_disk)
    heard = Run(tmp_path, blocks(np.concatenate([noise(12), tone(5)])))
    with pytest.raises(StorageError, match="the disk is full"):
        heard.go()
    assert [kind for kind, _ in heard.changes] == ["raised"]
    assert "ALERT" in capsys.readouterr().err


def test_a_status_that_cannot_be_written_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "write", full_disk)
    assert Run(tmp_path, blocks(noise(12))).go().heard_seconds == 12.0
    assert capsys.readouterr().err == "edge-asd: listening without a status: the disk is full\n"


def test_the_source_that_gave_up_is_what_is_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = Run(tmp_path, ())
    fill = lambda: monkeypatch.setattr(EventStore, "put", full_disk)  # noqa: E731
    heard.source = Recording([*blocks(noise(12)), *blocks(tone(5)), fill, CaptureError("unplugged")], heard.clock)
    with pytest.raises(CaptureError, match="unplugged"):
        heard.go()
    assert capsys.readouterr().err.endswith("edge-asd: the disk is full\n")


def device_toml(folder: Path, bundle: Path, capture: str, top: str = 'section = "00"') -> Path:
    path = folder / "device.toml"
    path.write_text(f'bundle = "{bundle}"\nstate = "state"\n{top}\n[capture]\n{capture}\n[alarm]\nthreshold = 1e6\n')
    return path


def test_run_from_a_configuration(tmp_path: Path, tiny_bundle: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(12), RATE)
    scores: list[Score] = []
    config = load(device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"\npace = "fast"'))
    summary = run(config, on_score=scores.append)
    assert summary == Summary(12.0, len(scores), 0, 0, stopped=False)
    assert len(scores) == 8
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_one_daemon_a_state_folder(tmp_path: Path, tiny_bundle: Path) -> None:
    config = load(device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"'))
    with status.alone(config.state), pytest.raises(StorageError, match=f"process {os.getpid()} listens with this"):
        run(config)


@pytest.mark.parametrize("top", ['section = "77"', ""])
def test_a_section_that_is_not_there_or_not_said(tmp_path: Path, tiny_bundle: Path, top: str) -> None:
    config = load(device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"', top))
    with pytest.raises(ConfigError, match="00, 01"):
        run(config)


def started(config: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_asd", "run", "--config", str(config), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(tmp_path: Path, tiny_bundle: Path, number: signal.Signals) -> None:
    soundfile.write(tmp_path / "a.wav", noise(120), RATE)
    child = started(device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"'), "--json")
    with child:
        try:
            wait_for(lambda: (found := status.read(tmp_path / "state")) and found.heard_seconds > 0)
            assert status.alive(tmp_path / "state")
            child.send_signal(number)
            _, said = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == 0, said
    assert said.splitlines()[-1].startswith("stopped: ")
    last = read_status(tmp_path / "state")
    assert last.pid == child.pid
    assert not status.alive(tmp_path / "state")


def test_a_signal_ends_it_though_the_microphone_says_nothing(tmp_path: Path, tiny_bundle: Path) -> None:
    program = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    capture = f"command = {json.dumps([sys.executable, '-c', program])}"
    child = started(device_toml(tmp_path, tiny_bundle, capture))
    with child:
        try:
            wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().endswith("\n"))
            child.terminate()
            _, said = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == 0, said
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_command_that_ends_is_exit_code_9(tmp_path: Path, tiny_bundle: Path) -> None:
    program = "import sys; sys.exit('card 1 has gone')"
    capture = f"command = {json.dumps([sys.executable, '-c', program])}"
    child = started(device_toml(tmp_path, tiny_bundle, capture))
    _, said = child.communicate(timeout=60)
    assert child.returncode == 9
    assert said.splitlines()[-1].endswith("card 1 has gone")
