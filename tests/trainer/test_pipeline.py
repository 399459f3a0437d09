"""What training refuses before it touches an earlier run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asd.errors import DataError, TrainingError
from edge_asd_trainer import export
from edge_asd_trainer.config import load
from edge_asd_trainer.pipeline import train
from edge_asd_trainer.run_folder import Provenance, RunFolder, write_json


def test_silent_clips_leave_an_earlier_runs_numbers_as_they_were(tmp_path: Path) -> None:
    folder, clips = RunFolder(tmp_path / "run"), tmp_path / "data" / "fan" / "train"
    write_json(folder.provenance, Provenance("elsewhere", "fan", "paper"))
    folder.write_config(load("paper"))
    before = (folder.provenance.read_bytes(), folder.config.read_bytes())
    clips.mkdir(parents=True)
    for number in range(2):
        soundfile.write(clips / f"section_00_source_train_normal_{number:04d}.wav", np.zeros(48000), 16000)
    with pytest.raises(DataError, match="digital silence"):
        train(tmp_path / "data", "fan", folder, load("demo"), "demo")
    assert (folder.provenance.read_bytes(), folder.config.read_bytes()) == before


CONVERTER = """\
#!/bin/sh
echo "$2" >{told}
echo simpler >"$2"
exit 3
"""


def test_the_converter_gets_a_network_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnx2tf writes a simpler one over it; a power cut or a full disk would leave half of what a stage has made."""
    onnx, converter, told = (tmp_path / name for name in ("network.onnx", "onnx2tf", "told"))
    onnx.write_text("a network")
    converter.write_text(CONVERTER.format(told=told))
    converter.chmod(0o755)
    monkeypatch.setattr(export.shutil, "which", lambda *_, **__: str(converter))
    with pytest.raises(TrainingError, match="exit code 3"):
        export.to_tflite(onnx, np.zeros((1, 128, 64), np.float32))
    assert told.read_text().strip() not in ("", str(onnx))
    assert onnx.read_text() == "a network"
