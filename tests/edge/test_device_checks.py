"""What the doctor sees of microphone, level, clock, disk and power, and what it tells a person to do."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec.structs import replace

from edge_asd import config, device_checks, status
from edge_asd.capture.arecord import Card
from edge_asd.finding import Finding
from edge_asd.settings import DeviceConfig
from made_up_events import STATUS

PROGRAM = """
import numpy, sys
samples = numpy.random.default_rng(0).standard_normal(16000 * 5) * {level} * 32768
sys.stdout.buffer.write(numpy.clip(samples, -32768, 32767).astype("<i2").tobytes())
sys.stdout.flush()
import time; time.sleep(60)
"""


def device(folder: Path, capture: str) -> DeviceConfig:
    path = folder / "device.toml"
    path.write_text(f'bundle = "fan.easd"\nstate = "state"\n[capture]\n{capture}\n')
    return config.load(path)


def command(program: str) -> str:
    return f"command = {json.dumps([sys.executable, '-c', program])}"


def seen(found: DeviceConfig) -> list[tuple[str, str]]:
    return [(finding.about, finding.state) for finding in device_checks.microphone(found)]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0.05, [("microphone", "ok"), ("level", "ok")]),
        (0.5, [("microphone", "ok"), ("level", "warning")]),
        (0.0005, [("microphone", "ok"), ("level", "warning")]),
        (0.0, [("microphone", "problem")]),
    ],
)
def test_some_seconds_of_a_microphone(tmp_path: Path, level: float, expected: list[tuple[str, str]]) -> None:
    assert seen(device(tmp_path, command(PROGRAM.format(level=level)))) == expected


def test_a_microphone_that_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [gone] = device_checks.microphone(device(tmp_path, command("import sys; sys.exit('Device or resource busy')")))
    assert (gone.state, "Device or resource busy" in gone.found) == ("problem", True)
    [missing] = device_checks.microphone(device(tmp_path, 'command = ["no-such-recorder"]'))
    assert (missing.state, "no-such-recorder" in missing.found) == ("problem", True)
    monkeypatch.setattr(device_checks, "PATIENCE_SECONDS", 1.0)
    [mute] = device_checks.microphone(device(tmp_path, command("import time; time.sleep(60)")))
    assert "gives no sample for 1 s" in mute.found


def test_a_card_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = device(tmp_path, 'device = "plughw:CARD=Device,DEV=0"')
    monkeypatch.setattr(device_checks.arecord, "cards", lambda: [Card(0, "vc4hdmi", "HDMI"), Card(1, "Camera", "x")])
    [finding] = device_checks.microphone(found)
    assert (finding.state, finding.found) == (
        "problem",
        "There is no sound card 'Device'; there are vc4hdmi, Camera.",
    )
    assert "arecord -L" in finding.todo


def test_a_recording_is_no_microphone(tmp_path: Path) -> None:
    assert seen(device(tmp_path, 'wav = "a.wav"')) == [("microphone", "ok")]


def test_a_daemon_that_has_the_microphone_is_believed(tmp_path: Path) -> None:
    found = device(tmp_path, 'device = "default"')
    known = replace(STATUS, pid=os.getpid(), rms_dbfs=-30.0, peak_dbfs=-12.0)
    with status.alone(found.state):
        status.write(found.state, known)
        assert seen(found) == [("microphone", "ok"), ("level", "ok")]


@pytest.mark.parametrize(
    ("bits", "state", "said"),
    [
        (0x0, "ok", "have sufficed"),
        (0x50000, "warning", "Since its start the board has suffered under-voltage, throttling"),
        (0x50005, "problem", "suffers under-voltage, throttling now"),
        (0x8, "problem", "a soft limit of temperature"),
    ],
)
def test_what_a_pi_says_of_its_power(bits: int, state: str, said: str) -> None:
    finding = device_checks.throttling(bits)
    assert (finding.state, said in finding.found) == (state, True)
    assert bool(finding.todo) == (state != "ok")


def test_a_pi_is_asked_and_another_board_only_for_its_temperature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("_MODEL", "Raspberry Pi 4 Model B"), ("_TEMPERATURE", "81234\n"), ("_THROTTLED", "50000\n")):
        (tmp_path / name).write_text(content)
        monkeypatch.setattr(device_checks, name, tmp_path / name)
    hot, power = device_checks.power()
    assert (hot.about, hot.state, "81 degrees" in hot.found) == ("temperature", "warning", True)
    assert (power.about, power.state) == ("power", "warning")
    (tmp_path / "_THROTTLED").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "can't be seen" in list(device_checks.power())[1].found
    (tmp_path / "vcgencmd").write_text("#!/bin/sh\necho throttled=0x0\n")
    (tmp_path / "vcgencmd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert list(device_checks.power())[1].state == "ok"
    (tmp_path / "_MODEL").write_text("Some other board")
    assert [finding.about for finding in device_checks.power()] == ["temperature"]


def test_a_clock_that_nobody_has_set_is_a_warning() -> None:
    assert device_checks.clock(synchronised=True).state == "ok"
    unset = device_checks.clock(synchronised=False)
    assert (unset.state, bool(unset.todo)) == ("warning", True)
    assert isinstance(device_checks.clock(), Finding)


def test_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_checks.disk(tmp_path / "not" / "there" / "yet").state == "ok"
    monkeypatch.setattr(device_checks, "LITTLE_FREE_MB", 1e12)
    assert device_checks.disk(tmp_path).state == "warning"
    monkeypatch.setattr(device_checks, "LEAST_FREE_MB", 1e12)
    assert device_checks.disk(tmp_path).state == "problem"
    real = os.statvfs(tmp_path)
    names = ("f_bavail", "f_blocks", "f_bfree", "f_frsize")
    mounted = SimpleNamespace(f_flag=real.f_flag | os.ST_RDONLY, **{name: getattr(real, name) for name in names})
    monkeypatch.setattr(device_checks.os, "statvfs", lambda path: mounted)
    read_only = device_checks.disk(tmp_path)
    assert (read_only.state, "read-only" in read_only.found) == ("problem", True)


def test_noise_has_the_level_that_is_said(tmp_path: Path) -> None:
    [_, level] = device_checks.microphone(device(tmp_path, command(PROGRAM.format(level=0.1))))
    assert f"The level is {20 * np.log10(0.1):.0f} dBFS" in level.found
