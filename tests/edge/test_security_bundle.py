"""A bundle from a stranger: what it claims is bounded before anything is made of it, and what it says is only words."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asd import bundle as bundles
from edge_asd import golden
from edge_asd.audio import read_clip
from edge_asd.clip_name import parse_clip_name
from edge_asd.errors import BundleError, ClipError, ClipNameError
from made_up import some_bundle

MEGABYTE = 1 << 20


def refused(content: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        bundles.decode(content, "fan.easd")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def peak_of(work: Callable[[], object]) -> int:
    """The most memory that some work took, bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def directory(entries: int) -> bytes:
    """A zip that is a list of entries and nothing else, as large as a bundle may be."""
    entry = b"PK\1\2" + struct.pack("<6H3I5H2I", 20, 20, 0, 0, 0, 0x21, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    listed = entry * entries
    return listed + b"PK\5\6" + struct.pack("<4H2IH", 0, 0, entries & 0xFFFF, entries & 0xFFFF, len(listed), 0, 0)


def test_a_list_of_a_million_entries_is_not_read() -> None:
    content = directory(1_300_000)
    assert peak_of(lambda: refused(content)) < MEGABYTE  # 540 MB, before
    assert "has at most 6100" in refused(directory(65_535))


def test_a_list_whose_counts_are_elsewhere_is_not_looked_for() -> None:
    content = bundles.encode(some_bundle())
    record, end = content[-22:], len(content) - 22
    elsewhere = b"PK\6\6" + struct.pack("<Q2H2I4Q", 44, 45, 45, 0, 0, 1, 1, 1 << 40, 0)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, end, 1)
    assert "says its counts in a way" in refused(content[:end] + elsewhere + locator + record)


def with_manifest(change: Callable[[dict], None]) -> bytes:  # type: ignore[type-arg]
    with zipfile.ZipFile(io.BytesIO(bundles.encode(some_bundle()))) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    stated = json.loads(contents["manifest.json"])
    change(stated)
    return bundles.pack({**contents, "manifest.json": json.dumps(stated).encode()})


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("front_end", "sample_rate", 1 << 40),
        ("front_end", "n_fft", 1 << 30),
        ("front_end", "mels", 1 << 30),
        ("windows", "frames", 1 << 30),
        ("", "dimensions", 1 << 30),
        ("", "made", 1 << 70),
        ("quantisation", "weights", "\x1b[2J"),
        ("quantisation", "activations", "[link=file:///etc/passwd]int8[/link]"),
        ("golden", "runtime", "litert\nedge-asd: all is well"),
    ],
)
def test_numbers_and_words_that_can_not_be(part: str, key: str, value: object) -> None:
    def change(stated: dict) -> None:  # type: ignore[type-arg]
        (stated[part] if part else stated)[key] = value

    content = with_manifest(change)
    assert peak_of(lambda: refused(content)) < 8 * MEGABYTE
    assert "manifest.json is not valid" in refused(content)


def named(*clips: str) -> bytes:
    bundle = some_bundle()
    bank = replace(bundle.banks["00"]["embedding"], clips=clips)
    return bundles.encode(replace(bundle, banks={"00": {"embedding": bank}}))


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07.wav", "a.wav\nALERT: all is well", "\u202egpj.wav", "a" * 256])
def test_a_clip_is_called_what_a_person_can_read(name: str) -> None:
    """It is shown with every alert: in logs, on terminals, on the page, to every receiver."""
    assert "does not describe the bank" in refused(named("a.wav", "b.wav", name))


def test_a_clip_may_be_called_so_in_any_language() -> None:
    clips = ("Lüfter 3.wav", "風扇.wav", "a" * 255)
    assert bundles.decode(named(*clips), "fan.easd").banks["00"]["embedding"].clips == clips


def test_a_recording_whose_name_no_bundle_may_repeat_is_refused_before_it_is_trained_on() -> None:
    with pytest.raises(ClipNameError, match="rename it"):
        parse_clip_name("section_00_source_train_normal_0000_\x1b[2J.wav")
    assert parse_clip_name("section_00_source_train_normal_0000_Lüfter.wav").attributes == "Lüfter"


def sound(samples: np.ndarray, rate: int, kind: str, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def golden_of(content: bytes) -> np.ndarray:
    return golden.waveform(replace(some_bundle(), golden_wav=content))


def test_a_golden_clip_that_unpacks_to_gigabytes_is_not_unpacked() -> None:
    silence = np.zeros(16000 * 1200, np.int16)
    bomb = sound(silence, 16000, "FLAC")
    assert len(bomb) < len(silence) / 100
    for content, says in (
        (bomb, "no WAV"),
        (sound(silence[: 16000 * 601], 16000, "WAV", "PCM_U8"), "of 600 s at most"),
        (sound(np.zeros((10, 64), np.int16), 16000, "WAV"), "not mono"),
        (sound(silence[:10], 384_000, "WAV"), "not mono at 16000 Hz"),
        (b"RIFF\xff\xff\xff\xffWAVE", "can't be read"),
    ):
        with pytest.raises(BundleError, match=says):
            golden_of(content)


def test_a_header_that_claims_a_billion_samples_gets_what_is_there() -> None:
    content = bytearray(sound(np.arange(10, dtype=np.int16), 16000, "WAV"))
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", 4_000_000_000)
    assert len(golden_of(bytes(content))) <= 10


def test_a_clip_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    """Ten minutes are allowed, and eight channels at 96 kHz make 1.8 GB of them."""
    path = tmp_path / "bomb.flac"
    with soundfile.SoundFile(path, "w", 96_000, 8, "PCM_16", format="FLAC") as file:
        block = np.zeros((96_000, 8), np.int16)
        for _ in range(90):
            file.write(block)
    assert path.stat().st_size < 2 * MEGABYTE
    with pytest.raises(ClipError, match="a clip has at most"):
        read_clip(path)
