"""Sources of sound: the samples that come out are those that went in, and what goes wrong is said."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from edge_asd.capture import AudioSource, Block, command, source_of
from edge_asd.capture.command import CommandSource
from edge_asd.capture.wav import WavSource
from edge_asd.config import CaptureSettings
from edge_asd.errors import CaptureError, MissingRequirement

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


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
    monkeypatch.setattr(command, "DEAF_SECONDS", 0.3)
    program = "import sys, time; sys.stdout.buffer.write(bytes(1024)); sys.stdout.flush(); time.sleep(60)"
    samples, complaint = heard_until_it_ends(CommandSource(python(program)))
    assert len(samples) == 512
    assert complaint.endswith("gave no sample for 0.3 s; it said nothing")


@pytest.mark.parametrize("leader", ["exit 0", "sleep 60"])
def test_what_the_command_started_ends_with_it(tmp_path: Path, leader: str) -> None:
    (tmp_path / "helper").write_text(f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 1; done")
    started = f"sh {tmp_path}/helper & until [ -s {tmp_path}/pid ]; do :; done; head -c 1024 /dev/zero; {leader}"
    with CommandSource(["sh", "-c", started]) as source:
        next(iter(source))
        process = source._process
    assert process.returncode is not None
    helper = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    patience = time.monotonic() + 10  # it was killed, and must be given the time to die
    while helper.exists() and helper.read_text().split()[2] != "Z":  # dead, and nobody has buried it yet
        assert time.monotonic() < patience
        time.sleep(0.01)


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


def test_no_shell_is_between() -> None:
    program = "import sys; sys.stderr.write(sys.argv[1]); sys.exit(1)"
    _, complaint = heard_until_it_ends(CommandSource([*python(program), "$HOME; `id`"]))
    assert complaint.endswith("$HOME; `id`")


def test_the_source_that_the_settings_ask_for(tmp_path: Path) -> None:
    assert isinstance(source_of(CaptureSettings(wav=tmp_path / "a.wav"), 16000), WavSource)
    assert isinstance(source_of(CaptureSettings(command=("arecord",)), 16000), CommandSource)
