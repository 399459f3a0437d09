"""From a folder of clips to a bundle, by the commands that a user types."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from statistics import fmean, harmonic_mean

import numpy as np
import pytest
import soundfile

from common import MOMENT
from edge_asd import bundle as bundles
from edge_asd.audio import read_clip
from edge_asd.scoring import ClipScorer


@pytest.fixture(scope="module")
def run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run, to be evaluated."""
    return shutil.copytree(run_folder, tmp_path_factory.mktemp("evaluated") / "fan")


@pytest.fixture(scope="module")
def evaluated(run: Path, edge_asd: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*edge_asd, "evaluate", str(run)], capture_output=True, text=True, check=True)


def clips_of(section: str, plant: Path, split: str = "test") -> list[Path]:
    return sorted((plant / "fan" / split).glob(f"section_{section}_*.wav"))


def test_the_run_leaves_all_that_it_promises(run_folder: Path) -> None:
    bundle = bundles.read(run_folder / "fan.easd")
    assert sorted(bundle.manifest.sections) == ["00", "01"]
    assert bundle.manifest.sections["00"].entries == 8
    assert len(bundle.model) > 1_000_000
    assert "| 00 | 6 | 2 |" in bundle.model_card
    sbom = json.loads(bundle.sbom)
    assert {"torch", "onnx2tf"} <= {component["name"] for component in sbom["components"]}
    config = (run_folder / "config.toml").read_text()
    assert "steps_per_epoch = 2" in config
    assert "learning_rate" in config


def test_evaluation_prints_int8_and_float_beside_the_network_free_bar(
    evaluated: subprocess.CompletedProcess[str],
) -> None:
    rows = evaluated.stdout.splitlines()
    assert [row.split("  ")[0] for row in rows[2:7]] == [
        "System 1, int8 (the bundle)",
        "System 1, float",
        "log-mel statistics, 1-NN",
        "log-mel statistics, Mahalanobis",
        "log-mel GWRP, Gaussian mixture",
    ]
    assert re.match(
        r"int8 against float: cosine 0\.\d{4}, rank correlation -?\d\.\d{4}, AUC \d+\.\d\d points apart", rows[7]
    )


def test_evaluation_prints_every_figure_of_every_section_and_domain(
    evaluated: subprocess.CompletedProcess[str], run: Path
) -> None:
    found = json.loads((run / "evaluation" / "evaluation.json").read_text())["systems"][0]
    *_, table = evaluated.stdout.split("\n\n")
    title, header, *rows = table.splitlines()
    assert title.startswith("System 1, int8 (the bundle), by section and domain")
    assert header.split()[:3] == ["section", "domain", "AUC"]
    assert [row.split()[:2] for row in rows] == [
        *([section, domain] for section in ("00", "01") for domain in ("source", "target")),
        *[["arithmetic", "mean"]] * 2,
        *[["harmonic", "mean"]] * 2,
    ]
    source = found["sections"]["00"]["domains"]["source"]
    low, high = (f"{100 * end:.1f}" for end in source["auc_interval"])
    decided = [f"{100 * source[name]:.1f}" for name in ("precision", "recall", "f1")]
    assert rows[0].split()[2:6] == [f"{100 * source['auc']:.1f}", low, "to", high]
    assert rows[0].split()[10:] == [*decided, str(source["normal"]), str(source["anomalous"])]


def test_evaluation_scores_are_the_devices_own(
    evaluated: subprocess.CompletedProcess[str], run: Path, plant: Path
) -> None:
    assert evaluated.returncode == 0
    scorer = ClipScorer(bundles.read(run / "fan.easd").detector())
    found = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert len(found["clips"]) == 8
    for clip in found["clips"]:
        score = scorer.score(read_clip(plant / "fan" / "test" / clip["file"]), clip["section"])
        assert (score.value, score.nearest) == (clip["score"], clip["nearest"])


def test_the_challenges_files_are_to_the_letter(
    evaluated: subprocess.CompletedProcess[str], run: Path, plant: Path
) -> None:
    assert evaluated.returncode == 0
    folder = run / "evaluation"
    found = json.loads((folder / "evaluation.json").read_text())
    scores = (folder / "anomaly_score_fan_section_00_test.csv").read_bytes()
    assert b"\r" not in scores
    rows = list(csv.reader(scores.decode().splitlines()))
    assert [name for name, _ in rows] == [clip.name for clip in clips_of("00", plant)]
    decisions = dict(csv.reader((folder / "decision_result_fan_section_00_test.csv").read_text().splitlines()))
    for name, score in rows:
        assert decisions[name] == str(int(float(score) > found["thresholds"]["00"]))
    machine, header, *rows = csv.reader((folder / "result.csv").read_text().splitlines())
    assert machine == ["fan"]
    assert ",".join(header) == (
        ",AUC (source),AUC (target),pAUC,precision (source),precision (target),"
        "recall (source),recall (target),F1 score (source),F1 score (target)"
    )
    values = {row[0]: [float(cell) for cell in row[1:]] for row in rows}
    assert list(values) == ["00", "01", "arithmetic mean", "harmonic mean"]
    for section, figures in found["systems"][0]["sections"].items():
        source, target = figures["domains"]["source"], figures["domains"]["target"]
        by_domain = [domain[name] for name in ("precision", "recall", "f1") for domain in (source, target)]
        assert values[section] == [source["auc"], target["auc"], figures["pauc"], *by_domain]
    pairs = list(zip(values["00"], values["01"], strict=True))
    assert values["arithmetic mean"] == pytest.approx([fmean(pair) for pair in pairs])
    assert values["harmonic mean"] == pytest.approx([harmonic_mean(pair) for pair in pairs], abs=1e-15)


def test_the_report_needs_nothing_else_and_shows_its_pictures(
    evaluated: subprocess.CompletedProcess[str], run: Path
) -> None:
    assert evaluated.returncode == 0
    page = (run / "report" / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count('src="data:image/png;base64,') == len(list((run / "report").glob("*.png"))) == 15
    found = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert f"{100 * found['systems'][0]['score']:.1f}" in page
    [parity] = [line for line in evaluated.stdout.splitlines() if line.startswith("int8 against float")]
    assert parity in html.unescape(page)
    for name in ("histogram-00", "roc", "clip-normal-1", "map", "bank-size", "agreement-01", "fine-tuning"):
        assert (run / "report" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_report_is_drawn_anew_from_the_last_evaluation(
    evaluated: subprocess.CompletedProcess[str], run: Path, edge_asd: list[str]
) -> None:
    assert evaluated.returncode == 0
    page = (run / "report" / "index.html").read_bytes()
    shutil.rmtree(run / "report")
    done = subprocess.run([*edge_asd, "report", str(run)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (run / "report" / "index.html").read_bytes() == page


def test_nothing_is_computed_twice(run_folder: Path, plant: Path, tmp_path: Path, edge_asd: list[str]) -> None:
    run = shutil.copytree(run_folder, tmp_path / "run")
    before = (run / "fan.easd").stat().st_mtime_ns
    began = time.monotonic()
    options = [word for option in MOMENT for word in ("--set", option)]
    command = [
        *edge_asd,
        "train",
        str(plant),
        "--machine",
        "fan",
        "--out",
        str(run),
        "--preset",
        "demo",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for stage in ("pre-training", "fine-tuning", "export", "detection"):
        assert f"{stage}: done before" in done.stderr
    assert (run / "fan.easd").stat().st_mtime_ns == before
    assert time.monotonic() - began < 120


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bundle_and_another_does_not(
    run_folder: Path, plant: Path, tmp_path: Path, edge_asd: list[str]
) -> None:
    def train(name: str, seed: int) -> bytes:
        options = [word for option in MOMENT for word in ("--set", option)]
        command = [*edge_asd, "train", str(plant), "--machine", "fan", "--preset", "demo", *options]
        command += ["--out", str(tmp_path / name), "--seed", str(seed)]
        subprocess.run(command, capture_output=True, check=True)
        return (tmp_path / name / "fan.easd").read_bytes()

    again = train("again", 0)
    assert again == (run_folder / "fan.easd").read_bytes()
    assert train("other", 1) != again


BAD_DATA = {
    "no such folder": (lambda data: None, 4, "no such folder"),
    "a folder without clips": (lambda data: (data / "fan" / "train").mkdir(parents=True), 4, "no clips there"),
    "one clip only": (
        lambda data: noise(data / "fan/train/section_00_source_train_normal_0000.wav"),
        4,
        "one clip only",
    ),
    "a name that doesn't parse": (lambda data: noise(data / "fan/train/monday morning.wav"), 4, "monday morning.wav"),
    "not a sound file": (
        lambda data: spoil(data, b"once upon a time"),
        4,
        "section_00_source_train_normal_0000.wav: not a sound file",
    ),
    "an empty file": (lambda data: spoil(data, b""), 4, "section_00_source_train_normal_0000.wav: empty"),
    "not a number": (lambda data: spoil(data, None), 4, "not finite"),
}


def noise(path: Path, value: float | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)
    if value is not None:
        samples[100] = value
    soundfile.write(path, samples, 16000, subtype="FLOAT")


def spoil(data: Path, content: bytes | None) -> None:
    noise(data / "fan/train/section_00_source_train_normal_0001.wav")
    bad = data / "fan/train/section_00_source_train_normal_0000.wav"
    if content is None:
        noise(bad, float("nan"))
    else:
        bad.write_bytes(content)


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_input_is_one_clear_line(case: str, tmp_path: Path, edge_asd: list[str]) -> None:
    make, code, says = BAD_DATA[case]
    data = tmp_path / "data"
    make(data)
    run = tmp_path / "run"
    done = subprocess.run(
        [*edge_asd, "train", str(data), "--machine", "fan", "--out", str(run)], capture_output=True, text=True
    )
    assert done.returncode == code
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("edge-asd: ")
    assert says in lines[0]
    assert [path for path in run.rglob("*") if path.is_file()] == []


def test_a_machine_whose_name_can_not_travel_is_refused_before_it_is_trained(
    plant: Path, tmp_path: Path, edge_asd: list[str]
) -> None:
    (tmp_path / "my fan").symlink_to(plant / "fan")
    command = [*edge_asd, "train", str(tmp_path), "--machine", "my fan", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--machine 'my fan'" in done.stderr


@pytest.mark.slow
def test_a_disk_that_fills_leaves_nothing_half_written(
    plant: Path, run_folder: Path, tmp_path: Path, edge_asd: list[str]
) -> None:
    """Every file is limited to 1 MB, so the features (2.5 MB) can't be written: the kernel refuses for real."""
    run = tmp_path / "run"
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20));"
        "from edge_asd.cli import main; main()"
    )
    command = [edge_asd[0], "-c", script, "train", str(plant), "--machine", "fan", "--out", str(run)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 7
    assert "train.npy: could not be written" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list((run / "features").iterdir()) == []
