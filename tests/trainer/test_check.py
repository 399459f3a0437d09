"""What `edge-asd data check` finds, each thing by itself, and that training refuses exactly what it calls an error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
import soundfile

from common import ROOT
from edge_asd.audio import read_clip
from edge_asd.clip_name import parse_clip_name
from edge_asd.errors import DataError, EdgeAsdError
from edge_asd.front_end import FrontEnd, Samples
from edge_asd.windows import Windows
from edge_asd_trainer.data import check as checks
from edge_asd_trainer.data import evaluation_clips, training_clips
from edge_asd_trainer.data.check import check, hear
from edge_asd_trainer.data.check_report import as_text
from edge_asd_trainer.data.comparisons import of_machine
from edge_asd_trainer.data.findings import KINDS, Finding, HeardClip, Split, of_clip
from edge_asd_trainer.data.measures import Measures, measure

RATE = 16000


def noise(seconds: float = 3.0, seed: int = 0, level: float = 0.1, rate: int = RATE) -> Samples:
    return np.random.default_rng(seed).normal(0, level, round(seconds * rate)).astype(np.float32)


def write(path: Path, samples: Samples, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def name(number: int, section: str = "00", label: str = "normal", split: str = "train", domain: str = "source") -> str:
    return f"section_{section}_{domain}_{split}_{label}_{number:04d}.wav"


# --- one clip


def found_in(samples: Samples, rate: int = RATE) -> dict[str, str]:
    """Kinds and messages of what is wrong with a sound."""
    sound = samples if samples.ndim == 2 else samples[:, None]
    clip = HeardClip(Path("x.wav"), "train", parse_clip_name(name(0)), measure(sound, rate))
    return {finding.kind: finding.message for finding in of_clip(clip, FrontEnd(), Windows())}


def with_stretch(value: float) -> Samples:
    samples = noise()
    samples[16000:17600] = value
    return samples


def with_peaks(share: float) -> Samples:
    samples = noise(level=0.01)
    samples[: round(share * len(samples))] = np.where(np.arange(round(share * len(samples))) % 2, 1.0, -1.0)
    return samples


def with_offset(value: float) -> Samples:
    return noise() + np.float32(value)


SILENT = np.zeros(48000, np.float32)


@pytest.mark.parametrize(
    ("samples", "kind", "says"),
    [
        (SILENT, "silent", "every sample has the same value, expected a machine's sound"),
        (SILENT + np.float32(0.25), "silent", "same value"),
        (np.stack([SILENT, SILENT], axis=1), "silent", "same value"),
        (np.stack([noise(), SILENT, noise(seed=1)], axis=1), "dead-channel", "channel 2 of 3"),
        (with_stretch(0.0), "stuck", r"from 1\.00 s on the same value for 0\.10 s"),
        (with_stretch(0.3), "stuck", "were samples lost"),
        (with_peaks(0.0012), "clipped", r"0\.121? % of the samples are at full scale, expected at most 0\.1 %"),
        (np.stack([with_peaks(0.0012), noise()], axis=1), "clipped", "full scale"),
        (with_offset(0.06), "offset", r"off zero by 6 % of full scale, expected at most 5 %"),
        (with_offset(-0.06), "offset", r"off zero by -6"),
        (noise(2.0), "short", r"2\.00 s long, one window takes 2\.05 s; record longer"),
    ],
)
def test_a_clip_with_a_fault_is_said_to_have_that_one(samples: Samples, kind: str, says: str) -> None:
    found = found_in(samples)
    assert list(found) == [kind]
    assert re.search(says, found[kind]), found[kind]


@pytest.mark.parametrize(
    "samples",
    [noise(), with_peaks(0.0009), with_offset(0.04), noise(level=0.0002), np.stack([noise(), noise(seed=1)], axis=1)],
)
def test_a_clip_without_a_fault_has_none(samples: Samples) -> None:
    assert found_in(samples) == {}


def test_below_16_khz_the_upper_bands_are_empty() -> None:
    assert found_in(noise(rate=44100), 44100) == {}
    found = found_in(noise(rate=8000), 8000)
    assert list(found) == ["low-rate"]
    assert "the mel bands above 4000 Hz are empty; expected 16000 Hz or more" in found["low-rate"]


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_a_clip_is_short_exactly_where_training_says_so(tmp_path: Path, rate: int) -> None:
    border = 63 * 512 * rate // 16000
    for count in range(border - 2, border + 3):
        path = write(tmp_path / f"{count}.wav", noise(count / rate, rate=rate), rate)
        trains = Windows().count(len(FrontEnd().log_mel(read_clip(path)))) > 0
        assert ("short" not in found_in(read_clip(path, rate), rate)) == trains


def test_a_stretch_is_found_to_the_sample() -> None:
    m = measure(with_stretch(0.3)[:, None], RATE)
    assert (m.stuck_at, m.stuck_seconds) == (1.0, 0.1)


def test_what_is_measured(tmp_path: Path) -> None:
    seconds = np.arange(4 * 44100) / 44100
    sine = (0.5 * np.sin(2 * np.pi * 100 * seconds)).astype(np.float32)
    path = write(tmp_path / name(0), np.stack([sine + 0.1, sine + 0.1], axis=1), 44100, "PCM_24")
    clip = hear("train", path)
    m = clip.measures
    assert m is not None
    assert (m.seconds, m.sample_rate, m.channels, m.dead_channels) == (4.0, 44100, 2, [])
    assert m.level == pytest.approx(-9.03, abs=0.01)  # of a sine of half the full scale
    assert m.offset == pytest.approx(0.1, abs=1e-5)
    flac = tmp_path / "other.flac"
    soundfile.write(flac, soundfile.read(path, dtype="int32")[0], 44100, subtype="PCM_24")
    other = hear("train", flac)
    assert other.measures
    assert other.measures.content == m.content
    assert list(other.refusals) == ["clip-name"]


# --- a machine's clips


def heard(
    number: int,
    section: str = "00",
    split: Split = "train",
    label: str = "normal",
    domain: str = "source",
    **changes: float | str,
) -> HeardClip:
    values = {
        "seconds": 10.0,
        "sample_rate": RATE,
        "channels": 1,
        "level": -30.0 + 0.1 * (number % 5),
        "offset": 0.0,
        "clipped": 0.0,
        "stuck_seconds": 0.0,
        "stuck_at": 0.0,
        "dead_channels": [],
        "content": f"{section}{split}{label}{number}",
    }
    path = Path("fan", split, name(number, section, label, split, domain))
    return HeardClip(path, split, parse_clip_name(path.name), Measures(**{**values, **changes}))  # type: ignore[arg-type]


def section(number: str = "00", train: int = 50, test: int = 2) -> list[HeardClip]:
    return [
        *(heard(n, number) for n in range(train)),
        *(heard(n, number, "test", label) for n in range(test) for label in ("normal", "anomaly")),
    ]


def found_among(clips: list[HeardClip], machine: str = "fan") -> list[Finding]:
    ordered = sorted(clips, key=lambda clip: clip.split != "train")
    return list(of_machine(machine, Path("fan/train"), ordered))


GOOD = section("00") + section("01")


@pytest.mark.parametrize(
    ("clips", "kind", "place", "says"),
    [
        (
            section("00", 49) + section("01"),
            "few",
            "fan/train",
            "section 00 has 49 training clips, expected 50 or more",
        ),
        ([*GOOD, heard(0, "02")], "single", f"fan/train/{name(0, '02')}", "the only training clip of section 02"),
        (section("00"), "one-section", "fan/train", "section 00 alone, so fine-tuning will be left out"),
        (section("00", test=0) + section("01", test=0), "no-test-clips", "fan/test", "no clips there"),
        (section("00", train=0), "no-training-clips", "fan/train", "expected WAV or FLAC"),
        ([*GOOD, heard(0, "05", "test")], "untrained-section", "05", "section 05, .* there are some of 00, 01"),
        (
            [*GOOD, heard(99, sample_rate=44100)],
            "sample-rate",
            "0099",
            "44100 Hz, expected 16000 Hz as 108 of 109 clips",
        ),
        ([*GOOD, heard(99, channels=2)], "channels", "0099", "2 channels, expected 1 channels"),
        ([*GOOD, heard(99, seconds=11.2)], "length", "0099", r"11\.2 s long, expected about 10\.0 s"),
        ([*GOOD, heard(99, level=-24.0)], "level", "0099", r"a level of -24\.0 dB, expected -29\.8 ± 1\.0 dB"),
        ([*GOOD, heard(99, level=-36.0)], "level", "0099", "was the gain"),
        ([*GOOD, heard(99, content="00trainnormal7")], "twice", "train.*0099", "0007.wav: their distance is 0"),
        (
            [*GOOD, heard(9, split="test", content="00trainnormal7")],
            "twice",
            "test/.*_0009",
            "learnt what it is tested on",
        ),
        ([*GOOD, heard(9, split="test", content="00testanomaly0")], "twice", "test/.*_0009", "it counts twice"),
    ],
)
def test_a_machine_with_a_fault_is_said_to_have_that_one(
    clips: list[HeardClip], kind: str, place: str, says: str
) -> None:
    [finding] = found_among(clips)
    assert (finding.kind, finding.severity) == (kind, KINDS[kind])
    assert re.search(place, finding.place)
    assert re.search(says, finding.message), finding.message


@pytest.mark.parametrize(
    "clips",
    [
        GOOD,
        [*GOOD, heard(99, level=-25.5)],  # within the spread of a section
        [*GOOD, heard(99, split="test", label="anomaly", level=-5.0)],  # a fault may be loud
        [*GOOD, *(heard(n, domain="target", level=-10.0) for n in range(90, 94))],  # another domain, and few of it
        [*GOOD, heard(99, seconds=10.9)],
        [
            heard(n, f"0{n % 2}", split, seconds=3.0 * 1.3 ** (n % 20))
            for n in range(100)
            for split in ("train", "test")
        ],
    ],
)
def test_a_machine_without_a_fault_has_none(clips: list[HeardClip]) -> None:
    assert found_among(clips) == []


def test_silence_everywhere_is_an_error_for_training_refuses_it() -> None:
    silent = [heard(n, section, level=None, content="0") for section in ("00", "01") for n in range(50)]  # type: ignore[arg-type]
    assert [finding.kind for finding in found_among([*silent, heard(0, split="test")])] == ["all-silent"]
    assert not {"all-silent", "twice"} & {finding.kind for finding in found_among([*silent, heard(51)])}


def test_a_machines_name_must_do_for_a_bundle() -> None:
    assert [finding.kind for finding in found_among(GOOD, "fan 1")] == ["machine-name"]


# --- a folder


def everything_wrong(folder: Path) -> Path:
    for section in ("00", "01"):
        for number in range(3):
            write(folder / "fan/train" / name(number, section), noise(seed=number + 10 * int(section)))
    train, test = folder / "fan/train", folder / "fan/test"
    write(train / "pump 1.wav", noise(seed=100))
    write(train / name(3, label="anomaly"), noise(seed=101))
    (train / name(4)).write_bytes(b"")
    (train / name(5)).write_bytes(b"RIFF....WAVE")
    write(train / name(6), np.full(48000, np.nan, np.float32), subtype="FLOAT")
    write(train / name(7), noise(1.0, seed=102))
    write(train / name(8), np.stack([noise(seed=103, rate=48000)] * 2, axis=1), 48000)
    write(test / name(0, split="test"), noise(seed=10))
    write(test / "section_07_0000.wav", noise(seed=104))
    write(train / "monday" / name(0), noise(seed=105))
    (train / "memo.mp3").touch()
    write(folder / "valve/test" / name(0, split="test"), noise(seed=106))
    (folder / "notes").mkdir()
    return folder


def test_everything_that_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    data = everything_wrong(tmp_path)
    report = check(data, processes=1)
    fan, valve = report.machines
    by_kind: dict[str, list[str]] = {}
    for finding in fan.findings:
        by_kind.setdefault(finding.kind, []).append(str(Path(finding.place).relative_to(data / "fan")))
    assert by_kind == {
        "anomaly": [f"train/{name(3, label='anomaly')}"],
        "clip-name": ["train/pump 1.wav"],
        "short": [f"train/{name(7)}"],
        "unreadable": [f"train/{name(number)}" for number in (4, 5, 6)],
        "untrained-section": ["test/section_07_0000.wav"],
        "channels": [f"train/{name(8)}"],
        "few": ["train", "train"],
        "length": [f"train/{name(7)}"],
        "not-taken": ["train/memo.mp3", f"train/monday/{name(0)}"],
        "sample-rate": [f"train/{name(8)}"],
        "twice": [f"test/{name(0, split='test')}"],
    }
    assert [finding.kind for finding in valve.findings] == ["no-training-clips"]
    assert (report.errors, report.warnings) == (8, 8)
    severities = [finding.severity for finding in fan.findings]
    assert severities == sorted(severities)


def test_the_summary_counts_what_there_is(tmp_path: Path) -> None:
    report = check(everything_wrong(tmp_path), ["fan"], processes=1)
    lines = as_text(report).splitlines()
    table = lines[lines.index("") + 1 : -2]
    assert [" ".join(line.split()) for line in table] == [
        "machine section domain train test normal test anomaly test unlabelled minutes Hz channels",
        "fan 00 source 9 1 - - 0.3 16000/48000 1/2",
        "fan 01 source 3 - - - 0.1 16000 1",
        "fan 07 - - - - 1 0.1 16000 1",
        "fan ? ? 1 - - - 0.1 16000 1",
    ]
    assert lines[-1] == "7 errors, 8 warnings: training would refuse this."
    assert f"error: {tmp_path}/fan/train/{name(4)}: empty (0 bytes); expected WAV or FLAC." in lines


def test_a_thousand_times_the_same_is_said_ten_times(tmp_path: Path) -> None:
    for number in range(14):
        write(tmp_path / "fan/train" / name(number), np.zeros(48000, np.float32))
    lines = as_text(check(tmp_path, processes=2)).splitlines()
    assert sum("every sample has the same value" in line for line in lines) == 10
    assert "warning: fan: 4 more like these; --json names them all." in lines


def test_both_halves_of_the_challenge_are_one_set(tmp_path: Path) -> None:
    for half, section in (("dev_data", "00"), ("eval_data", "03")):
        for number in range(2):
            write(tmp_path / half / "fan/train" / name(number, section), noise(seed=number + int(section)))
    [fan] = check(tmp_path, processes=1).machines
    assert [row.section for row in fan.sections] == ["00", "03"]
    assert {finding.kind for finding in fan.findings} == {"few", "no-test-clips"}


@pytest.mark.parametrize(
    ("folder", "wanted", "says"),
    [
        ("none", [], "there is no such folder"),
        ("", ["pump"], "there is no machine pump in it; it has fan"),
        ("fan", [], "is one machine's own folder; give the one above it"),
        ("fan/train", [], "holds no machine's folder; expected normal clips in .*/<machine>/train"),
    ],
)
def test_a_folder_that_cant_be_checked_is_refused(tmp_path: Path, folder: str, wanted: list[str], says: str) -> None:
    write(tmp_path / "fan/train" / name(0), noise())
    with pytest.raises(DataError, match=says):
        check(tmp_path / folder, wanted)


# --- as training sees it


def nothing(_: Path) -> None:
    """Leave the folder as it is."""


def misnamed(folder: Path) -> None:
    (folder / "train" / name(0)).rename(folder / "train/fan.wav")


def misnamed_test(folder: Path) -> None:
    write(folder / "test/fan.wav", noise(seed=20))


def anomalous(folder: Path) -> None:
    write(folder / "train" / name(9, label="anomaly"), noise(seed=21))


def alone(folder: Path) -> None:
    write(folder / "train" / name(9, "02"), noise(seed=22))


def untrained(folder: Path) -> None:
    write(folder / "test" / name(9, "02", split="test"), noise(seed=23))


def emptied(folder: Path) -> None:
    for path in (folder / "train").iterdir():
        path.unlink()


def unlabelled(folder: Path) -> None:
    write(folder / "train/section_00_0009.wav", noise(seed=24))
    write(folder / "test/section_00_0009.wav", noise(seed=25))


@pytest.mark.parametrize(
    ("spoil", "refused"),
    [
        (nothing, False),
        (unlabelled, False),
        (misnamed, True),
        (misnamed_test, True),
        (anomalous, True),
        (alone, True),
        (untrained, True),
        (emptied, True),
    ],
)
def test_training_refuses_what_the_check_calls_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], refused: bool
) -> None:
    for section in ("00", "01"):
        for number in range(2):
            write(tmp_path / "fan/train" / name(number, section), noise(seed=number + 10 * int(section)))
    spoil(tmp_path / "fan")
    monkeypatch.setattr(checks, "_heard", lambda files, _: (hear(split, path) for split, path in files))
    assert bool(check(tmp_path).errors) == refused

    def as_training_does() -> None:
        clips = training_clips(tmp_path, "fan")
        evaluation_clips(tmp_path, "fan", {clip.name.section for clip in clips})

    if refused:
        with pytest.raises(EdgeAsdError):
            as_training_does()
    else:
        as_training_does()


def test_the_command_says_it_and_leaves_with_1_on_errors(tmp_path: Path, edge_asd: list[str]) -> None:
    data = everything_wrong(tmp_path)
    done = run([*edge_asd, "data", "check", str(data), "--machine", "fan", "--json"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"edge-asd: {data}: 7 errors, 8 warnings: training would refuse this. Mend")
    assert done.stderr.count("\n") == 1
    report = json.loads(done.stdout)
    assert (report["errors"], report["warnings"]) == (7, 8)
    [fan] = report["machines"]
    assert fan["findings"][0] == {
        "severity": "error",
        "kind": "anomaly",
        "place": f"{data}/fan/train/{name(3, label='anomaly')}",
        "message": "an anomalous clip among the training clips, which must all be normal; move it to the test folder.",
    }
    assert fan["sections"][0]["seconds"] == pytest.approx(19.0)


def test_the_synthetic_plant_has_no_error(plant: Path, edge_asd: list[str]) -> None:
    done = run([*edge_asd, "data", "check", str(plant)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("0 errors, 2 warnings: training can begin, but look at the warnings first.\n")
    assert done.stdout.count("has 8 training clips, expected 50 or more") == 2


def test_real_clips_sound_without_a_fault(real_clips: list[Path]) -> None:
    for path in real_clips:
        found = of_clip(hear("test", path), FrontEnd(), Windows())
        assert {finding.kind for finding in found} <= {"clip-name"}, (
            path
        )  # they were renamed, with the machine in front


def test_the_documentation_lists_every_kind() -> None:
    text = (ROOT / "docs" / "data.md").read_text()
    for kind, severity in KINDS.items():
        assert f"| `{kind}` | {severity} |" in text
