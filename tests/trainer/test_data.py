from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asd import files
from edge_asd.clip_name import parse_clip_name
from edge_asd.errors import ClipNameError, DataError, EdgeAsdError, StorageError
from edge_asd.front_end import FrontEnd
from edge_asd.windows import Windows
from edge_asd_trainer.data import evaluation_clips, machines, training_clips
from edge_asd_trainer.features import log_mels


@pytest.mark.parametrize(
    ("name", "section", "domain", "label", "attributes"),
    [
        (
            "section_00_source_train_normal_0362_car_C2_spd_31V_mic_1.wav",
            "00",
            "source",
            "normal",
            "car_C2_spd_31V_mic_1",
        ),
        ("section_00_target_test_anomaly_0044_pat_03.wav", "00", "target", "anomaly", "pat_03"),
        ("section_01_source_test_anomaly_0022_m-n_W.flac", "01", "source", "anomaly", "m-n_W"),
        ("section_02_source_train_normal_0001.wav", "02", "source", "normal", ""),
        ("section_03_0000.wav", "03", None, None, ""),
        ("section_03_test_0000.wav", "03", None, None, ""),
        ("normal_id_00_00000000.wav", "00", "source", "normal", ""),
        ("anomaly_id_06_00000012.wav", "06", "source", "anomaly", ""),
    ],
)
def test_a_name_says_what_it_is(
    name: str, section: str, domain: str | None, label: str | None, attributes: str
) -> None:
    for form in (name, f"/some/section_09_target_test_anomaly/{name}"):
        parsed = parse_clip_name(form)
        assert (parsed.section, parsed.domain, parsed.label, parsed.attributes) == (section, domain, label, attributes)


@pytest.mark.parametrize(
    "name", ["fan.wav", "section_0_source_train_normal_0000.wav", "section_00_train_normal_0.wav", ""]
)
def test_a_name_that_says_nothing_is_refused(name: str) -> None:
    with pytest.raises(ClipNameError, match=r"expected the form section_00_source_train_normal_0000\.wav"):
        parse_clip_name(name)


def write(path: Path, seconds: float = 3.0, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16000))
    soundfile.write(path, noise, 16000, subtype="PCM_16")


def name(number: int, section: str = "00", label: str = "normal", split: str = "train") -> str:
    return f"section_{section}_source_{split}_{label}_{number:04d}.wav"


def test_clips_come_sorted_by_name_from_both_halves_of_the_challenge(tmp_path: Path) -> None:
    write(tmp_path / "dev_data/fan/train" / name(1))
    write(tmp_path / "dev_data/fan/train" / name(0))
    for number in (0, 1):
        write(tmp_path / "eval_data/fan/train" / name(number, "03"))
    write(tmp_path / "eval_data/fan/test" / "section_03_0000.wav")
    (tmp_path / "recordings").mkdir()
    assert machines(tmp_path) == ["fan"]
    assert [clip.path.name for clip in training_clips(tmp_path, "fan")] == [
        name(0),
        name(1),
        name(0, "03"),
        name(1, "03"),
    ]
    assert [clip.name.label for clip in evaluation_clips(tmp_path, "fan", {"03"})] == [None]


def test_a_test_clip_of_a_section_that_was_never_trained_is_named(tmp_path: Path) -> None:
    write(tmp_path / "fan/test" / name(0, "05", split="test"))
    with pytest.raises(
        DataError, match="belongs to section 05, of which there are no training clips; there are some of 00"
    ):
        evaluation_clips(tmp_path, "fan", ["00"])


def test_what_is_wrong_with_a_data_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        training_clips(tmp_path / "none", "fan")
    write(tmp_path / "pump/train" / name(0))
    with pytest.raises(DataError, match=r"fan/train: no clips there.*machine types found in .*: pump"):
        training_clips(tmp_path, "fan")
    with pytest.raises(DataError, match="section 00 has one clip only"):
        training_clips(tmp_path, "pump")
    write(tmp_path / "pump/train" / name(0, label="anomaly"))
    with pytest.raises(DataError, match="an anomalous clip among the training clips"):
        training_clips(tmp_path, "pump")


def test_log_mels_are_computed_once_and_again_when_a_clip_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write(tmp_path / "fan/train" / name(number), seconds=2.5 + number, seed=number)
    clips = training_clips(tmp_path, "fan")
    cache = tmp_path / "run" / "train.npy"
    first = log_mels(clips, FrontEnd(), Windows(), cache)
    for index, clip in enumerate(clips):
        waveform = soundfile.read(clip.path, dtype="float32")[0]
        np.testing.assert_array_equal(first[index], FrontEnd().log_mel(waveform))
    made = cache.stat().st_mtime_ns

    assert log_mels(clips, FrontEnd(), Windows(), cache).fingerprint == first.fingerprint
    assert cache.stat().st_mtime_ns == made
    write(tmp_path / "fan/train" / name(1), seconds=3.5, seed=9)
    again = log_mels(clips, FrontEnd(), Windows(), cache)
    assert cache.stat().st_mtime_ns != made
    assert again.fingerprint != first.fingerprint
    assert len(again[1]) == FrontEnd().frames(56000)


def test_an_index_never_vouches_for_frames_of_other_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, changing = tmp_path / "run" / "train.npy", tmp_path / "fan/train" / name(0)
    write(tmp_path / "fan/train" / name(1), seed=1)

    def transformed(seed: int) -> np.ndarray:
        write(changing, seed=seed)
        return np.array(log_mels(training_clips(tmp_path, "fan"), FrontEnd(), Windows(), cache)[0])

    def full(path: Path, _: bytes) -> None:
        raise StorageError(f"{path}: could not be written")

    first = transformed(seed=0)
    with monkeypatch.context() as disk:
        disk.setattr(files, "write_bytes", full)
        with pytest.raises(StorageError):
            transformed(seed=2)
    np.testing.assert_array_equal(transformed(seed=0), first)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"not a sound file at all", "not a sound file"), (None, r"1.00 s long, one window takes 2.05 s")],
)
def test_a_clip_that_can_not_be_used_is_named_and_nothing_is_left(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    for number in range(2):
        write(tmp_path / "fan/train" / name(number))
    bad = tmp_path / "fan/train" / name(2)
    if content is None:
        write(bad, seconds=1.0)
    else:
        bad.write_bytes(content)
    with pytest.raises(EdgeAsdError, match=says) as error:
        log_mels(training_clips(tmp_path, "fan"), FrontEnd(), Windows(), tmp_path / "run" / "train.npy")
    assert str(bad) in str(error.value)
    assert list((tmp_path / "run").iterdir()) == []
