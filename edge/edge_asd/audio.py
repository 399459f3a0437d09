"""Sound files to waveforms: read, check, mix down, resample."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_asd.errors import ClipError
from edge_asd.front_end import Samples

if TYPE_CHECKING:
    from soundfile import SoundFile

log = logging.getLogger(__name__)

LONGEST_CLIP_SECONDS = 600.0
MOST_SAMPLES = 64 << 20  # of all channels: a quarter of a gigabyte, or ten minutes in stereo at 48 kHz
SOUND_FILES = {".wav", ".flac"}
_RIFF = (b"RIFF", b"RIFX", b"RF64")
_A_STEP_OF_16_BITS = np.float32(2.0**-15)


def sound_files(folder: Path, *, below: bool = False) -> list[Path]:
    """The WAV and FLAC files in a folder, with `below` in those under it too, sorted; hidden ones don't count.

    Raises:
        ClipError: the folder can't be searched.
    """
    found = folder.rglob("*") if below else folder.glob("*")
    with _refusals(folder):
        return sorted(
            path for path in found if path.suffix.lower() in SOUND_FILES and path.name[0] != "." and path.is_file()
        )


def read_clip(path: Path, sample_rate: int = 16000) -> Samples:
    """One clip, mono, at the given rate, in [-1, 1].

    Several channels are averaged and another rate is resampled (soxr, high quality); each is said in a log line.

    Raises:
        ClipError: no such file, not a sound file, empty, longer than ten minutes, of too many samples, or not finite.
    """
    import soundfile  # here, for a daemon that listens to a microphone never needs it

    with _refusals(path):
        if not path.is_file():
            raise ClipError(f"{path}: there is no such file; give the path of a WAV or FLAC file.")
        size = path.stat().st_size
    try:
        with opened(path) as file:
            rate, seconds = file.samplerate, file.frames / file.samplerate
            if seconds > LONGEST_CLIP_SECONDS:
                raise ClipError(
                    f"{path}: {seconds:.0f} s long, a clip is at most {LONGEST_CLIP_SECONDS:.0f} s; "
                    "cut it, or stream it through `edge-asd run`."
                )
            if file.frames * file.channels > MOST_SAMPLES:
                raise ClipError(
                    f"{path}: {file.channels} channels of {file.frames} samples, a clip has at most {MOST_SAMPLES} in "
                    "all; cut it, or take the channels that are needed."
                )
            # Of 16 bits the samples come as they are: libsndfile scales them to the same values, one by one.
            whole_numbers = file.subtype == "PCM_16"
            # How many is said: where nothing can be sought (GSM 6.10), soundfile doesn't know how many are left.
            channels = file.read(file.frames, dtype="int16" if whole_numbers else "float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        found = "empty (0 bytes)" if size == 0 else f"not a sound file that can be read ({error})"
        raise ClipError(f"{path}: {found}; expected WAV or FLAC.") from error
    if not len(channels):
        raise ClipError(f"{path}: holds no samples; record it again or remove it.")
    if whole_numbers:
        channels = channels * _A_STEP_OF_16_BITS
    elif not np.isfinite(channels).all():
        raise ClipError(f"{path}: holds samples that are not finite (NaN or infinity); record it again or remove it.")
    return to_mono(channels, rate, sample_rate, str(path))


def opened(path: Path) -> SoundFile:
    """A WAV or FLAC file, opened, by its first bytes: libsndfile would open thirty formats, whatever a file is called.

    What a stranger sends reaches so two decoders in place of dozens, of which some write to standard error.

    Raises:
        soundfile.SoundFileError, OSError: it isn't one, or can't be read.
    """
    import soundfile

    with path.open("rb") as file:
        begin = file.read(12)
    if not begin.startswith(b"fLaC") and not (begin.startswith(_RIFF) and begin.endswith(b"WAVE")):
        raise soundfile.SoundFileRuntimeError("it begins as neither")
    return soundfile.SoundFile(path)


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the system doesn't let us look at, as our own error. Raises: ClipError."""
    try:
        yield
    except OSError as error:
        raise ClipError(f"{error.filename or path}: can't be read ({error.strerror}); mend the permissions.") from error


def to_mono(channels: Samples, rate: int, sample_rate: int, name: str) -> Samples:
    """(samples, channels) at `rate` to (samples,) at `sample_rate`."""
    if channels.shape[1] == 1:
        mono: Samples = channels[:, 0]
    else:
        log.info("%s: %d channels mixed down to one", name, channels.shape[1])
        mono = channels.mean(axis=1, dtype=np.float32)
    if rate == sample_rate:
        return mono
    import soxr

    log.info("%s: resampled from %d Hz to %d Hz", name, rate, sample_rate)
    resampled: Samples = soxr.resample(mono, rate, sample_rate, quality="HQ")
    return resampled
