"""Clips through the daemon score what `edge-asd score` says, window for window and to the last bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asd import bundle as bundles
from edge_asd.audio import read_clip
from edge_asd.capture.wav import WavSource
from edge_asd.scoring import Detector
from edge_asd.window_stream import WindowStream


def said(*arguments: object) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "edge_asd", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_replayed_as_scored(folder: Path, bundle: Path, work: Path) -> None:
    config = work / "device.toml"
    config.write_text(
        f'bundle = "{bundle}"\nsection = "00"\nstate = "{work / "state"}"\n[capture]\nwav = "{folder}"\npace = "fast"\n'
    )
    heard = {line["file"]: line for line in said("run", "--config", config) if line["kind"] == "clip"}
    scored = {Path(str(line["file"])).name: line for line in said("score", folder, "-b", bundle, "--section", "00")}
    assert heard.keys() == scored.keys()
    assert [heard[name]["score"] for name in scored] == [line["score"] for line in scored.values()]
    assert [heard[name]["nearest"] for name in scored] == [line["nearest"] for line in scored.values()]


def test_a_synthetic_plants_clips(tmp_path: Path, plant: Path, tiny_bundle: Path) -> None:
    assert_replayed_as_scored(plant / "fan" / "test", tiny_bundle, tmp_path)


def test_real_clips(tmp_path: Path, real_clips: list[Path], tiny_bundle: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for clip in real_clips:
        shutil.copy(clip, folder)
    assert_replayed_as_scored(folder, tiny_bundle, tmp_path)


@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_every_window_is_the_clips(tmp_path: Path, tiny_bundle: Path, offset: float) -> None:
    """As the network sees it: after quantising, every value of every window is the same."""
    random, path = np.random.default_rng(0), tmp_path / "a.wav"
    rumble = 0.1 * np.sin(2 * np.pi * 0.2 * np.arange(160000) / 16000)  # slower than a window: its mean wanders
    soundfile.write(path, 0.05 * random.standard_normal(160000) + rumble + offset, 16000, subtype="PCM_16")
    detector: Detector = bundles.read(tiny_bundle).detector()
    model, windows = detector.model, detector.windows
    expected = windows.cut(model.prepare(detector.front_end.log_mel(read_clip(path))))
    with WavSource(tmp_path, pace="fast") as source:
        blocks = list(source)
    stream = WindowStream(detector.front_end, windows, padded=True, mean=blocks[0].mean)
    found = [window for block in blocks for _, window in stream.push(block.samples)]
    found += list(stream.finish())
    np.testing.assert_array_equal([model.prepare(window.T).T for window in found], expected)
