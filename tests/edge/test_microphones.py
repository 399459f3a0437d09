"""Real programs in a microphone's place: arecord through ALSA's file plugin, and PulseAudio in real time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import soxr

from common import missing
from edge_asd.capture import Block, source_of
from edge_asd.capture.command import CommandSource
from edge_asd.capture.patient import PatientSource
from edge_asd.errors import CaptureError
from edge_asd.settings import CaptureSettings

RATE = 16000
SECONDS = 1.5
ALSA = Path("/usr/share/alsa/alsa.conf")

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def must_have(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            missing(program)


@pytest.fixture
def alsa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], Array]:
    """Makes the card `site` of a rate and a number of channels, which gives what is returned."""
    must_have("arecord")
    if not ALSA.exists():
        missing(str(ALSA))

    def card(rate: int, channels: int) -> Array:
        pcm = np.random.default_rng(rate + channels).integers(-20000, 20000, (round(rate * SECONDS), channels))
        pcm.astype("<i2").tofile(tmp_path / "in.raw")
        (tmp_path / "asoundrc").write_text(
            f"<{ALSA}>\n"
            "pcm.recording {\n  type file\n  slave.pcm null\n  file /dev/null\n"
            f"  infile {tmp_path / 'in.raw'}\n  format raw\n}}\n"
            "pcm.site {\n  type plug\n"
            f"  slave {{ pcm recording rate {rate} channels {channels} format S16_LE }}\n}}\n"
        )
        monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asoundrc"))
        return pcm.astype(np.float32) / 32768

    return card


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (48000, 1), (48000, 2), (8000, 1)])
def test_what_arecord_gives_is_what_went_in(alsa: Callable[[int, int], Array], rate: int, channels: int) -> None:
    frames = alsa(rate, channels)
    mono = frames.mean(axis=1, dtype=np.float32)
    expected = mono if rate == RATE else soxr.resample(mono, rate, RATE, quality="HQ")
    expected = expected[:RATE]  # what comes behind the recording is left out
    heard: list[Array] = []
    with source_of(CaptureSettings(device="site", rate=rate, channels=channels), RATE) as source:
        for block in source:
            assert not block.absent, block.absent
            assert not block.lost
            heard.append(block.samples)
            if sum(map(len, heard)) >= len(expected):
                break
    np.testing.assert_allclose(np.concatenate(heard)[: len(expected)], expected, atol=1e-5)


def test_arecord_says_why_it_cannot_record(alsa: Callable[[int, int], Array]) -> None:
    alsa(RATE, 1)
    settings = CaptureSettings(device="plughw:CARD=Nowhere,DEV=0")
    with source_of(settings, RATE) as source:
        blocks = iter(source)
        why = next(block.absent for block in blocks if block.absent)
    assert "ended by itself with exit code 1" in why
    assert "arecord: main:" in why


class Pulse:
    """A PulseAudio server of its own, with a sink that nobody hears and whose sound can be recorded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--disallow-exit", "--use-pid-file=no"),
                *("-L", "module-null-sink sink_name=site"),
                *("-L", f"module-native-protocol-unix socket={self._folder / 'socket'} auth-anonymous=1"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        patience = time.monotonic() + 10
        while subprocess.run(["pactl", "info"], capture_output=True).returncode:
            assert self._process.poll() is None, "pulseaudio ended"
            assert time.monotonic() < patience
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
            (self._folder / "socket").unlink(missing_ok=True)

    @contextmanager
    def tone(self, hertz: float) -> Iterator[None]:
        """Play it, until the server or this ends."""
        program = (
            "import math, struct, sys\n"
            f"period = b''.join(struct.pack('<h', round(8192 * math.sin(math.tau * {hertz} * n / 16000)))"
            " for n in range(16000))\n"
            "for _ in range(60): sys.stdout.buffer.write(period)\n"
        )
        play = ["pacat", "-p", "-d", "site", "--raw", "--rate=16000", "--channels=1", "--format=s16le"]
        with (
            subprocess.Popen(
                [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as sine,
            subprocess.Popen(play, stdin=sine.stdout, stderr=subprocess.DEVNULL) as player,
        ):
            assert sine.stdout
            sine.stdout.close()
            try:
                yield
            finally:
                player.kill()
                sine.kill()


@pytest.fixture
def pulse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    must_have("pulseaudio", "parecord", "pacat", "pactl")
    for variable in ("HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("PULSE_SERVER", f"unix:{tmp_path / 'socket'}")  # and so that nothing starts another server
    server = Pulse(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def parecord() -> CommandSource:
    return CommandSource(
        [
            *("parecord", "-d", "site.monitor", "--raw", "--rate=16000", "--channels=1", "--format=s16le"),
            "--latency-msec=50",
        ]
    )


def rings(blocks: list[Block], hertz: float) -> bool:
    """Whether the last second is the tone that is played, and all of it."""
    if samples_in(blocks) < RATE:
        return False
    samples = np.concatenate([block.samples for block in blocks])[-RATE:]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(RATE))) / RATE * 4
    peak = int(spectrum.argmax())
    return abs(peak - hertz) <= 1 and abs(float(spectrum[peak]) - 0.25) < 0.005


def listen(source: Iterator[Block], until: Callable[[list[Block]], bool], seconds: float = 12.0) -> list[Block]:
    """The blocks up to that for which `until` holds."""
    blocks: list[Block] = []
    patience = time.monotonic() + seconds
    for block in source:
        blocks.append(block)
        if until(blocks):
            return blocks
        assert time.monotonic() < patience, "waited too long"
    raise AssertionError("it ended")


def samples_in(blocks: list[Block]) -> int:
    return sum(len(block.samples) for block in blocks)


def test_a_sound_server_that_dies_and_comes_back(pulse: Pulse) -> None:
    said: list[str] = []
    with PatientSource(parecord, RATE, say=said.append) as source:
        blocks = iter(source)
        with pulse.tone(1000.0):
            listen(blocks, lambda heard: rings(heard, 1000))
        began = time.monotonic()
        pulse.kill()
        gone = listen(blocks, lambda heard: bool(heard[-1].absent))
        before = samples_in(gone)
        looks = [time.monotonic() for _ in islice(blocks, 4)]
        assert max(later - earlier for earlier, later in pairwise(looks)) < 0.8
        pulse.start()
        with pulse.tone(440.0):
            back = listen(blocks, lambda heard: rings(heard, 440))
            passed = time.monotonic() - began
        lost = sum(block.lost for block in back)
        assert abs((before + lost + samples_in(back)) / RATE - passed) < 1
        assert lost > RATE
        assert [block.lost > 0 for block in back if len(block.samples)][:2] == [True, False]
        assert all(block.absent for block in back if not len(block.samples) and not block.lost)
    assert len(said) == 2
    assert "hears nothing: parecord -d site.monitor" in said[0]
    assert "hears again after" in said[1]


def test_a_sound_server_that_hears_nothing_gives_zeros(pulse: Pulse) -> None:
    with parecord() as source:
        heard = listen(iter(source), lambda heard: samples_in(heard) >= RATE // 2)
    assert not np.concatenate([block.samples for block in heard]).any()


def test_a_recorder_that_is_killed_says_so(pulse: Pulse) -> None:
    with parecord() as source:
        blocks = iter(source)
        listen(blocks, lambda heard: samples_in(heard) > 0)
        os.kill(source._process.pid, 9)
        with pytest.raises(CaptureError, match="was ended by signal 9"):
            list(blocks)
