"""Sources of sound: the samples that come out are those that went in, and what goes wrong is said."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice, repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from common import until
from edge_asd.audio import read_clip
from edge_asd.capture import AudioSource, Block, arecord, command, source_of, wav
from edge_asd.capture.command import CommandSource
from edge_asd.capture.patient import PatientSource
from edge_asd.capture.source import nothing
from edge_asd.capture.wav import WavSource
from edge_asd.errors import CaptureError, ClipError, MissingRequirement
from edge_asd.settings import CaptureSettings

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@pytest.fixture(autouse=True)
def blocks_of_512_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers below count on them; a daemon's blocks are four times as long."""
    for module in (command, wav):
        monkeypatch.setattr(module, "BLOCK_SECONDS", 0.032)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def heard(source: AudioSource) -> Array:
    with source:
        return np.concatenate([block.samples for block in source])


def heard_until_it_ends(source: CommandSource) -> tuple[Array, str]:
    """The samples, and the complaint with which a command always ends."""
    blocks: list[Block] = []
    with source, pytest.raises(CaptureError) as caught:
        blocks.extend(source)
    return np.concatenate([block.samples for block in blocks]), str(caught.value)


def noise(*shape: int) -> Array:
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def test_wav_is_given_as_it_is(tmp_path: Path) -> None:
    samples = noise(16000 + 77)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with WavSource(tmp_path / "a.wav", pace="fast") as source:
        blocks = list(source)
    assert max(len(block.samples) for block in blocks) == 512
    assert all(block.lost == 0 for block in blocks)
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), samples)


def test_wav_of_another_rate_and_two_channels(tmp_path: Path) -> None:
    frames = noise(44100 * 2 + 11, 2)
    soundfile.write(tmp_path / "a.wav", frames, 44100, subtype="FLOAT")
    samples = heard(WavSource(tmp_path / "a.wav", pace="fast"))
    expected = soxr.resample(frames.mean(axis=1, dtype=np.float32), 44100, 16000, quality="HQ")
    assert abs(len(samples) - len(expected)) <= 1
    length = min(len(samples), len(expected))
    np.testing.assert_allclose(samples[:length], expected[:length], atol=1e-5)


def test_one_channel_of_a_wav(tmp_path: Path) -> None:
    frames = noise(1000, 3)
    soundfile.write(tmp_path / "a.wav", frames, 16000, subtype="FLOAT")
    np.testing.assert_array_equal(heard(WavSource(tmp_path / "a.wav", channel=2, pace="fast")), frames[:, 2])
    with pytest.raises(CaptureError, match="has 3 channels"):
        heard(WavSource(tmp_path / "a.wav", channel=3, pace="fast"))


def test_real_time_takes_its_time(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(8000), 16000)
    began = time.monotonic()
    assert len(heard(WavSource(tmp_path / "a.wav"))) == 8000
    assert time.monotonic() - began >= 0.5


def test_wav_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="there is no such file"):
        heard(WavSource(tmp_path / "a.wav"))
    (tmp_path / "b.wav").write_bytes(b"no sound")
    with pytest.raises(CaptureError, match="can't be read as a sound file"):
        heard(WavSource(tmp_path / "b.wav"))
    samples = noise(16000)
    samples[12000] = np.nan
    soundfile.write(tmp_path / "c.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(CaptureError, match=r"near 0\.8 s is not finite"):
        heard(WavSource(tmp_path / "c.wav", pace="fast"))


def test_wav_whose_rate_or_channels_no_microphone_has(tmp_path: Path) -> None:
    for name, rate, channels in (("a", 1000, 1), ("b", 2**30, 1), ("c", 16000, 65)):
        soundfile.write(tmp_path / f"{name}.wav", noise(10, channels), rate)
        with pytest.raises(CaptureError, match=f"says {rate} Hz and {channels} channels, expected 4000 to 384000 Hz"):
            heard(WavSource(tmp_path / f"{name}.wav", pace="fast"))


@pytest.mark.parametrize("kind", ["AIFF", "OGG", "AU", "CAF", "MP3"])
def test_what_is_only_called_wav_is_not_opened(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", noise(3200), 16000, format=kind)
    with pytest.raises(CaptureError, match=r"begins as neither.*; expected WAV or FLAC"):
        heard(WavSource(tmp_path / "a.wav"))
    with pytest.raises(ClipError, match=r"begins as neither.*; expected WAV or FLAC"):
        read_clip(tmp_path / "a.wav")
    assert capfd.readouterr().err == "", "decoders of other formats have words of their own"


def test_a_format_that_can_only_be_read_forwards(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1600), 16000, subtype="GSM610", format="WAV")
    alone = heard(WavSource(tmp_path / "a.wav", pace="fast"))
    assert 1600 <= len(alone) < 2000, "it comes in frames of 320"
    with WavSource(tmp_path, pace="fast") as source:
        blocks = list(source)
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), alone)
    assert blocks[0].mean == pytest.approx(alone.mean(), abs=1e-6)
    np.testing.assert_array_equal(read_clip(tmp_path / "a.wav"), alone)


def test_command_gives_its_samples_then_says_that_it_ended() -> None:
    program = "import array, sys; sys.stdout.buffer.write(array.array('h', range(-2000, 2000)).tobytes())"
    samples, complaint = heard_until_it_ends(CommandSource(python(program)))
    np.testing.assert_array_equal(samples, np.arange(-2000, 2000, dtype=np.float32) / 32768)
    assert "ended by itself with exit code 0; it said nothing" in complaint


def test_command_that_writes_byte_by_byte() -> None:
    half = "b'x'"  # of a sample, at the end
    program = (
        f"import array, os\nfor byte in array.array('h', range(600)).tobytes() + {half}: os.write(1, bytes([byte]))"
    )
    samples, _ = heard_until_it_ends(CommandSource(python(program)))
    np.testing.assert_array_equal(samples, np.arange(600, dtype=np.float32) / 32768)


def test_one_channel_of_a_command_resampled(tmp_path: Path) -> None:
    frames = (noise(48000, 2) * 32768).astype("<i2")
    np.save(tmp_path / "frames.npy", frames)
    program = f"import numpy, sys; sys.stdout.buffer.write(numpy.load({str(tmp_path / 'frames.npy')!r}).tobytes())"
    samples, _ = heard_until_it_ends(CommandSource(python(program), rate=48000, channels=2, channel=1))
    expected = soxr.resample(frames[:, 1].astype(np.float32) / 32768, 48000, 16000, quality="HQ")
    assert abs(len(samples) - len(expected)) <= 1
    length = min(len(samples), len(expected))
    np.testing.assert_allclose(samples[:length], expected[:length], atol=1e-5)


def test_command_that_dies_with_a_message() -> None:
    program = "import sys; sys.stderr.write('opening\\ncard 1 has gone\\n\\n'); sys.exit(3)"
    _, complaint = heard_until_it_ends(CommandSource(python(program)))
    assert sys.executable in complaint
    assert "exit code 3" in complaint
    assert complaint.endswith("card 1 has gone")


def test_command_that_complains_without_end_is_still_heard() -> None:
    program = (
        "import sys\n"
        "for line in range(100000): sys.stderr.write(f'complaint {line}\\n')\n"
        "sys.stdout.buffer.write(bytes(2000))\n"
    )
    source = CommandSource(python(program))
    samples, complaint = heard_until_it_ends(source)
    assert len(samples) == 1000
    assert complaint.endswith("complaint 99999")
    assert len(source._complaint) <= command.KEPT_COMPLAINT


def test_command_killed_by_a_signal() -> None:
    _, complaint = heard_until_it_ends(CommandSource(python("import os; os.kill(os.getpid(), 9)")))
    assert "was ended by signal 9" in complaint


def test_program_that_is_not_installed() -> None:
    with pytest.raises(MissingRequirement, match="no-such-recorder: there is no such program"):
        heard(CommandSource(["no-such-recorder"]))


def test_quiet_command_gives_empty_blocks_and_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "QUIET_SECONDS", 0.05)
    with CommandSource(python("import time; time.sleep(60)")) as source:
        block = next(iter(source))
        process = source._process
        assert process.poll() is None
    assert len(block.samples) == 0
    assert process.returncode == -15
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_command_that_gives_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(command, "DEAF_SECONDS", 2.0)
    samples, complaint = heard_until_it_ends(CommandSource(["sh", "-c", "head -c 1024 /dev/zero; exec sleep 60"]))
    assert len(samples) == 512
    assert complaint.endswith("gave no sample for 2 s; it said nothing")


@pytest.mark.parametrize("leader", ["exit 0", "sleep 60"])
def test_what_the_command_started_ends_with_it(tmp_path: Path, leader: str) -> None:
    (tmp_path / "helper").write_text(f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 1; done")
    started = f"sh {tmp_path}/helper & until [ -s {tmp_path}/pid ]; do :; done; head -c 1024 /dev/zero; {leader}"
    with CommandSource(["sh", "-c", started]) as source:
        next(iter(source))
        process = source._process
    assert process.returncode is not None
    number = int((tmp_path / "pid").read_text())

    def lives() -> bool:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(number).status() != psutil.STATUS_ZOMBIE  # dead, and nobody has buried it yet
        return False

    until(lambda: not lives())  # it was killed, and must be given the time to die


def test_stubborn_command_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PATIENCE_SECONDS", 0.2)
    program = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sys.stdout.buffer.write(bytes(1024)); sys.stdout.flush(); time.sleep(60)"
    )
    with CommandSource(python(program)) as source:
        while not len(next(iter(source)).samples):  # it now ignores SIGTERM
            pass
        process = source._process
    assert process.returncode == -9


def test_a_program_that_first_writes_what_it_has_ends_at_once() -> None:
    program = (
        "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True: sys.stdout.buffer.write(bytes(1 << 16))"
    )
    with CommandSource(python(program)) as source:
        next(iter(source))
        process = source._process
    assert process.returncode != -9


def test_no_shell_is_between() -> None:
    program = "import sys; sys.stderr.write(sys.argv[1]); sys.exit(1)"
    _, complaint = heard_until_it_ends(CommandSource([*python(program), "$HOME; `id`"]))
    assert complaint.endswith("$HOME; `id`")


def said(line: str) -> str:
    """A Python statement that says it on standard error as arecord would: at once, in one piece."""
    return f"os.write(2, {line.encode()!r} + b'\\n')\n"


def ramp(first: int, last: int) -> str:
    return f"os.write(1, array.array('h', range({first}, {last})).tobytes())\n"


OVERRUN = "overrun!!! (at least 12.345 ms long)"
# So that what was written before has been read, and what comes then is read apart from it.
PAUSE = (
    "while any(int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), 'little') for pipe in (1, 2)):\n"
    "    time.sleep(0.01)\n"
    "time.sleep(0.2)\n"
)


def blocks_until_it_ends(program: str, **options: Any) -> list[Block]:
    blocks: list[Block] = []
    source = CommandSource(python("import array, fcntl, os, termios, time\n" + program), **options)
    with source, pytest.raises(CaptureError, match="ended by itself"):
        blocks.extend(source)
    return blocks


def in_source(blocks: list[Block]) -> list[int]:
    return [round(float(sample) * 32768) for block in blocks for sample in block.samples]


def test_overrun_is_a_gap_of_so_many_samples() -> None:
    blocks = blocks_until_it_ends(
        ramp(0, 1024) + PAUSE + ramp(1024, 1124) + PAUSE + said(OVERRUN) + PAUSE + ramp(5000, 6024)
    )
    lost = [block.lost for block in blocks if block.lost]
    assert lost == [100 + 198]  # what was read of this block, and 12.345 ms, rounded up
    gap = next(index for index, block in enumerate(blocks) if block.lost)
    assert in_source(blocks[:gap]) == list(range(1024))
    assert in_source(blocks[gap:]) == list(range(5000, 6024))


def test_no_sample_behind_a_gap_comes_before_it() -> None:
    program = ramp(0, 700) + said(OVERRUN) + ramp(5000, 5300) + PAUSE + ramp(6000, 6512)
    for _ in range(5):  # whatever of it is read together
        blocks = blocks_until_it_ends(program)
        samples = in_source(blocks)
        behind = [index for index, sample in enumerate(samples) if sample >= 5000]
        assert samples[: behind[0]] == list(range(behind[0]))
        assert samples[-512:] == list(range(6000, 6512))
        told = 0
        for block in blocks:
            told += block.lost
            assert told or not any(sample >= 5000 for sample in in_source([block]))
        assert told + len(samples) == 700 + 198 + 300 + 512


def test_overruns_told_in_pieces_and_several_at_once() -> None:
    half, rest = OVERRUN[:14], OVERRUN[14:]
    program = (
        f"os.write(2, b'{half}')\n" + PAUSE + f"os.write(2, b'{rest}\\n{OVERRUN}\\nSuspended. Trying resume.\\n')\n"
        "os.write(2, b'overrun!!! (at least 1,5 ms long)\\n')\n" + PAUSE + ramp(0, 512)
    )
    blocks = blocks_until_it_ends(program)
    assert [block.lost for block in blocks if block.lost] == [198 + 198 + 24]
    assert in_source(blocks) == list(range(512))


def test_lost_frames_keep_the_channels_apart() -> None:
    frames = "b''.join(struct.pack('<hh', n, -n) for n in range(1, 801))"
    program = (
        f"import struct\npcm = {frames}\n"
        "os.write(1, pcm[:1203])\n" + PAUSE + said(OVERRUN) + PAUSE + "os.write(1, pcm[1203:])\n"
    )
    blocks = blocks_until_it_ends(program, channels=2, channel=1)
    assert [block.lost for block in blocks if block.lost] == [300 + 198]
    assert in_source(blocks) == [-n for n in range(301, 801)]  # 1203 bytes are 300 frames and a part of the next


def test_lost_samples_are_those_of_the_detector() -> None:
    program = "zeros = bytes(2 * 4410)\nos.write(1, zeros)\n" + PAUSE + said(OVERRUN) + PAUSE + "os.write(1, zeros)\n"
    blocks = blocks_until_it_ends(program, rate=44100, buffer_seconds=2.0)
    read = 4410 - 3 * 1411  # of the block that was begun
    assert [block.lost for block in blocks if block.lost] == [round((read + 545 + 88200) * 16000 / 44100)]
    heard = sum(len(block.samples) + block.lost for block in blocks)
    assert heard == pytest.approx((8820 + 545 + 88200) * 16000 / 44100, abs=3)  # the resampler's rest was handed on


def test_an_overrun_of_years_is_not_believed() -> None:
    blocks = blocks_until_it_ends(said("overrun!!! (at least 1511111111111.5 ms long)") + PAUSE + ramp(0, 512))
    lost = sum(block.lost for block in blocks)
    assert 30 * 16000 <= lost <= 40 * 16000


def test_arecord_is_asked_to_speak_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    _, complaint = heard_until_it_ends(CommandSource(python("import os, sys; sys.exit(os.environ['LC_ALL'])")))
    assert complaint.endswith("its last words: C")


@given(text=st.lists(st.sampled_from([OVERRUN, "overrun !!!", "underrun", "overrun!!! (at least"])), cuts=st.data())
def test_overruns_are_found_whatever_the_pieces(text: list[str], cuts: st.DataObject) -> None:
    said = "".join(f"{line}\n" for line in text).encode()
    places = sorted(cuts.draw(st.lists(st.integers(0, len(said)), max_size=5)))
    overruns = arecord.Overruns()
    found = [
        length
        for first, last in zip([0, *places], [*places, len(said)], strict=True)
        for length in overruns.take(said[first:last])
    ]
    assert found == [12.345 if line == OVERRUN else 0.0 for line in text if line.startswith("overrun")]


def test_samples_at_full_scale_are_counted_in_every_channel_of_the_source() -> None:
    program = "os.write(1, array.array('h', [32767, 0, -32768, -32767, 32766, -32766] * 256).tobytes())"
    blocks = blocks_until_it_ends(program, channels=2, rate=48000)
    assert sum(block.clipped for block in blocks) == 3 * 256


def test_samples_at_full_scale_of_a_file(tmp_path: Path) -> None:
    samples = np.zeros((1000, 2), np.int16)
    samples[:10, 0] = 32767
    samples[5:15, 1] = -32768
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="PCM_16")
    with WavSource(tmp_path / "a.wav", pace="fast") as source:
        assert [block.clipped for block in source][:2] == [20, 0]


def test_a_folder_is_heard_file_by_file(tmp_path: Path) -> None:
    one, two = noise(1600), noise(2205)
    soundfile.write(tmp_path / "b.WAV", one, 16000, subtype="FLOAT", format="WAV")
    soundfile.write(tmp_path / "a.flac", two, 22050)
    (tmp_path / "c.txt").write_text("no sound")
    (tmp_path / "d.wav").mkdir()
    with WavSource(tmp_path, pace="fast") as source:
        blocks = list(source)
    assert [block.recording for block in blocks if block.recording] == ["a.flac", "b.WAV"]
    assert blocks[0].recording == "a.flac"
    begins = next(index for index, block in enumerate(blocks) if block.recording == "b.WAV")
    assert sum(len(block.samples) for block in blocks[:begins]) == 1600
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks[begins:]]), one)


def test_a_file_that_cannot_be_read_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "b.wav", noise(1600), 16000, subtype="FLOAT")
    broken = noise(1600)
    broken[700] = np.inf
    soundfile.write(tmp_path / "c.wav", broken, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "d.wav", noise(1600, 2), 16000, subtype="FLOAT")
    with WavSource(tmp_path, pace="fast") as source:
        assert {block.recording for block in source} == {"", "b.wav", "c.wav", "d.wav"}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "a.wav: can't be read as a sound file" in lines[0]
    assert "c.wav: a sample near 0.1 s is not finite" in lines[1]


def test_a_folder_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaptureError, match="found no sound file in this folder"):
        heard(WavSource(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"no sound")
    (tmp_path / "b.wav").write_bytes(b"no sound")
    with pytest.raises(CaptureError, match=r"none of its 2 files can be used; the last: .*b\.wav"):
        heard(WavSource(tmp_path))
    assert capsys.readouterr().err.count("Goes on with the next file") == 2


def test_sound_cards(tmp_path: Path) -> None:
    (tmp_path / "cards").write_text(
        " 0 [vc4hdmi        ]: vc4-hdmi - vc4-hdmi\n"
        "                      vc4-hdmi\n"
        " 1 [Device         ]: USB-Audio - USB PnP Sound Device\n"
        "                      C-Media Electronics Inc. USB PnP Sound Device at usb-3f980000.usb-1.3, full speed\n"
        "10 [sndrpigooglevoi]: RPi-simple - snd_rpi_googlevoicehat_soundcar\n"
        "                      snd_rpi_googlevoicehat_soundcard\n"
    )
    assert arecord.cards(tmp_path / "cards") == [
        arecord.Card(0, "vc4hdmi", "vc4-hdmi"),
        arecord.Card(1, "Device", "USB PnP Sound Device"),
        arecord.Card(10, "sndrpigooglevoi", "snd_rpi_googlevoicehat_soundcar"),
    ]
    (tmp_path / "cards").write_text("--- no soundcards ---\n")
    assert arecord.cards(tmp_path / "cards") == []
    assert arecord.cards(tmp_path / "no such file") == []


def test_the_command_for_a_device() -> None:
    assert arecord.command_line("plughw:CARD=Device,DEV=0", 48000, 2) == [
        *("arecord", "-q", "-D", "plughw:CARD=Device,DEV=0", "-f", "S16_LE", "-r", "48000", "-c", "2", "-t", "raw"),
        *("--buffer-time=2000000", "--period-time=100000"),
    ]


class Time:
    """A clock that goes on when somebody sleeps, and what was said and when."""

    def __init__(self) -> None:
        self.now = 100.0
        self.said: list[str] = []
        self.steps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.steps.append(seconds)
        self.now += seconds


class Script:
    """A source that does one thing after another: gives a block, lets time pass, raises."""

    def __init__(self, clock: Time, entering: Exception | None, *steps: Block | float | Exception) -> None:
        self._clock = clock
        self._entering = entering
        self._steps = steps
        self.closed = 0

    def __enter__(self) -> Self:
        if self._entering:
            raise self._entering
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed += 1

    def __iter__(self) -> Iterator[Block]:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Block):
                yield step
            else:
                self._clock.now += step


def patient(clock: Time, scripts: Iterable[Script]) -> tuple[PatientSource, list[Script]]:
    """A patient source of these; afterwards of those that raise on entering. Those that were opened are in the list."""
    opened: list[Script] = []
    rest = chain(scripts, (Script(clock, CaptureError("no such card.")) for _ in repeat(None)))

    def open_source() -> Script:
        opened.append(next(rest))
        return opened[-1]

    return (
        PatientSource(open_source, 16000, monotonic=lambda: clock.now, sleep=clock.sleep, say=clock.said.append),
        opened,
    )


TONE = Block(noise(512))
GONE = CaptureError("arecord -D x ended by itself with exit code 1;\nits last words: No such device")


def test_a_microphone_that_goes_is_waited_for() -> None:
    clock = Time()
    source, opened = patient(
        clock, [Script(clock, None, TONE, 5.0, TONE, GONE), Script(clock, GONE), Script(clock, None, TONE, TONE)]
    )
    with source:
        blocks = list(islice(source, 11))
        assert [len(block.samples) for block in blocks] == [512, 512, *[0] * 6, 512, 512, 0]
        assert all("No such device" in block.absent for block in blocks[2:8])
        assert [block.lost for block in blocks] == [*[0] * 8, 3 * 16000, 0, 0]
        assert [script.closed for script in opened] == [1, 0, 1]
    assert clock.steps == [0.5] * 6
    assert clock.said[0] == (
        "edge-asd: hears nothing: arecord -D x ended by itself with exit code 1; its last words: No such device. "
        "Keeps trying, at first after 1 s and at least every 60 s."
    )
    assert clock.said[1] == "edge-asd: hears again after 3 s."
    assert len(clock.said) == 3  # the third source came to its end


def test_before_the_first_sample_there_is_no_gap() -> None:
    clock = Time()
    source, _ = patient(clock, [Script(clock, GONE), Script(clock, None, nothing(), 7.0, TONE)])
    with source:
        blocks = list(islice(source, 4))
    assert [(len(block.samples), bool(block.absent), block.lost) for block in blocks] == [
        (0, True, 0),
        (0, True, 0),
        (0, True, 0),  # it was opened, and gives nothing yet
        (512, False, 0),
    ]
    assert clock.said[1] == "edge-asd: hears again after 8 s."


def test_a_gap_that_the_source_tells_adds_to_the_absence() -> None:
    clock = Time()
    source, _ = patient(clock, [Script(clock, None, TONE, GONE), Script(clock, None, Block(noise(512), lost=7))])
    with source:
        assert [block.lost for block in islice(source, 4)] == [0, 0, 0, 16007]


def test_pauses_grow_and_an_absence_is_said_once() -> None:
    clock = Time()
    source, opened = patient(clock, [])
    tries: list[float] = []
    with source:
        for block in islice(source, 600):
            assert "no such card" in block.absent
            if len(opened) > len(tries):
                tries.append(clock.now)
    assert np.diff(tries).tolist() == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert max(clock.steps) <= 0.5
    assert len(clock.said) == 1


def test_a_source_that_fails_again_and_again_never_makes_it_spin() -> None:
    clock = Time()
    flapping = (Script(clock, None, TONE, GONE) for _ in repeat(None))
    source, opened = patient(clock, flapping)
    with source:
        blocks = list(islice(source, 1000))
    assert clock.now - 100 > 400
    assert len(opened) < 20
    assert sum(block.lost for block in blocks) <= (clock.now - 100) * 16000


def test_after_a_minute_of_hearing_the_first_pause_is_short_again() -> None:
    clock = Time()
    flapping = [Script(clock, None, TONE, GONE) for _ in range(5)]
    source, opened = patient(clock, [*flapping, Script(clock, None, TONE, 61.0, TONE, GONE)])
    with source:
        for _ in source:
            if len(opened) == 7:
                break
    assert clock.steps[-2:] == [0.5, 0.5]
    assert "at first after 1 s" in clock.said[-1]


def test_a_recording_that_ends_is_no_end() -> None:
    clock = Time()
    source, _ = patient(clock, [Script(clock, None, TONE)])
    with source:
        assert [bool(block.absent) for block in islice(source, 2)] == [False, True]
    assert "came to an end" in clock.said[0]


def test_a_program_that_is_missing_at_first_is_said_at_once_and_later_waited_for() -> None:
    clock = Time()
    missing = MissingRequirement("arecord: there is no such program")
    source, _ = patient(clock, [Script(clock, missing)])
    with pytest.raises(MissingRequirement), source:
        pass
    source, opened = patient(
        clock, [Script(clock, None, TONE, GONE), Script(clock, missing), Script(clock, None, TONE)]
    )
    with source:
        assert len(list(islice(source, 8))[-1].samples) == 512
    assert opened[-1].closed == 1


def test_an_interrupted_wait_leaves_nothing_open() -> None:
    clock = Time()
    source, opened = patient(clock, [Script(clock, None, TONE, GONE), Script(clock, None, TONE)])

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    source._sleep = interrupt
    with pytest.raises(KeyboardInterrupt), source:
        list(source)
    assert [script.closed for script in opened] == [1]


def test_an_interrupted_hearing_ends_the_program() -> None:
    made: list[CommandSource] = []

    def open_source() -> CommandSource:
        made.append(CommandSource(["cat", "/dev/zero"]))
        return made[-1]

    def interrupt(block: Block) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), PatientSource(open_source, 16000) as source:
        list(map(interrupt, source))
    assert made[0]._process.returncode == -15


def test_the_source_that_the_settings_ask_for(tmp_path: Path) -> None:
    assert isinstance(source_of(CaptureSettings(wav=tmp_path / "a.wav"), 16000), WavSource)
    program = "import array, os, time; os.write(1, array.array('h', [8192] * 512).tobytes()); time.sleep(60)"
    with source_of(CaptureSettings(command=tuple(python(program))), 16000) as source:
        assert isinstance(source, PatientSource)
        heard = next(block for block in source if len(block.samples))  # none while the program starts
        np.testing.assert_array_equal(heard.samples, np.full(512, 0.25, np.float32))


def test_a_microphone_loads_no_file_reader() -> None:
    program = (
        "import sys; from edge_asd.capture import source_of; from edge_asd.settings import CaptureSettings\n"
        "with source_of(CaptureSettings(command=('true',)), 16000): pass\n"
        "assert 'soundfile' not in sys.modules and 'soxr' not in sys.modules"
    )
    subprocess.run(python(program), check=True, stderr=subprocess.DEVNULL)
