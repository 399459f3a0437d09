"""The daemon's wiring: a strange sound becomes one event, a gap becomes none, and it leaves when asked to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

import common
from edge_asd import bundle as bundles
from edge_asd import status
from edge_asd.capture import Block
from edge_asd.config import load
from edge_asd.daemon import listen, run
from edge_asd.duty import Duty, Ears, Summary
from edge_asd.errors import CaptureError, ConfigError, StorageError
from edge_asd.events import Event
from edge_asd.notify import Supervisor
from edge_asd.scoring import Score, StreamScorer
from listening_post import (
    BEGAN,
    FIRST_SCORE,
    RATE,
    Log,
    Recording,
    StreamClock,
    absent,
    blocks,
    device_toml,
    noise,
    post,
    tone,
)

until = partial(common.until, seconds=60)


class Run:
    """One run of `listen`, and all that came out."""

    def __init__(self, folder: Path, heard: Iterable[Block | Exception | Callable[[], None]]) -> None:
        self.scores: list[Score] = []
        self.changes: list[tuple[str, Event]] = []
        self.stop = threading.Event()
        self.clock = StreamClock()
        self.source = Recording(heard, self.clock)
        self.log = Log()
        self._folder = folder

    def go(self) -> Summary:
        ears = Ears(self.scores.append, lambda kind, event: self.changes.append((kind, event)))
        duty = Duty(post(), self.log, self._folder, clock=self.clock, ears=ears)
        return listen(self.source, duty, self.stop)


def read_status(folder: Path) -> status.Status:
    found = status.read(folder)
    assert found
    return found


def test_a_normal_sound_raises_nothing(tmp_path: Path) -> None:
    heard = Run(tmp_path, blocks(noise(30)))
    summary = heard.go()
    assert heard.changes == heard.log.told == []
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
    assert heard.log.told == [(first, raised), (second, cleared)]
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
    assert heard.log.kept[0].ended_s == 22.0


def test_an_alert_that_lasts_is_stored_as_it_stands(tmp_path: Path) -> None:
    heard = Run(tmp_path, ())
    heard.source = Recording([*blocks(noise(12)), *blocks(tone(5)), heard.stop.set, *blocks(tone(9))], heard.clock)
    summary = heard.go()
    assert summary.stopped
    assert summary.heard_seconds == pytest.approx(17.0, abs=0.05)
    [event] = heard.log.kept
    assert event.ended_s is None
    assert event.peak == heard.scores[-1].value > (heard.changes[0][1].peak or 0.0)
    assert [transition for transition, _ in heard.log.told] == ["raised", "unfinished"]
    assert [kind for kind, _ in heard.changes] == ["raised"]
    assert read_status(tmp_path).alert


def test_what_was_heard_is_kept_when_the_source_gives_up(tmp_path: Path) -> None:
    heard = Run(tmp_path, [*blocks(noise(12)), *blocks(tone(5)), CaptureError("unplugged")])
    with pytest.raises(CaptureError, match="unplugged"):
        heard.go()
    assert heard.source.closed
    assert heard.log.kept[0].peak == heard.scores[-1].value
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


def test_a_status_that_cannot_be_written_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "write", full_disk)
    assert Run(tmp_path, blocks(noise(12))).go().heard_seconds == 12.0
    assert capsys.readouterr().err == "edge-asd: listening without a status: the disk is full\n"


def test_the_clock_jumps_and_durations_are_right(tmp_path: Path) -> None:
    heard = Run(tmp_path, ())
    clock = heard.clock

    def jump(hours: float) -> Callable[[], None]:
        def leap() -> None:
            clock.jumped += timedelta(hours=hours)
            clock.is_synchronised = hours > 0

        return leap

    clock.is_synchronised = False
    episode = [*blocks(tone(8)), *blocks(noise(25))]
    heard.source = Recording(
        [*blocks(noise(12)), *episode[:20], jump(1), *episode[20:], jump(-1), *episode[:20], *episode[20:]], clock
    )
    heard.go()
    first, second = heard.log.kept
    for event in (first, second):
        began, raised, ended = (
            datetime.fromisoformat(moment or "") for moment in (event.began_utc, event.raised_utc, event.ended_utc)
        )
        assert event.ended_s is not None
        assert (ended - began).total_seconds() == pytest.approx(event.ended_s - event.began_s, abs=0.002)
        assert (raised - began).total_seconds() == pytest.approx(event.raised_s - event.began_s, abs=0.002)
        assert event.boot_id == "the first boot"
    assert first.raised_utc > second.raised_utc  # by the wall clock, which went back an hour between them
    assert first.raised_monotonic < second.raised_monotonic
    assert second.raised_monotonic - first.raised_monotonic == pytest.approx(second.raised_s - first.raised_s, abs=0.1)
    assert (first.synchronised, second.synchronised) == (True, False)


def test_a_microphone_that_is_gone_is_an_event_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard = Run(tmp_path, [*blocks(noise(12)), *absent(30), *blocks(noise(20)), *absent(15)])
    heard.go()
    assert [(transition, event.fault) for transition, event in heard.log.told] == [
        ("raised", "absent"),
        ("cleared", "absent"),
        ("raised", "absent"),
        ("unfinished", "absent"),
    ]
    first = heard.log.kept[0]
    assert (first.kind, first.peak, first.ended_s is None) == ("sensor", None, False)
    said = capsys.readouterr().err
    assert "ALERT fan 00: microphone absent since 12.0 s" in said
    assert "there is no such card" in said
    last = read_status(tmp_path)
    assert (last.faults, last.gated, last.alert) == (("absent",), True, False)


def test_an_alert_says_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard = Run(tmp_path, [*blocks(noise(12)), *blocks(tone(10)), *blocks(noise(20))])
    heard.go()
    [event] = heard.log.kept
    assert event.bands
    assert event.bands[0].deviation_db > 10
    assert f"{event.bands[0].deviation_db:+.0f} dB" in capsys.readouterr().err
    assert (event.device, event.threshold) == ("shop-floor-7", 3.0)


def test_the_watchdog_is_fed_by_scored_windows_and_by_attempts_to_reach_the_microphone(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(tmp_path / "notify"))
        line.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000000"}
        heard = Run(tmp_path, ())

        def told() -> list[str]:
            found = []
            with suppress(BlockingIOError):
                while True:
                    found.append(line.recv(1000).decode())
            return [message for message in found if message == "WATCHDOG=1"]

        duty = Duty(post(), Log(), tmp_path, clock=heard.clock, supervisor=Supervisor(environment))
        for piece, least, most in (
            (blocks(noise(60)), 10, 12),
            (absent(60), 10, 12),
        ):
            fed = 0
            for block in piece:
                heard.clock.seconds += len(block.samples) / RATE or 0.5
                duty.take(block)
                fed += len(told())  # the queue of such a socket is short
            assert least <= fed <= most
        heard.clock.seconds += 60  # a process that hangs
        assert told() == []


def test_run_from_a_configuration(tmp_path: Path, tiny_bundle: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(12), RATE)
    scores: list[Score] = []
    config = load(device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"\npace = "fast"'))
    summary = run(config, ears=Ears(scores.append))
    assert summary == Summary(12.0, len(scores), 0, 0, stopped=False)
    assert len(scores) == 8
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_one_daemon_a_state_folder(tmp_path: Path, tiny_bundle: Path) -> None:
    config = load(device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"'))
    with status.alone(config.state), pytest.raises(StorageError, match=f"process {os.getpid()} listens with this"):
        run(config)


@pytest.mark.parametrize("section", ["77", ""])
def test_a_section_that_is_not_there_or_not_said(tmp_path: Path, tiny_bundle: Path, section: str) -> None:
    path = device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"')
    path.write_text(path.read_text().replace('section = "00"', f'section = "{section}"'))
    with pytest.raises(ConfigError, match="00, 01"):
        run(load(path))


def started(config: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_asd", "run", "--config", str(config), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, tiny_bundle: Path, number: signal.Signals) -> None:
    soundfile.write(tmp_path / "a.wav", noise(120), RATE)
    child = started(device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"'), "--json")
    with child:
        try:
            until(lambda: (found := status.read(tmp_path / "state")) and found.heard_seconds > 0)
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
            until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().endswith("\n"))
            child.terminate()
            _, said = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == 0, said
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_recorder_that_ends_is_started_again(tmp_path: Path, tiny_bundle: Path) -> None:
    """As when a microphone is plugged out, and in again a little later."""
    program = (
        f"import sys, time; from pathlib import Path; count = Path({str(tmp_path / 'count')!r})\n"
        "before = int(count.read_text()) if count.exists() else 0; count.write_text(str(before + 1))\n"
        "if before == 1: sys.exit('card Device has gone')\n"
        "sys.stdout.buffer.write(bytes(range(256)) * 125); sys.stdout.flush()\n"
        "time.sleep(600 if before else 0)"
    )
    capture = f"command = {json.dumps([sys.executable, '-c', program])}"
    child = started(device_toml(tmp_path, tiny_bundle, capture))
    with child:
        try:
            until(lambda: (found := status.read(tmp_path / "state")) and found.heard_seconds > 2.0)
            child.terminate()
            _, said = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == 0, said
    assert read_status(tmp_path / "state").lost_samples > 0
    assert said.count("hears nothing") == 1
    assert said.count("hears again") == 1


def test_hangup_puts_thresholds_and_sinks_in_force_and_loses_no_sample(tmp_path: Path, tiny_bundle: Path) -> None:
    samples = noise(60, 0.1)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    path = device_toml(tmp_path, tiny_bundle, 'wav = "a.wav"')
    sink = f'[sinks.json_lines]\npath = "{tmp_path / "told.jsonl"}"\n'
    child = started(path, "--json")
    state = tmp_path / "state"
    with child:
        try:
            until(lambda: (found := status.read(state)) and found.heard_seconds > 1)
            path.write_text(path.read_text().replace("1e6", "not a number"))
            child.send_signal(signal.SIGHUP)
            time.sleep(1.5)
            assert read_status(state).threshold == 1e6
            path.write_text(path.read_text().replace("not a number", "1e-9").replace("a.wav", "b.wav") + sink)
            child.send_signal(signal.SIGHUP)
            until(lambda: read_status(state).threshold == 1e-9)
            until(lambda: (tmp_path / "told.jsonl").exists() and (tmp_path / "told.jsonl").read_text())
            child.terminate()
            out, said = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == 0, said
    assert "the settings stay as they are: " in said
    assert "is not TOML: Invalid value (at line 7" in said
    assert "capture: changed, and in force after the next start" in said
    [message] = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()[:1]]
    assert (message["transition"], message["event"]["threshold"]) == ("raised", 1e-9)
    scores = [line for line in map(json.loads, out.splitlines()) if line["kind"] == "score"]
    assert {round(later["seconds"] - sooner["seconds"], 3) for sooner, later in pairwise(scores)} == {0.256}
    last = read_status(state)
    assert last.lost_samples == 0
    expected = [
        score.value for score in StreamScorer(bundles.read(tiny_bundle).detector(), "00").push(samples_of(tmp_path))
    ]
    assert [line["score"] for line in scores] == expected[: len(scores)]


def test_no_second_thread_of_a_matrix_library_waits_for_work(tmp_path: Path, tiny_bundle: Path) -> None:
    """OpenBLAS's spin while they wait: with two cores that took 40 % of one, where listening takes 1 %."""
    path = device_toml(
        tmp_path, tiny_bundle, f"command = {json.dumps([sys.executable, '-c', 'import time; time.sleep(60)'])}"
    )
    with started(path) as child:
        try:
            until(lambda: status.read(tmp_path / "state"))
            found = dict(
                line.split("=", 1) for line in Path(f"/proc/{child.pid}/environ").read_text().split("\0") if line
            )
        finally:
            child.kill()
    assert (found["OPENBLAS_NUM_THREADS"], found["OMP_NUM_THREADS"]) == ("1", "1")


def samples_of(folder: Path) -> np.ndarray:
    samples, _ = soundfile.read(folder / "a.wav", dtype="float32")
    return samples
