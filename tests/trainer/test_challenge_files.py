"""The challenge's files: byte by byte, and read once more here by the rules of its official evaluator."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
from scipy.stats import hmean
from sklearn.metrics import confusion_matrix, roc_auc_score

from edge_asd.clip_name import parse_clip_name
from edge_asd.errors import UsageError
from edge_asd_trainer import challenge_files, ground_truth
from edge_asd_trainer.data import Clip
from edge_asd_trainer.evaluation import ClipResult, Evaluation, SystemResult
from edge_asd_trainer.metrics import means, official_score, section_figures

Record = TypeVar("Record", bound=msgspec.Struct)

MACHINES = ("ToyCar", "fan")
SECTIONS = ("03", "04", "05")
EPSILON = np.finfo(float).eps
COLUMNS = (
    "AUC (source),AUC (target),pAUC,precision (source),precision (target),"
    "recall (source),recall (target),F1 score (source),F1 score (target)"
)


def record(kind: type[Record], **known: Any) -> Record:
    """A record of which only these fields matter here."""
    return kind(**{field.name: known.get(field.name) for field in msgspec.structs.fields(kind)})


def write_truth(folder: Path, machine: str, clips: int) -> None:
    """The evaluator's folder; labels and domains of a section in no order that sorting would give."""
    for section in SECTIONS:
        random = np.random.default_rng([*f"{machine} {section}".encode()])
        codes = random.permutation(np.arange(clips) % 4)
        for name, values in (("data", codes // 2), ("domain", codes % 2)):
            path = folder / f"ground_truth_{name}" / f"ground_truth_{machine}_section_{section}_test.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [f"section_{section}_{number:04d}.wav,{value}\n" for number, value in enumerate(values)]
            path.write_text("".join(rows))


def evaluated(truth: Path, machine: str, digits: int, clips: int) -> Evaluation:
    """An evaluation of made-up scores of the evaluation set's clips."""
    files = [f"section_{section}_{number:04d}.wav" for section in SECTIONS for number in range(clips)]
    named = ground_truth.named(
        [Clip(Path(file), parse_clip_name(file)) for file in files], ground_truth.read(truth, machine)
    )
    random = np.random.default_rng([digits, *machine.encode()])
    results, sections, thresholds = [], {}, {}
    for section in SECTIONS:
        members = [clip for clip in named if clip.name.section == section]
        anomalous = np.array([clip.name.label == "anomaly" for clip in members])
        scores = np.round(random.normal(size=len(members)) + anomalous, digits)
        thresholds[section] = float(np.quantile(scores, 0.6))
        sections[section] = section_figures(
            scores, anomalous, [clip.name.domain or "" for clip in members], thresholds[section], f"{machine} {section}"
        )
        results += [
            record(ClipResult, file=clip.path.name, section=section, score=float(score))
            for clip, score in zip(members, scores, strict=True)
        ]
    system = record(SystemResult, sections=sections, score=official_score(sections.values()))
    return record(
        Evaluation, machine=machine, data=f"{machine}-data", clips=results, thresholds=thresholds, systems=[system]
    )


def column(path: Path) -> np.ndarray:
    """The second column of a file, by the order of its rows."""
    with path.open() as file:
        return np.array([float(row[1]) for row in sorted(csv.reader(file))])


def as_the_evaluator_does(folder: Path, truth: Path, machine: str, section: str) -> list[float]:
    """One section's AUC over all, then the figures of result.csv, from nothing but CSV files."""
    suffix = f"{machine}_section_{section}_test.csv"
    scores, called = column(folder / f"anomaly_score_{suffix}"), column(folder / f"decision_result_{suffix}")
    label = column(truth / "ground_truth_data" / f"ground_truth_{suffix}")
    domain = column(truth / "ground_truth_domain" / f"ground_truth_{suffix}")
    assert len(scores) == len(called) == len(label) == len(domain)
    aucs, decided = [], []
    for one in (0, 1):
        ranked = (domain == one) | (label == 1)
        aucs.append(roc_auc_score(label[ranked], scores[ranked]))
        _, fp, fn, tp = confusion_matrix(label[domain == one], called[domain == one].astype(int)).ravel()
        precision, recall = tp / np.maximum(tp + fp, EPSILON), tp / np.maximum(tp + fn, EPSILON)
        decided.append((precision, recall, 2.0 * precision * recall / np.maximum(precision + recall, EPSILON)))
    pauc = roc_auc_score(label, scores, max_fpr=0.1)
    by_figure = [value for pair in zip(*decided, strict=True) for value in pair]
    return [float(value) for value in (roc_auc_score(label, scores), *aucs, pauc, *by_figure)]


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("digits", [0, 1, 12], ids=["many ties", "some ties", "no ties"])
def test_the_evaluators_figures_are_ours_to_the_last_digit(tmp_path: Path, digits: int) -> None:
    for machine in MACHINES:
        write_truth(tmp_path, machine, 48)
    evaluations = [evaluated(tmp_path, machine, digits, 48) for machine in reversed(MACHINES)]
    challenge_files.write(evaluations, tmp_path / "team")
    expected = {
        (machine, section): as_the_evaluator_does(tmp_path / "team", tmp_path, machine, section)
        for machine in MACHINES
        for section in SECTIONS
    }
    ours = {(one.machine, name): figures for one in evaluations for name, figures in one.systems[0].sections.items()}
    assert {place: figures.auc for place, figures in ours.items()} == {place: row[0] for place, row in expected.items()}

    rows = rows_of(tmp_path / "team" / "result.csv")
    machine, found = "", {}
    for row in rows:
        machine = row[0] if len(row) == 1 else machine
        if row and row[0] in SECTIONS:
            found[machine, row[0]] = row[1:]
    assert found == {place: [repr(value) for value in row[1:]] for place, row in expected.items()}

    table = np.array(list(expected.values()))  # machine types in the order of their names, as the evaluator's
    aucs = [*table[:, 1], *table[:, 2], *table[:, 3]]
    official = hmean(np.maximum(np.array([aucs]), EPSILON), axis=None)
    in_order = [ours[place] for place in expected]
    assert official_score(in_order) == official
    both = means([*table[:, 1], *table[:, 2]])  # as a machine type's own means, over both domains
    assert both == (np.mean(np.array([aucs[:12]]), axis=1)[0], hmean(np.array([aucs[:12]]), axis=1)[0])
    overall = rows[-3:-1]
    assert overall[0][1:] == [repr(float(np.mean(np.array([values]), axis=1)[0])) for values in table.T[1:]]
    assert overall[1][1:] == [
        repr(float(hmean(np.maximum(np.array([values]), EPSILON), axis=1)[0])) for values in table.T[1:]
    ]


def some(machine: str = "fan", data: str = "plant", scores: Sequence[float] = (0.1, 1e-17, 3.0, 2.0)) -> Evaluation:
    """Four clips in one section, of which the first two are normal."""
    figures = section_figures(
        np.array(scores), np.array([False, False, True, True]), ["source", "target"] * 2, 1.0, machine
    )
    files = ("section_00_0000.wav", "section_00_0001.flac", "section_00_0002.wav", "section_00_0003.wav")
    clips = [
        record(ClipResult, file=file, section="00", score=score) for file, score in zip(files, scores, strict=True)
    ]
    system = record(SystemResult, sections={"00": figures})
    return record(Evaluation, machine=machine, data=data, clips=clips, thresholds={"00": 2.0}, systems=[system])


def unlabelled(evaluation: Evaluation) -> Evaluation:
    return msgspec.structs.replace(evaluation, systems=[])


def test_scores_and_decisions_byte_by_byte(tmp_path: Path) -> None:
    challenge_files.write([some()], tmp_path)
    assert (tmp_path / "anomaly_score_fan_section_00_test.csv").read_bytes() == (
        b"section_00_0000.wav,0.1\nsection_00_0001.flac,1e-17\nsection_00_0002.wav,3.0\nsection_00_0003.wav,2.0\n"
    )
    assert (tmp_path / "decision_result_fan_section_00_test.csv").read_bytes() == (
        b"section_00_0000.wav,0\nsection_00_0001.flac,0\nsection_00_0002.wav,1\nsection_00_0003.wav,0\n"
    )


def test_the_result_of_one_machine_type_byte_by_byte(tmp_path: Path) -> None:
    challenge_files.write([some()], tmp_path)
    figures = "1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0"
    rows = ["fan", f",{COLUMNS}", f"00,{figures}", f"arithmetic mean,{figures}", f"harmonic mean,{figures}"]
    assert (tmp_path / "result.csv").read_text() == "".join(f"{row}\n" for row in rows)


def test_several_machine_types_end_with_the_means_over_all(tmp_path: Path) -> None:
    worse = some("valve", scores=(0.1, 1.5, 3.0, 1.0))  # the target's normal clip beats one of the anomalies
    challenge_files.write([worse, some()], tmp_path)
    perfect = "1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0"
    of_worse = f"1.0,0.5,{worse.systems[0].sections['00'].pauc!r},1.0,0.0,1.0,0.0,1.0,0.0"
    arithmetic = f"1.0,0.75,{(1 + worse.systems[0].sections['00'].pauc) / 2!r},1.0,0.5,1.0,0.5,1.0,0.5"
    *rows, header, arithmetic_row, harmonic_row, last = (tmp_path / "result.csv").read_text().splitlines()
    assert rows[:6] == [
        "fan",
        f",{COLUMNS}",
        f"00,{perfect}",
        f"arithmetic mean,{perfect}",
        f"harmonic mean,{perfect}",
        "",
    ]
    assert rows[6:9] == ["valve", f",{COLUMNS}", f"00,{of_worse}"]
    assert rows[9] == f"arithmetic mean,{of_worse}"
    assert rows[10].startswith("harmonic mean,1.0,0.5,")
    assert rows[11:] == [""]
    assert header == f",{COLUMNS}"
    assert arithmetic_row == f'"arithmetic mean over all machine types, sections, and domains",{arithmetic}'
    name, harmonic = harmonic_row.rsplit('",')
    assert name == '"harmonic mean over all machine types, sections, and domains'
    assert [float(value) for value in harmonic.split(",")[:2]] == pytest.approx([1.0, 2 / 3])
    assert last == ""


@pytest.mark.parametrize("value", [0.1 + 0.2, 1 / 3, 5e-324, 1.7e308, -2.5e-7, float(np.float32(0.1))])
def test_a_score_is_read_back_as_it_was(tmp_path: Path, value: float) -> None:
    clip = record(ClipResult, file="section_00_0000.wav", section="00", score=value)
    challenge_files.write([msgspec.structs.replace(unlabelled(some()), clips=[clip])], tmp_path)
    [[_, written]] = rows_of(tmp_path / "anomaly_score_fan_section_00_test.csv")
    assert float(written) == value


def test_a_domain_without_normal_clips_leaves_its_cells_empty(tmp_path: Path) -> None:
    one = section_figures(
        np.array([0.0, 0.2, 1.0]), np.array([False, False, True]), ["source", "source", "target"], 0.1, "fan"
    )
    system = record(SystemResult, sections={"00": one})
    challenge_files.write([msgspec.structs.replace(some(), systems=[system])], tmp_path)
    rows = rows_of(tmp_path / "result.csv")
    assert rows[2] == ["00", "1.0", "", "1.0", "0.0", "", "0.0", "", "0.0", ""]
    assert rows[3][1:] == rows[2][1:]


def test_a_section_without_a_domain_leaves_the_means_to_the_others(tmp_path: Path) -> None:
    lacking = section_figures(
        np.array([0.0, 0.2, 1.0]), np.array([False, False, True]), ["source", "source", "target"], 0.1, "fan"
    )
    worse = some(scores=(0.1, 1.5, 3.0, 1.0)).systems[0].sections["00"]
    system = record(SystemResult, sections={"00": lacking, "01": worse})
    challenge_files.write([msgspec.structs.replace(some(), systems=[system])], tmp_path)
    rows = rows_of(tmp_path / "result.csv")
    assert [row[2] for row in rows[2:]] == ["", "0.5", "0.5", "0.5"]


def test_without_labels_there_is_no_result(tmp_path: Path) -> None:
    challenge_files.write([some(), unlabelled(some("valve"))], tmp_path)
    assert "valve" not in (tmp_path / "result.csv").read_text()
    assert (tmp_path / "anomaly_score_valve_section_00_test.csv").exists()
    challenge_files.write([unlabelled(some())], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "anomaly_score_fan_section_00_test.csv",
        "decision_result_fan_section_00_test.csv",
    ]


def test_the_same_machine_type_twice_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    challenge_files.write([some("valve")], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"files of fan twice, from old/plant and from new/plant"):
        challenge_files.write([some(data="old/plant"), some("valve"), some(data="new/plant")], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
