"""device.toml: what it gives, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asd.config import LARGEST_CONFIG, load
from edge_asd.errors import ConfigError

TOP = 'bundle = "fan.easd"\nstate = "state"\n'
CAPTURE = '[capture]\ncommand = ["arecord", "-t", "raw"]\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "device.toml"
    path.write_text(text)
    return path


def test_defaults_and_paths_relative_to_the_file(tmp_path: Path) -> None:
    config = load(written(tmp_path, TOP + CAPTURE))
    assert config.bundle == tmp_path / "fan.easd"
    assert config.state == tmp_path / "state"
    assert config.section == ""
    assert (config.model.threads, config.model.runtime) == (1, "")
    assert config.capture.command == ("arecord", "-t", "raw")
    assert (config.capture.rate, config.capture.channels, config.capture.channel) == (16000, 1, -1)
    assert (config.alarm.threshold, config.alarm.release, config.alarm.minimum_seconds) == ("alarm", 0.9, 1.0)
    assert config.events.keep == 10_000


def test_everything_said(tmp_path: Path) -> None:
    text = (
        'bundle = "/opt/fan.easd"\nsection = "01"\nstate = "/var/lib/x"\n[model]\nthreads = 2\nruntime = "litert"\n'
        '[capture]\nwav = "sounds/a.wav"\npace = "fast"\nchannel = 1\n'
        "[alarm]\nthreshold = 3\nrelease = 0.5\nminimum_seconds = 2\n[events]\nkeep = 7\n"
    )
    config = load(written(tmp_path, text))
    assert config.bundle == Path("/opt/fan.easd")
    assert config.capture.wav == tmp_path / "sounds" / "a.wav"
    assert (config.capture.pace, config.capture.channel) == ("fast", 1)
    assert config.alarm.threshold == 3.0
    assert config.events.keep == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CAPTURE, ["missing required field `bundle`"]),
        (TOP, ["missing required field `capture`"]),
        (TOP + "colour = 3\n" + CAPTURE, ["unknown field `colour`", "known are bundle, state, capture, section"]),
        (TOP + CAPTURE + "rte = 3\n", ["capture: ", "unknown field `rte`", "known are command, rate"]),
        (TOP + CAPTURE + 'rate = "fast"\n', ["capture.rate: ", "`int`", "found 'fast'"]),
        (TOP + CAPTURE + "rate = 100\n", ["capture.rate: ", ">= 4000", "found 100"]),
        (TOP + CAPTURE + "channels = 2\nchannel = 2\n", ["capture: ", "channel: found 2"]),
        (TOP + CAPTURE + 'pace = "fast"\n', ["capture: ", "only a wav has a pace"]),
        (TOP + CAPTURE + 'wav = "a.wav"\n', ["capture: ", "found both of command and wav"]),
        (TOP + "[capture]\n", ["capture: ", "found neither of command and wav"]),
        (TOP + '[capture]\ncommand = "arecord -t raw"\n', ["capture.command: ", "`array`", "found 'arecord -t raw'"]),
        (TOP + '[capture]\nwav = "a.wav"\nrate = 8000\n', ["capture: ", "a wav says its own"]),
        (TOP + '[capture]\nwav = "a.wav"\npace = "slow"\n', ["capture.pace: ", "'slow'", '"realtime" and "fast"']),
        (TOP + CAPTURE + '[alarm]\nthreshold = "loud"\n', ["alarm.threshold: ", "'loud'", '"decision" and a number']),
        (TOP + CAPTURE + "[alarm]\nthreshold = nan\n", ["alarm.threshold: ", "found nan"]),
        (TOP + CAPTURE + "[alarm]\nthreshold = inf\n", ["alarm.threshold: ", "found inf"]),
        (TOP + CAPTURE + "[alarm]\nrelease = 1.5\n", ["alarm.release: ", "<= 1", "found 1.5"]),
        (TOP + CAPTURE + "[model]\nthreads = 0\n", ["model.threads: ", ">= 1", "found 0"]),
        (TOP + CAPTURE + '[model]\nruntime = "onnx"\n', ["model.runtime: ", "'onnx'", '"tflite-runtime"']),
        (TOP + CAPTURE + "[events]\nkeep = true\n", ["events.keep: ", "found True"]),
        ('bundle = ""\nstate = "s"\n' + CAPTURE, ["bundle: ", "expected a path", "found ''"]),
        ("bundle = 3\nstate = 's'\n" + CAPTURE, ["bundle: ", "expected a path", "found 3"]),
        ("bundle = \n", ["is not TOML", "line 1"]),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, text: str, said: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    for words in [str(path), *said]:
        assert words in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "device.toml")


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "device.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(path)


def test_a_file_too_large(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger than"):
        load(written(tmp_path, "#" * (LARGEST_CONFIG + 1)))
