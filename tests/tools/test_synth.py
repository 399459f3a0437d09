"""The synthetic plant: its layout, its physics, and that it is there whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from common import interrupted
from edge_asd.errors import StorageError, UsageError
from edge_asd.front_end import FrontEnd
from edge_asd_tools.synth import writing
from edge_asd_tools.synth.acoustics import Resonance, Room, radiate, structure
from edge_asd_tools.synth.commands import synth
from edge_asd_tools.synth.faults import KINDS, LEVELS_DB, Fault, FaultKind, bearing
from edge_asd_tools.synth.machines import Bearing, OperatingPoint, rotation
from edge_asd_tools.synth.plant import RECORDED_SEVERITY, Plan
from edge_asd_tools.synth.recording import Onset, Pcm, Take, machine_sound, record
from edge_asd_tools.synth.signals import SAMPLE_RATE, Line, locked_tones, rms, shaped_noise
from edge_asd_tools.synth.units import FANS, GEARBOXES, PLANT, SECTIONS

SMALL: dict[str, Any] = {
    "sections": 2,
    "train_clips": 2,
    "target_clips": 1,
    "test_clips": 8,
    "seconds": 1.0,
    "recording_seconds": 3.0,
    "fault_at": 1.5,
    "jobs": 1,
}
NAME = re.compile(
    r"section_(?P<section>\d\d)_(?P<domain>source|target)_(?P<split>train|test)_(?P<label>normal|anomaly)"
    r"_(?P<index>\d{4})_spd_(?P<spd>\d+)_load_(?P<load>[1-4])\.wav"
)


def seed_of(*key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([99, *key])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def statistics(pcm: Pcm) -> np.ndarray:
    """Mean and deviation over time of the log-mel, (256,)."""
    log_mel = FrontEnd().log_mel(pcm.astype(np.float32) / 32768)[2:-2]
    return np.concatenate([log_mel.mean(axis=0), log_mel.std(axis=0)])


def oddness(bank: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Shrunk Mahalanobis distances of (n, 256) to the (m, 256) of normal clips, (n,)."""
    covariance = np.cov(bank.T)
    covariance = 0.9 * covariance + 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    centred = clips - bank.mean(axis=0)
    return np.sqrt(np.einsum("ij,jk,ik->i", centred, np.linalg.inv(covariance), centred))


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "plant"
    synth(out, **SMALL)
    return out


class TestLayout:
    def test_every_clip_has_a_name_of_the_layout_and_its_place(self, plant: Path) -> None:
        found: dict[tuple[str, ...], list[int]] = {}
        for path in plant.glob("*/t*/*"):
            name = NAME.fullmatch(path.name)
            assert name, path.name
            assert name["split"] == path.parent.name
            kind = (path.parts[-3], name["section"], name["domain"], name["split"], name["label"])
            found.setdefault(kind, []).append(int(name["index"]))
        expected = {}
        for machine in ("fan", "gearbox"):
            for section in ("00", "01"):
                expected[machine, section, "source", "train", "normal"] = [0, 1]
                expected[machine, section, "target", "train", "normal"] = [0]
                for domain in ("source", "target"):
                    for label in ("normal", "anomaly"):
                        expected[machine, section, domain, "test", label] = [0, 1]
        assert {kind: sorted(indices) for kind, indices in found.items()} == expected

    def test_names_keep_the_fault_to_themselves(self, plant: Path) -> None:
        assert not [path for path in plant.glob("*/t*/*") for kind in KINDS if kind in path.name]

    def test_attributes_say_what_the_names_say(self, plant: Path) -> None:
        for machine in ("fan", "gearbox"):
            listed = []
            for section in ("00", "01"):
                with (plant / machine / f"attributes_{section}.csv").open(newline="") as file:
                    rows = list(csv.DictReader(file))
                assert list(rows[0]) == ["file_name", "d1p", "d1v", "d2p", "d2v"]
                for row in rows:
                    name = NAME.fullmatch(row["file_name"].rsplit("/", 1)[1])
                    assert name
                    told = ("spd", name["spd"], "load", name["load"])
                    assert (row["d1p"], row["d1v"], row["d2p"], row["d2v"]) == told
                    assert name["section"] == section
                    listed.append(row["file_name"])
            there = [path.relative_to(plant).as_posix() for path in (plant / machine).glob("t*/*.wav")]
            assert sorted(listed) == sorted(there)

    def test_faults_are_listed_for_the_anomalies_and_no_others(self, plant: Path) -> None:
        with (plant / "faults.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        there = [path.relative_to(plant).as_posix() for path in plant.glob("*/test/*_anomaly_*")]
        assert sorted(row["file_name"] for row in rows) == sorted(there)
        assert {row["fault"] for row in rows} == set(KINDS)

    def test_clips_are_mono_16_bit_16_khz_and_do_not_clip(self, plant: Path) -> None:
        for path in plant.glob("*/t*/*.wav"):
            with wave.open(str(path)) as file:
                shape = (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes())
                assert shape == (1, 2, 16000, 16000)
                samples = np.frombuffer(file.readframes(16000), "<i2") / 32768
            assert 0.05 < np.abs(samples).max() < 0.7

    def test_recordings_have_their_sidecar(self, plant: Path) -> None:
        for machine in ("fan", "gearbox"):
            path = plant / "recordings" / f"{machine}_00_fault.wav"
            sidecar = json.loads(path.with_suffix(".json").read_text())
            assert sidecar.pop("fault") in KINDS
            assert sidecar == {
                "machine": machine,
                "section": "00",
                "fault_begins_s": 1.5,
                "duration_s": 3.0,
                "seed": 0,
                "synthetic": True,
            }
            with wave.open(str(path)) as file:
                assert file.getnframes() == 48000

    def test_notice_says_how_the_plant_was_made(self, plant: Path) -> None:
        notice = (plant / "SYNTHETIC.txt").read_text()
        assert notice.startswith("Everything in this folder is synthetic.")
        command = "edge-asd data synth OUT --machines fan,gearbox --sections 2 --train-clips 2 --target-clips 1"
        assert f"{command} --test-clips 8 --seconds 1 --recording-seconds 3 --fault-at 1.5 --seed 0\n" in notice

    def test_the_stated_command_makes_the_very_same_plant(self) -> None:
        plan = Plan(seconds=1.0000001, recording_seconds=123.4567891, fault_at=1e-05)
        assert "--seconds 1.0000001 --recording-seconds 123.4567891 --fault-at 1e-05 " in plan.command


class TestSeed:
    def test_number_of_processes_changes_no_byte(self, plant: Path, tmp_path: Path) -> None:
        synth(tmp_path / "two", **{**SMALL, "jobs": 2})
        assert files(tmp_path / "two") == files(plant)

    def test_another_seed_gives_other_sounds(self) -> None:
        one, other = (list(Plan(("fan",), 1, 1, 1, 4, 1.0, seed=seed).clips()) for seed in (0, 1))
        assert not any(np.array_equal(a.samples(), b.samples()) for a, b in zip(one, other, strict=True))

    def test_no_two_clips_have_the_same_seed(self) -> None:
        plan = Plan(test_clips=20)
        keys = [clip.key for clip in plan.clips()] + [recording.key for recording in plan.recordings()]
        assert len(set(keys)) == len(keys) == 386

    def test_more_clips_leave_the_others_as_they_were(self) -> None:
        few = {clip.path: clip for clip in Plan(train_clips=2, test_clips=4).clips()}
        many = {clip.path: clip for clip in Plan(train_clips=9, test_clips=12, machines=("gearbox", "fan")).clips()}
        assert few.items() <= many.items()

    def test_target_clips_for_training_show_every_operating_point(self) -> None:
        shown: dict[tuple[str, int], set[OperatingPoint]] = {}
        for clip in Plan(sections=SECTIONS, target_clips=6).clips():
            if clip.split == "train" and clip.take.domain == "target":
                shown.setdefault((clip.machine, clip.section), set()).add(clip.take.point)
        assert shown == {(m, s): set(unit.target.points) for m, units in PLANT.items() for s, unit in enumerate(units)}


class TestPhysics:
    def test_outer_race_order_of_a_6205(self) -> None:
        # Case Western Reserve's table for this bearing (0.3126 in balls on 1.537 in): BPFO is 3.5848 times the shaft.
        assert Bearing(9, 0.3126, 1.537, 0.0, 3000.0).outer_race_order == pytest.approx(3.5848, abs=5e-4)

    def test_locked_tones_are_the_sum_of_their_cosines(self) -> None:
        phase = np.linspace(3.0, 400.0, 16000)
        lines = [Line(1.0, 0.5), Line(23 / 61, 0.2), Line(2 * 23 + 23 / 61, 0.7)]
        tones = locked_tones(lines, 61, phase, np.random.default_rng(5))
        offsets = 2 * np.pi * np.random.default_rng(5).uniform(size=3)
        direct = sum(li.amplitude * np.cos(li.order * phase + o) for li, o in zip(lines, offsets, strict=True))
        assert np.abs(tones - direct).max() < 2e-3

    def test_speed_wanders_round_the_set_one(self) -> None:
        phase = rotation(OperatingPoint(1500, 1), 20 * SAMPLE_RATE, np.random.default_rng(1))
        speed = np.diff(phase) * SAMPLE_RATE / (2 * np.pi)
        assert speed.mean() == pytest.approx(25.0, rel=0.01)
        assert 0.0005 < speed.std() / 25.0 < 0.005

    def test_white_pink_and_brown(self) -> None:
        for slope in (0.0, 1.0, 2.0):
            noise = shaped_noise(
                SAMPLE_RATE * 8, lambda f, s=slope: np.maximum(f, 25) ** (-s / 2), np.random.default_rng(2)
            )
            power = np.abs(np.fft.rfft(noise)) ** 2
            hertz = np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
            low, high = (power[(hertz > f) & (hertz < 1.25 * f)].mean() for f in (400, 3200))
            assert 10 * np.log10(low / high) == pytest.approx(slope * 9.03, abs=1.0)
            assert rms(noise) == pytest.approx(1.0)

    def test_a_mode_is_as_strong_as_its_gain_at_resonance(self) -> None:
        response = np.abs(structure(np.array([0.0, 500.0, 8000.0]), (Resonance(500.0, 0.02, 3.0),)))
        assert response == pytest.approx([1.0, 4.0, 1.0], abs=0.02)

    def test_a_hall_falls_by_60_db_in_rt60(self) -> None:
        blow = np.zeros(SAMPLE_RATE)
        blow[0] = 1.0
        sound = radiate(blow, (), Room(0.5, 1.0, 7))
        early, late = (rms(sound[start : start + 800]) for start in (1, 4001))
        assert 20 * np.log10(early / late) == pytest.approx(30.0, abs=1.5)
        assert rms(sound[8000:]) < 1e-9

    @pytest.mark.parametrize("unit", FANS, ids=lambda unit: f"fan{unit.section}")
    def test_a_fans_strongest_tone_is_its_blade_pass(self, unit: Any) -> None:
        point = unit.source.points[0]
        sound = machine_sound(Take(unit, "source", point, 4.0), seed_of(unit.section))
        power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
        peak = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)[np.argmax(power)]
        assert peak == pytest.approx(unit.blade_pass_order * point.shaft_hz, rel=0.02)

    @pytest.mark.parametrize("unit", GEARBOXES, ids=lambda unit: f"gearbox{unit.section}")
    def test_a_gearboxs_strongest_tone_is_of_its_mesh(self, unit: Any) -> None:
        point = unit.source.points[0]
        sound = machine_sound(Take(unit, "source", point, 4.0), seed_of(unit.section))
        power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
        order = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)[np.argmax(power)] / (unit.mesh_order * point.shaft_hz)
        assert round(order) >= 1
        assert order == pytest.approx(round(order), abs=0.03)

    def test_gears_share_no_divisor(self) -> None:
        assert all(np.gcd(unit.pinion_teeth, unit.wheel_teeth) == 1 for unit in GEARBOXES)

    def test_a_fan_obeys_the_fan_law(self) -> None:
        fan = FANS[0]
        once, twice = (fan.loudness(OperatingPoint(rpm, 1)) for rpm in (fan.rated_rpm, 2 * fan.rated_rpm))
        assert 20 * np.log10(twice / once) == pytest.approx(50 * np.log10(2))

    def test_impacts_come_at_the_outer_races_rate(self) -> None:
        unit, point = FANS[0], OperatingPoint(1480, 1)
        phase = rotation(point, 8 * SAMPLE_RATE, np.random.default_rng(3))
        force = bearing(unit, phase, np.zeros_like(phase), np.random.default_rng(4))
        quiet = np.abs(force) < 0.1 * np.abs(force).max()
        loud = np.flatnonzero(~quiet)
        blows = 1 + np.sum(np.diff(loud) > SAMPLE_RATE * 0.004)
        assert blows / 8 == pytest.approx(unit.bearing.outer_race_order * point.shaft_hz, rel=0.03)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_fault_is_added_at_its_level(self, kind: FaultKind) -> None:
        unit = GEARBOXES[1]
        take = Take(unit, "source", unit.source.points[0], 2.0)
        broken = Take(unit, "source", unit.source.points[0], 2.0, Onset(Fault(kind, 0.5)))
        healthy = machine_sound(take, seed_of(1))
        added = machine_sound(broken, seed_of(1)) - healthy
        expected = np.mean(LEVELS_DB["gearbox"][kind])
        assert 20 * np.log10(rms(added) / rms(healthy)) == pytest.approx(expected, abs=0.01)

    def test_the_machine_stands_out_by_the_stated_ratio(self) -> None:
        unit = FANS[0]
        take = Take(unit, "source", OperatingPoint(unit.rated_rpm, 1), 4.0)
        ratios = []
        for i in range(6):
            noisy = record(take, seed_of(i)) / 32767
            machine = machine_sound(take, np.random.SeedSequence([99, i], spawn_key=(0,)))
            gain = np.dot(noisy, machine) / np.dot(machine, machine)
            ratios.append(20 * np.log10(gain * rms(machine) / rms(noisy - gain * machine)))
        assert np.mean(ratios) == pytest.approx(unit.source.factory.snr_db, abs=1.5)


class TestFaultsCanBeHeard:
    @pytest.fixture(scope="class")
    @staticmethod
    def normal() -> dict[str, np.ndarray]:
        """Statistics of 24 normal clips of section 00, for each machine."""
        return {
            machine: np.stack(
                [
                    statistics(record(Take(units[0], "source", units[0].source.points[i % 6], 3.0), seed_of(1, i)))
                    for i in range(24)
                ]
            )
            for machine, units in PLANT.items()
        }

    @pytest.mark.parametrize("machine", PLANT)
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_fault_as_in_a_recording_leaves_the_spread_of_normal_clips(
        self, machine: str, kind: FaultKind, normal: dict[str, np.ndarray]
    ) -> None:
        unit = PLANT[machine][0]
        bank, held_out = normal[machine][:18], normal[machine][18:]
        broken = [
            statistics(record(Take(unit, "source", point, 3.0, Onset(Fault(kind, RECORDED_SEVERITY))), seed_of(2, i)))
            for i, point in enumerate(unit.source.points)
        ]
        assert np.median(oddness(bank, np.stack(broken))) > oddness(bank, held_out).max()

    @pytest.mark.parametrize("machine", PLANT)
    def test_recording_is_normal_until_the_fault_begins(self, machine: str, normal: dict[str, np.ndarray]) -> None:
        bank, held_out = normal[machine][:18], normal[machine][18:]
        (recording,) = Plan((machine,), recording_seconds=14.0, fault_at=7.0).recordings()
        samples = recording.samples()
        parts = np.stack([statistics(samples[s * SAMPLE_RATE : (s + 3) * SAMPLE_RATE]) for s in (0, 2, 4, 8, 10, 11)])
        odd = oddness(bank, parts)
        assert odd[:3].max() < 1.5 * oddness(bank, held_out).max()
        assert odd[3:].min() > 1.5 * odd[:3].max()

    def test_the_fault_changes_nothing_before_it_begins_and_grows_in_within_a_second(self) -> None:
        (recording,) = Plan(("fan",), recording_seconds=4.0, fault_at=2.0).recordings()
        take = recording.take
        healthy = Take(take.unit, take.domain, take.point, take.seconds)
        added = machine_sound(take, seed_of(3)) - machine_sound(healthy, seed_of(3))
        first, ramp, after = added[:32000], added[32000:40000], added[48000:]
        assert not first.any()
        assert 0 < rms(ramp) < 0.5 * rms(after)

    @pytest.mark.parametrize("machine", PLANT)
    def test_sections_sound_different(self, machine: str, normal: dict[str, np.ndarray]) -> None:
        def clip(section: int, i: int) -> np.ndarray:
            unit = PLANT[machine][section]
            return statistics(record(Take(unit, "source", unit.source.points[i % 6], 3.0), seed_of(4, section, i)))

        others = {section: np.stack([clip(section, i) for i in range(6)]) for section in (1, 2)}
        centres = np.stack(
            [normal[machine][:18].mean(axis=0), *(others[section][:4].mean(axis=0) for section in (1, 2))]
        )
        for section, held_out in enumerate((normal[machine][18:], others[1][4:], others[2][4:])):
            distances = np.linalg.norm(held_out[:, None] - centres[None], axis=2)
            assert (distances.argmin(axis=1) == section).all()


BAD_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"machines": "fan,pump"}, r"--machines: found 'fan,pump'; .*fan, gearbox"),
    ({"machines": ""}, "--machines: found ''"),
    ({"machines": "fan,fan"}, "--machines: found 'fan,fan'"),
    ({"sections": 0}, "--sections: found 0; expected 1 to 6"),
    ({"sections": 7}, "--sections: found 7"),
    ({"train_clips": 0}, "--train-clips: found 0"),
    ({"target_clips": -1}, "--target-clips: found -1"),
    ({"test_clips": 10}, "--test-clips: found 10; expected a multiple of 4, .* 12"),
    ({"test_clips": 0}, "--test-clips: found 0"),
    ({"seconds": float("nan")}, "--seconds: found nan; expected 1 to 60"),
    ({"seconds": 61.0}, "--seconds: found 61"),
    ({"recording_seconds": float("inf")}, "--recording-seconds: found inf"),
    ({"fault_at": 2.5}, "--fault-at: found 2.5; expected more than 0 and at most 2,"),
    ({"fault_at": 0.0}, "--fault-at: found 0"),
    ({"fault_at": float("nan")}, "--fault-at: found nan"),
    ({"seed": -1}, "--seed: found -1"),
    ({"jobs": 0}, "--jobs: found 0"),
]


class TestRefusals:
    @pytest.mark.parametrize(("options", "message"), BAD_OPTIONS, ids=[str(options) for options, _ in BAD_OPTIONS])
    def test_bad_option(self, options: dict[str, Any], message: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=message):
            synth(tmp_path / "plant", **{**SMALL, **options})
        assert not list(tmp_path.iterdir())

    def test_folder_with_something_in_it(self, tmp_path: Path) -> None:
        (tmp_path / "mine.wav").write_bytes(b"mine")
        with pytest.raises(UsageError, match=rf"{tmp_path}.*not empty.*--force"):
            synth(tmp_path, **SMALL)

    @pytest.mark.parametrize("notice", [None, "Everything I know about synthesisers."])
    def test_force_never_deletes_somebodys_own_files(self, notice: str | None, tmp_path: Path) -> None:
        (tmp_path / "mine.wav").write_bytes(b"mine")
        if notice:
            (tmp_path / "SYNTHETIC.txt").write_text(notice)
        before = files(tmp_path)
        with pytest.raises(UsageError, match=rf"{tmp_path}.*SYNTHETIC\.txt"):
            synth(tmp_path, **SMALL, force=True)
        assert files(tmp_path) == before

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "plant").write_text("mine")
        with pytest.raises(UsageError, match="not a folder"):
            synth(tmp_path / "plant", **SMALL, force=True)
        assert (tmp_path / "plant").read_text() == "mine"


TINY: dict[str, Any] = {
    **SMALL,
    "machines": "fan",
    "sections": 1,
    "train_clips": 1,
    "target_clips": 0,
    "test_clips": 4,
}


class TestWholeOrNotAtAll:
    def test_force_replaces_a_synthetic_plant(self, tmp_path: Path) -> None:
        out = tmp_path / "plant"
        synth(out, **TINY)
        before = files(out)
        (out / "left-over.wav").write_bytes(b"")
        synth(out, **TINY, force=True, seed=5)
        after = files(out)
        assert "left-over.wav" not in after
        assert len(after) == len(before)
        assert after["recordings/fan_00_fault.wav"] != before["recordings/fan_00_fault.wav"]
        assert list(tmp_path.iterdir()) == [out]

    def test_an_empty_folder_and_a_link_to_one_are_filled(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        synth(tmp_path / "link", **TINY)
        assert (tmp_path / "real" / "SYNTHETIC.txt").is_file()
        assert (tmp_path / "link").is_symlink()

    @pytest.mark.parametrize("accident", [KeyboardInterrupt(), OSError(28, "No space left on device")])
    def test_an_accident_leaves_the_old_plant(
        self, accident: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "plant"
        synth(out, **TINY)
        before = files(out)
        real, calls = writing.write_sound, []

        def third_fails(folder: Path, sound: writing.Sounding) -> None:
            calls.append(sound)
            if len(calls) == 3:
                raise accident
            real(folder, sound)

        monkeypatch.setattr(writing, "write_sound", third_fails)
        with pytest.raises(StorageError if isinstance(accident, OSError) else KeyboardInterrupt):
            synth(out, **TINY, force=True, seed=5)
        assert len(calls) == 3
        assert files(out) == before
        assert list(tmp_path.iterdir()) == [out]

    def test_ctrl_c_with_processes_leaves_nothing(self, tmp_path: Path) -> None:
        program = (
            "import sys; from pathlib import Path; from edge_asd_tools.synth.commands import synth; "
            "synth(Path(sys.argv[1]), jobs=2, seconds=1, recording_seconds=2, fault_at=1, train_clips=5000)"
        )
        done = interrupted(
            [sys.executable, "-c", program, str(tmp_path / "plant")],
            lambda: list(tmp_path.glob(".plant.*/*/*/*.wav")),
            PYTHONPATH=os.pathsep.join(path for path in sys.path if path),
        )
        assert done.returncode != 0
        assert b"KeyboardInterrupt" in done.stderr
        assert not list(tmp_path.iterdir())


class TestCommand:
    @pytest.fixture
    def app(self) -> typer.Typer:
        app = typer.Typer()
        app.command()(synth)
        return app

    def test_runs_from_a_command_line(self, app: typer.Typer, tmp_path: Path) -> None:
        options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
        result = CliRunner().invoke(app, [str(tmp_path / "plant"), *options])
        assert result.exit_code == 0, result.output
        assert result.stdout == f"{tmp_path / 'plant'}: 5 clips and 1 recordings, synthetic (seed 0).\n"
        assert result.stderr == ""  # no progress bar where there is no terminal
