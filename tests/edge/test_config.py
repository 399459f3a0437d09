"""device.toml: what it gives, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asd.config import LARGEST_CONFIG, load, secret
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
    assert (config.alarm.threshold, config.alarm.release, config.alarm.minimum_seconds) == ("site", 0.9, 1.0)
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
        (TOP + "colour = 3\n" + CAPTURE, ["line 3", "unknown field `colour`", "known are bundle, state, capture"]),
        (TOP + CAPTURE + "rte = 3\n", ["line 5: capture: ", "unknown field `rte`", "known are device, command, rate"]),
        (TOP + CAPTURE + 'rate = "fast"\n', ["capture.rate: ", "`int`", "found 'fast'"]),
        (TOP + CAPTURE + "rate = 100\n", ["capture.rate: ", ">= 4000", "found 100"]),
        (TOP + CAPTURE + "channels = 2\nchannel = 2\n", ["capture: ", "channel: found 2"]),
        (TOP + CAPTURE + 'pace = "fast"\n', ["capture: ", "only a wav has a pace"]),
        (TOP + CAPTURE + 'wav = "a.wav"\n', ["capture: ", "found command and wav of device, command and wav"]),
        (TOP + "[capture]\n", ["capture: ", "found none of device, command and wav"]),
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
        (
            TOP + '[capture]\ndevice = "plughw:1,0"\n',
            ["line 3: capture: ", "by its number in 'plughw:1,0'", "CARD=Device"],
        ),
        (TOP + '[capture]\ncommand = ["arecord", "-D", "hw:CARD=1"]\n', ["by its number in 'hw:CARD=1'"]),
        (TOP + CAPTURE + '[page]\nlisten = "0.0.0.0:80"\n', ["line 6: page: ", "which others can reach, and no token"]),
        (TOP + CAPTURE + '[page]\n\nlisten = "8765"\n', ["line 7: page: ", "expected address:port"]),
        (TOP + CAPTURE + "[sinks.mqtt]\nport = 1\n", ["sinks.mqtt: ", "missing required field `host`"]),
        (TOP + CAPTURE + '[sinks.mqtt]\nhost = "x"\nca_file = "a"\n', ["line 5: sinks.mqtt: ", "belong to TLS"]),
        (TOP + CAPTURE + '[sinks.mqtt]\nhost = "x"\ntls = true\nkey_file = "a"\n', ["one of cert_file and key_file"]),
        (TOP + CAPTURE + '[sinks.mqtt]\nhost = "x"\ntopic = "a/#"\n', ["line 7: sinks.mqtt.topic: ", "found 'a/#'"]),
        (TOP + CAPTURE + '[sinks.webhook]\nurl = "ftp://x"\n', ["line 6: sinks.webhook: ", "found 'ftp://x'"]),
        (TOP + CAPTURE + '[sinks.webhook]\nurl = "https://me:pw@x/"\n', ["without a password"]),
        (TOP + CAPTURE + '[sinks.email]\nto = "x"\n', ["unknown field `email`", "known are json_lines, mqtt, webhook"]),
        (TOP + CAPTURE + '[clips]\nformat = "mp3"\n', ["line 6: clips.format: ", "'mp3'", '"flac" and "wav"']),
        ('name = "a b"\n' + TOP + CAPTURE, ["line 1: name: ", "found 'a b'"]),
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


def test_the_page_of_a_device_alone_needs_no_token(tmp_path: Path) -> None:
    for listen, address in (
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:8765", ("::1", 8765)),
        ("localhost:1", ("localhost", 1)),
    ):
        page = load(written(tmp_path, TOP + CAPTURE + f'[page]\nlisten = "{listen}"\n')).page
        assert page
        assert (page.address, page.loopback) == (address, True)
    page = load(written(tmp_path, TOP + CAPTURE + '[page]\nlisten = "0.0.0.0:80"\ntoken_file = "token"\n')).page
    assert page
    assert (page.loopback, page.token_file) == (False, tmp_path / "token")


def test_a_device_is_called_what_it_says_or_what_the_host_is(tmp_path: Path) -> None:
    assert load(written(tmp_path, 'name = "shop-floor-7"\n' + TOP + CAPTURE)).device == "shop-floor-7"
    assert load(written(tmp_path, TOP + CAPTURE)).device


def test_a_secret_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("hunter2\n")
    assert secret(path) == "hunter2"
    for content in (b"", b"two\nlines", b"\xff\xff", b"a" * 5000):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="password or token"):
            secret(path)
    with pytest.raises(ConfigError, match="No such file"):
        secret(tmp_path / "nothing")
