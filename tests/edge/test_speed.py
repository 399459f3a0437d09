"""How fast a device scores: what is measured, and what is said of it. How fast this machine is, no test asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from edge_asd import bundle as bundles
from edge_asd import commands, speed
from edge_asd.errors import CheckFailed, UsageError
from edge_asd.scoring import ClipScorer, StreamScorer
from edge_asd.speed import Effort, Part, Speed
from edge_asd.window_stream import WindowStream


def part(milliseconds: float) -> Part:
    effort = Effort(least_ms=milliseconds, median_ms=milliseconds, times=5)
    return Part(clip=effort, hop=effort, core=milliseconds / 256)


def some_speed(hop: float) -> Speed:
    """Of a device that takes so many milliseconds for 256 of sound."""
    return Speed(
        runtime="litert 2.1.0",
        machine="fan",
        section="00",
        bundle="0123456789abcdef",
        front_end=part(0.3 * hop),
        model=part(0.5 * hop),
        bank=part(0.1 * hop),
        whole=part(hop),
        hop_ms=256.0,
        windows_per_second=4000.0,
        resident_mb=70.0,
        times_real_time=256 / hop,
        keeps_up=hop <= 256,
    )


@pytest.fixture(scope="module")
def measured(tiny_bundle: Path) -> Speed:
    return speed.measure(bundles.read(tiny_bundle), "01", "litert", 0.2)


def test_the_figures_belong_together(measured: Speed, tiny_bundle: Path) -> None:
    assert (measured.machine, measured.section) == ("fan", "01")
    assert measured.bundle == bundles.digest(tiny_bundle.read_bytes())
    assert measured.runtime.startswith("litert ")
    assert measured.hop_ms == 256.0
    assert measured.times_real_time == 256.0 / measured.whole.hop.median_ms
    assert measured.keeps_up == (measured.times_real_time >= 1)
    assert measured.windows_per_second == 32e3 / measured.model.clip.median_ms
    assert measured.resident_mb > 10
    for one in (measured.front_end, measured.model, measured.bank, measured.whole):
        assert one.core == one.hop.median_ms / 256.0
        for effort in (one.clip, one.hop):
            assert 0 < effort.least_ms <= effort.median_ms
            assert effort.times == getattr(measured.whole, "clip" if effort is one.clip else "hop").times >= 3


def test_it_measures_what_a_device_does(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each clip has 10 s; each hop gives one window to the front end's stream, and to the whole's just one score."""
    clips, scores, windows = [], [], []
    score, push, push_window = ClipScorer.score, StreamScorer.push, WindowStream.push

    def counted_score(self, waveform, section):  # type: ignore[no-untyped-def]
        clips.append((len(waveform), section))
        return score(self, waveform, section)

    def counted_push(self, samples):  # type: ignore[no-untyped-def]
        scores.append(len(found := push(self, samples)))
        return found

    def counted_window(self, samples):  # type: ignore[no-untyped-def]
        windows.append(len(found := list(push_window(self, samples))))
        return found

    monkeypatch.setattr(ClipScorer, "score", counted_score)
    monkeypatch.setattr(StreamScorer, "push", counted_push)
    monkeypatch.setattr(WindowStream, "push", counted_window)
    found = speed.measure(bundles.read(tiny_bundle), seconds=0.2)
    assert set(clips) == {(160_000, found.section)}
    assert set(scores[1:]) == {1}
    assert set(windows[2:]) == {1}
    assert len(scores) == found.whole.hop.times + 2  # 10 s before the first, and one that isn't counted


def test_each_is_done_three_times_however_little_time_there_is() -> None:
    done = []
    found = speed._repeated({"whole": lambda: done.append(1)}, 0.0)
    assert found["whole"].times == 3
    assert len(done) == 4


def test_least_and_median(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.0, 0.0, 0.002, 0.1, 1.0, 1.001, 1.1, 2.0, 2.009, 9.0])
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    found = speed._repeated({"whole": lambda: None}, 0.05)
    assert found["whole"].least_ms == pytest.approx(1.0)
    assert found["whole"].median_ms == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("hop", "said"),
    [
        (256 / 231.9, "keeps up 231 times over"),
        (256 / 2.57, "keeps up 2.5 times over"),
        (256 / 12345.6, "keeps up 12,345 times over"),
        (256.0, "keeps up 1.0 times over"),
        (300.0, "can't keep up: scoring 256 ms of sound takes 300 ms with litert 2.1.0"),
    ],
)
def test_the_verdict(hop: float, said: str) -> None:
    assert speed.verdict(some_speed(hop)) == said
    assert speed.lines(some_speed(hop))[-1] == said


def test_an_unknown_section(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="no section '77'"):
        speed.measure(bundles.read(tiny_bundle), "77")


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_asd", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_command(tiny_bundle: Path) -> None:
    done = bench("--bundle", tiny_bundle, "--seconds", 0.1)
    assert done.stderr == "" if done.returncode == 0 else "can't keep up" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[4:8]] == ["front", "model", "bank", "whole"]
    assert "keep" in done.stdout.splitlines()[-1]
    done = bench("-b", tiny_bundle, "--seconds", 0.1, "--json", "--section", "01", "--runtime", "tflite-runtime")
    found = msgspec.convert(json.loads(done.stdout), Speed)
    assert (found.section, found.runtime.split()[0]) == ("01", "tflite-runtime")


def test_the_command_called_wrongly(tiny_bundle: Path) -> None:
    for arguments in (["--section", "77"], ["--seconds", "0"], ["--runtime", "torch"]):
        done = bench("-b", tiny_bundle, *arguments)
        assert (done.returncode, done.stdout) == (2, "")


def test_a_device_that_is_too_slow_is_exit_code_1(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "measure", lambda *_: some_speed(300.0))
    with pytest.raises(CheckFailed, match="this device can't keep up"):
        commands.bench(tiny_bundle)
    assert "can't keep up" in capsys.readouterr().out
