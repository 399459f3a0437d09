"""What is evaluated when labels are missing, or when a run's parts don't belong together."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from statistics import harmonic_mean

import msgspec
import pytest

from common import MOMENT
from edge_asd import bundle as bundles
from edge_asd import golden
from edge_asd.clip_name import parse_clip_name
from edge_asd.errors import ConfigError, DataError
from edge_asd_trainer import challenge_files, report
from edge_asd_trainer.commands import evaluate as evaluate_command
from edge_asd_trainer.config import load
from edge_asd_trainer.evaluation import evaluate, read, write
from edge_asd_trainer.pipeline import train
from edge_asd_trainer.results_table import results_table, side_by_side
from edge_asd_trainer.run_folder import Provenance, RunFolder, write_json


@pytest.fixture
def copy(run_folder: Path, plant: Path, tmp_path: Path) -> RunFolder:
    """A copy of the run on a copy of the plant, to be changed at will."""
    shutil.copytree(plant / "fan", tmp_path / "plant" / "fan")
    shutil.copytree(run_folder, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    write_json(folder.provenance, Provenance(str(tmp_path / "plant"), "fan", "demo"))
    return folder


def clips(copy: RunFolder, pattern: str) -> list[Path]:
    return sorted((copy.path.parent / "plant" / "fan").glob(pattern))


def test_a_section_without_recorded_faults_has_no_figures_but_scores(
    copy: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for clip in clips(copy, "test/section_01_*_anomaly_*"):
        clip.unlink()
    found = evaluate(copy)
    assert {section for system in found.systems for section in system.sections} == {"00"}
    assert {clip.section for clip in found.clips} == {"00", "01"}
    assert "section 01: no figures, for it lacks test clips" in capsys.readouterr().err


def test_unlabelled_clips_are_scored_and_leave_the_figures_as_they_are(copy: RunFolder) -> None:
    before = evaluate(copy)
    source = clips(copy, "test/section_00_*_normal_*")[0]
    shutil.copy(source, source.with_name("section_00_0007.wav"))
    after = evaluate(copy)
    assert len(after.clips) == len(before.clips) + 1
    assert after.systems[0].sections == before.systems[0].sections
    assert next(clip for clip in after.clips if clip.file == "section_00_0007.wav").anomalous is None


def test_without_any_label_there_are_scores_decisions_and_a_report(copy: RunFolder) -> None:
    for number, clip in enumerate(clips(copy, "test/*.wav")):
        clip.rename(clip.with_name(f"section_{clip.name[8:10]}_{number:04d}.wav"))
    found = evaluate(copy)
    write(copy, found)
    assert read(copy).systems == found.systems == []
    challenge_files.write([found], copy.evaluation)
    assert not (copy.evaluation / "result.csv").exists()
    assert len((copy.evaluation / "anomaly_score_fan_section_00_test.csv").read_text().splitlines()) == 4
    assert "scores and no figures" in results_table(found)
    assert "AUC - points apart" in results_table(found)
    assert "no figures" in report.write(copy, found).read_text()


def test_what_quantisation_costs_overall_and_where_it_costs_most(copy: RunFolder) -> None:
    found = evaluate(copy)
    int8, floating = (system.sections for system in found.systems[:2])
    overall, worst = found.parity.overall, found.parity.worst
    for name in ("auc", "pauc"):
        ours, theirs = ([getattr(system[section], name) for section in ("00", "01")] for system in (int8, floating))
        apart = abs(harmonic_mean(ours) - harmonic_mean(theirs))
        assert getattr(overall, name) == pytest.approx(100 * apart)
        assert getattr(worst, name) == pytest.approx(100 * max(abs(a - b) for a, b in zip(ours, theirs, strict=True)))
    assert f"AUC {overall.auc:.2f} points apart; in single sections at worst" in results_table(found)
    assert f"AUC {worst.auc:.2f} points, pAUC {worst.pauc:.2f} points" in results_table(found)


def test_nothing_of_an_earlier_evaluation_survives(copy: RunFolder) -> None:
    evaluate_command([copy.path])
    for clip in clips(copy, "test/section_01_*"):
        clip.unlink()
    for number, clip in enumerate(clips(copy, "test/section_00_*")):
        clip.rename(clip.with_name(f"section_00_{number:04d}.wav"))
    evaluate_command([copy.path])
    assert {path.name for folder in (copy.evaluation, copy.report) for path in folder.iterdir()} == {
        "evaluation.json",
        "anomaly_score_fan_section_00_test.csv",
        "decision_result_fan_section_00_test.csv",
        "index.html",
        "histogram-00.png",
        "map.png",
        "map-00.png",
        "agreement-00.png",
        "pre-training.png",
        "fine-tuning.png",
    }


def test_a_report_is_refused_where_it_would_mix_or_miss(copy: RunFolder) -> None:
    found = evaluate(copy)
    with pytest.raises(ConfigError, match=r"fan\.easd: not the bundle that was evaluated; run `edge-asd evaluate"):
        report.write(copy, msgspec.structs.replace(found, bundle="0" * 16))
    for clip in found.clips:
        (copy.path.parent / "plant/fan/train" / clip.nearest).unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"fan/train: section_\S+\.wav is no longer there, .* put it back, or"):
        report.write(copy, found)
    assert not copy.report.exists()


def test_one_clip_is_evaluated_too(copy: RunFolder) -> None:
    for clip in clips(copy, "test/*.wav")[1:]:
        clip.unlink()
    found = evaluate(copy)
    assert found.parity.overall.rank_correlation is found.parity.worst.rank_correlation is None
    write(copy, found)
    assert read(copy) == found


def test_clips_that_the_bundle_was_not_trained_on_are_refused(copy: RunFolder) -> None:
    clips(copy, "train/section_00_*")[0].unlink()
    with pytest.raises(DataError, match=r"not the clips that .*fan\.easd was trained on"):
        evaluate(copy)


def test_a_data_set_that_moved_is_refused_with_the_way_on(copy: RunFolder) -> None:
    data = copy.path.parent / "plant"
    data.rename(data.with_name("moved"))
    with pytest.raises(DataError, match="put them back, or run the same `edge-asd train` with their new place"):
        evaluate(copy)


def test_numbers_that_the_bundle_was_not_trained_with_are_refused(copy: RunFolder) -> None:
    copy.config.write_text(copy.config.read_text().replace("seed = 0", "seed = 1"))
    with pytest.raises(ConfigError, match="not the numbers that"):
        evaluate(copy)


def test_submission_2_has_the_opposite_sign_for_one_section_and_says_so(copy: RunFolder, plant: Path) -> None:
    plain = evaluate(copy)
    train(plant, "fan", copy, load("demo", options=[*MOMENT, "detection.flip=['fan/00', 'pump/01']"]), "demo")
    found = evaluate(copy)
    for clip, other in zip(found.clips, plain.clips, strict=True):
        assert clip.score == pytest.approx(-other.score if clip.section == "00" else other.score, rel=1e-6)
    ours, before = (one.systems[0].sections for one in (found, plain))
    assert ours["00"].auc == pytest.approx(1 - before["00"].auc)
    assert ours["01"] == before["01"]
    assert found.flipped == ["00"]
    assert found.systems[0].name == "System 1, 00 flipped, int8 (the bundle)"
    trained = bundles.read(copy.bundle("fan")).manifest.sections["00"].thresholds
    assert found.thresholds["00"] == trained.decision < 0  # a tenth of normal clips lies above it
    assert "test labels alone can suggest" in bundles.read(copy.bundle("fan")).model_card
    assert golden.check(bundles.read(copy.bundle("fan"))).exact


def test_what_is_to_be_flipped_must_be_there(plant: Path, tmp_path: Path, edge_asd: list[str]) -> None:
    command = [*edge_asd, "train", str(plant), "--machine", "fan", "--out", str(tmp_path / "run")]
    for flip, code, said in (
        ("fan/07", 3, "--flip fan/07: fan has no section 07; there are 00, 01."),
        ("pump/00", 2, "--flip pump/00: expected a section of fan."),
        ("fan", 3, "flip names sections as machine/section, such as fan/00; found 'fan'"),
    ):
        done = subprocess.run([*command, "--flip", flip], capture_output=True, text=True)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "run" / "config.toml").exists()


def test_labels_may_come_as_csv_and_give_the_same_figures(copy: RunFolder, tmp_path: Path) -> None:
    before = evaluate(copy)
    rows: dict[str, list[tuple[str, int, int]]] = {"00": [], "01": []}
    for number, clip in enumerate(clips(copy, "test/*.wav")):
        name = parse_clip_name(clip.name)
        hidden = f"section_{name.section}_{number:04d}.wav"
        clip.rename(clip.with_name(hidden))
        rows[name.section].append((hidden, int(name.label == "anomaly"), int(name.domain == "target")))
    for folder, column in (("ground_truth_data", 1), ("ground_truth_domain", 2)):
        (tmp_path / "evaluator" / folder).mkdir(parents=True)
        for section, of_section in rows.items():
            path = tmp_path / "evaluator" / folder / f"ground_truth_fan_section_{section}_test.csv"
            path.write_text("".join(f"{row[0]},{row[column]}\n" for row in of_section))
    assert evaluate(copy).systems == []
    found = evaluate(copy, tmp_path / "evaluator")
    for ours, theirs in zip(found.systems, before.systems, strict=True):
        assert ours.sections == theirs.sections


def test_the_papers_figures_stand_beside_its_own_test_clips_and_no_others(copy: RunFolder) -> None:
    found = evaluate(copy)
    assert "the paper's Tables" not in results_table(found)
    names = [
        f"section_{section:02d}_{domain}_test_{label}_{number:04d}.wav"
        for section in range(3)
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for number in range(50)
    ]
    clips = [msgspec.structs.replace(found.clips[0], file=name) for name in names]
    *_, table = results_table(msgspec.structs.replace(found, clips=clips)).split("\n\n")
    title, header, *rows = table.splitlines()
    assert title.startswith("beside the paper's Tables 2 to 4")
    assert header.split() == ["AUC", "source", "AUC", "target", "pAUC"]
    assert rows[0].split() == ["System", "1,", "paper", "83.4", "76.7", "70.8"]
    assert [row.split("  ")[0] for row in rows[1:4]] == [
        "autoencoder baseline, paper",
        "MobileNetV2 baseline, paper",
        "System 1, int8 (the bundle)",
    ]
    ours = [section.domains["target"].auc for section in found.systems[0].sections.values()]
    assert rows[3].split()[-2] == f"{100 * harmonic_mean(ours):.1f}"


def test_several_runs_stand_side_by_side(copy: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_command([copy.path], out=tmp_path / "team")
    one = read(copy)
    assert {path.name for path in (tmp_path / "team").iterdir()} >= {
        "result.csv",
        "decision_result_fan_section_01_test.csv",
    }
    system = msgspec.structs.replace(one.systems[0], score=one.systems[0].score + 0.1)
    two = msgspec.structs.replace(one, seed=7, systems=[system, *one.systems[1:]])
    title, header, first, second, *_ = side_by_side([one, two]).splitlines()
    assert title.startswith("fan of plant: harmonic means")
    assert header.split()[:3] == ["seeds", "AUC", "source"]
    assert first.startswith("System 1, int8 (the bundle), demo")
    assert "0, 7" in first
    assert f"{100 * one.systems[0].score + 5:.1f} ± {10 / 2**0.5:.1f}" in first
    assert f"{one.systems[0].bundle_bytes:,}" in first
    assert " any " in second  # the same whatever the seed: told once
    capsys.readouterr()
    evaluate_command([copy.path, copy.path], last=True)
    assert "fan of plant: harmonic means over the sections" in capsys.readouterr().out


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected the folder of a run"):
        evaluate(RunFolder(tmp_path))
