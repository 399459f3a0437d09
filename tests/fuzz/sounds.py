"""Sound files: as a clip that is scored, and as what stands for a microphone."""

from __future__ import annotations

import io
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from edge_asd import audio
from edge_asd.capture.mono import MIX
from edge_asd.capture.wav import WavSource
from fuzz import contract, mutations
from fuzz.doors import Door, folder

_MOST_BLOCKS = 50

Kind = Literal["WAV", "FLAC", "WAVEX", "RF64"]


def hear(content: bytes) -> None:
    """A sound file is read as a clip, then listened to, alone and as all that a folder holds."""
    path = _clips() / "a.wav"
    path.write_bytes(content)
    with contract.refusals():
        clip = audio.read_clip(path)
        if clip.dtype != np.float32 or clip.ndim != 1 or not np.isfinite(clip).all():
            raise contract.Breach(f"a clip of {clip.dtype} {clip.shape}, or not finite")
        if len(clip) > 16000 * (audio.LONGEST_CLIP_SECONDS + 1):
            raise contract.Breach(f"{len(clip)} samples of a clip")
    for source in (WavSource(path, channel=0, pace="fast"), WavSource(path.parent, channel=MIX, pace="fast")):
        with contract.refusals(), contract.lines_said(), source:
            for block in islice(source, _MOST_BLOCKS):
                if block.samples.dtype != np.float32 or block.samples.ndim != 1:
                    raise contract.Breach(f"a block of {block.samples.dtype} {block.samples.shape}")


@cache
def _clips() -> Path:
    clips = folder() / "clips"
    clips.mkdir()
    return clips


def _sound(kind: Kind, subtype: str, rate: int = 16000, channels: int = 1, samples: int = 300) -> bytes:
    file = io.BytesIO()
    wave = np.sin(np.arange(samples * channels) / 7).reshape(-1, channels)
    soundfile.write(file, 0.3 * wave, rate, subtype, format=kind)
    return file.getvalue()


def _seeds() -> list[bytes]:
    return [
        _sound("WAV", "PCM_16"),
        _sound("WAV", "PCM_16", 8000, 2),
        _sound("WAV", "PCM_24", 48000),
        _sound("WAV", "FLOAT"),
        _sound("WAV", "DOUBLE", 22050, samples=50),
        _sound("WAV", "ULAW", samples=50),
        _sound("WAV", "IMA_ADPCM"),
        _sound("WAV", "MS_ADPCM"),
        _sound("WAV", "GSM610"),
        _sound("WAV", "PCM_U8", samples=0),
        _sound("WAVEX", "PCM_16", 44100, 4, 60),
        _sound("RF64", "PCM_16", samples=50),
        _sound("FLAC", "PCM_16"),
        _sound("FLAC", "PCM_24", 44100, 2),
        _sound("FLAC", "PCM_S8", samples=20),
    ]


DOORS = (
    Door(
        "sound",
        "WAV and FLAC",
        hear,
        _seeds,
        words=(
            *(
                b"RIFF",
                b"RIFX",
                b"RF64",
                b"WAVE",
                b"fmt ",
                b"data",
                b"fact",
                b"LIST",
                b"INFO",
                b"PEAK",
                b"cue ",
                b"smpl",
            ),
            *(b"bext", b"ds64", b"cart", b"PAD ", b"fLaC", b"\xff\xf8", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"),
            *(b"\x01\x00", b"\x03\x00", b"\x02\x00", b"\x11\x00", b"\x31\x00", b"\xfe\xff", b"\x00\x00\x00\x00"),
        ),
        mutations=(mutations.of_sound,),
        longest=2048,
    ),
)
