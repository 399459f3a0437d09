"""torchaudio's log-mels against the device's own, in a process that finds a torchaudio.

Beside a torch without CUDA torchaudio's libraries can't be loaded, and its Python parts need none of them: CI takes
them away and says by EDGE_ASD_TORCHAUDIO where the rest lies. Elsewhere the torchaudio of this Python is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common import missing
from edge_asd.audio import read_clip
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.windows import Windows
from edge_asd_trainer.features import log_mels

RATE = 16000
LARGEST_DIFFERENCE_DB = 1e-3

Program = Callable[..., str]


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python program where torchaudio can be found."""
    paths = [os.environ.get("EDGE_ASD_TORCHAUDIO", ""), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def with_torchaudio() -> Program:
    """Runs a Python program beside torchaudio, and gives what it printed."""
    found = run("import torchaudio")
    if found.returncode:
        missing(f"torchaudio ({found.stderr.strip().splitlines()[-1]}); EDGE_ASD_TORCHAUDIO may say where it is")

    def program(text: str, *arguments: str) -> str:
        done = run(text, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return program


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples)


def waveforms() -> Iterator[tuple[str, np.ndarray]]:
    seconds = np.arange(10 * RATE) / RATE
    yield "noise", noise(10 * RATE)
    yield "silence", np.zeros(10 * RATE)
    yield "tone", 0.9 * np.sin(2 * np.pi * 1000 * seconds)
    yield "tone between two bins", 0.9 * np.sin(2 * np.pi * 2007.8 * seconds)
    yield "sweep", 0.5 * np.sin(2 * np.pi * 400 * seconds**2)
    yield "constant offset", noise(10 * RATE) + 0.4
    yield "nothing but an offset", np.full(3 * RATE, 0.4)
    yield "one sample", np.eye(1, 4 * RATE, 12345)[0]
    yield "last bits", np.round(noise(5 * RATE) * 6) / 32768
    yield "clipping", np.clip(20 * noise(2 * RATE), -1, 1)
    for samples in (33000, 32768, 32767, 1024, 1023, 512, 511, 1):
        yield f"{samples} samples", noise(samples, samples)


PARITY = """
import sys, numpy as np
from edge_asd_trainer.torchaudio_front_end import TorchaudioFrontEnd
from edge_asd.front_end import FrontEnd
clips = np.load(sys.argv[1])
at_once = dict(zip(clips, TorchaudioFrontEnd(FrontEnd(), "cpu").log_mels(list(clips.values()))))
np.savez(sys.argv[2], **at_once)
"""


def held_to_parity(clips: dict[str, Samples], program: Program, folder: Path) -> None:
    given, found = folder / "clips.npz", folder / "log_mels.npz"
    np.savez(given, **clips)
    program(PARITY, str(given), str(found))
    theirs = np.load(found)
    for name, clip in clips.items():
        ours = FrontEnd().log_mel(clip)
        assert theirs[name].shape == ours.shape, name
        assert np.abs(theirs[name] - ours).max() < LARGEST_DIFFERENCE_DB, name


def test_clips_of_all_lengths_in_one_batch_agree(with_torchaudio: Program, tmp_path: Path) -> None:
    held_to_parity({name: clip.astype(np.float32) for name, clip in waveforms()}, with_torchaudio, tmp_path)


def test_real_clips_agree(with_torchaudio: Program, real_clips: list[Path], tmp_path: Path) -> None:
    held_to_parity({path.name: read_clip(path) for path in real_clips}, with_torchaudio, tmp_path)


def test_the_parameters_mean_the_same_to_torchaudios_own_mel_spectrogram(
    with_torchaudio: Program, tmp_path: Path
) -> None:
    clip = noise(2 * RATE).astype(np.float32)
    clip -= clip.mean(dtype=np.float64)
    np.save(tmp_path / "clip.npy", clip)
    with_torchaudio(
        "import sys, numpy as np, torch\n"
        "from torchaudio.transforms import MelSpectrogram\n"
        "transform = MelSpectrogram(16000, 1024, hop_length=512, n_mels=128, norm='slaney', mel_scale='slaney',\n"
        "    pad_mode='constant')\n"
        "np.save(sys.argv[2], transform(torch.from_numpy(np.load(sys.argv[1]))).numpy())\n",
        *(str(tmp_path / name) for name in ("clip.npy", "power.npy")),
    )
    theirs = 10 * np.log10(np.maximum(np.load(tmp_path / "power.npy"), 2.22e-16)).T
    assert np.abs(theirs - FrontEnd().log_mel(clip)).max() < LARGEST_DIFFERENCE_DB


FROM_FILES = """
import json, sys
from pathlib import Path
from edge_asd.front_end import FrontEnd
from edge_asd.windows import Windows
from edge_asd_trainer.data import training_clips
from edge_asd_trainer import torchaudio_front_end
from edge_asd_trainer.features import log_mels
torchaudio_front_end.SAMPLES_AT_ONCE["cpu"], torchaudio_front_end.CLIPS_AHEAD = 150_000, 3
found = log_mels(training_clips(Path(sys.argv[1]), "fan"), FrontEnd(), Windows(), Path(sys.argv[2]), "torchaudio")
json.dump({"ends": found.ends.tolist(), "fingerprint": found.fingerprint}, sys.stdout)
"""


def write(folder: Path, seconds: Sequence[float]) -> None:
    clips = folder / "fan" / "train"
    clips.mkdir(parents=True)
    for number, length in enumerate(seconds):
        path = clips / f"section_00_source_train_normal_{number:04d}.wav"
        soundfile.write(path, noise(round(length * RATE), number), RATE, subtype="PCM_16")


def test_a_data_sets_log_mels_agree_file_by_file(with_torchaudio: Program, tmp_path: Path) -> None:
    from edge_asd_trainer.data import training_clips

    write(tmp_path, (2.5, 3, 12, 2.5, 2.5, 4, 3, 2.2))
    cache = tmp_path / "run" / "train.npy"
    found = json.loads(with_torchaudio(FROM_FILES, str(tmp_path), str(cache)))
    theirs = np.load(cache)
    ours = log_mels(training_clips(tmp_path, "fan"), FrontEnd(), Windows(), tmp_path / "own" / "train.npy")
    assert found["ends"] == ours.ends.tolist()
    assert found["fingerprint"] != ours.fingerprint
    assert np.abs(theirs - ours.frames).max() < LARGEST_DIFFERENCE_DB


def test_a_clip_that_is_too_short_is_named_and_nothing_is_left(with_torchaudio: Program, tmp_path: Path) -> None:
    write(tmp_path, (2.5, 3, 1, 2.5))
    done = run(FROM_FILES, str(tmp_path), str(tmp_path / "run" / "train.npy"))
    assert "DataError" in done.stderr
    assert "normal_0002.wav: 1.00 s long, one window takes 2.05 s" in done.stderr
    assert list((tmp_path / "run").iterdir()) == []
