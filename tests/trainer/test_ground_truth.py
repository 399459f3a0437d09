"""Ground truth as CSV: its three forms, what is refused in them, and which clip gets which label and domain."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asd.clip_name import parse_clip_name
from edge_asd.errors import DataError, StorageError
from edge_asd_trainer import ground_truth
from edge_asd_trainer.data import Clip
from edge_asd_trainer.ground_truth import Truth, named, read


def csv_file(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def said(truth: ground_truth.GroundTruth) -> dict[str, tuple[str, str | None]]:
    return {clip: (one.label, one.domain) for clip, one in truth.items()}


def clips(*names: str) -> list[Clip]:
    return [Clip(Path("plant/fan/test") / name, parse_clip_name(name)) for name in names]


@pytest.fixture
def evaluator(tmp_path: Path) -> Path:
    """A folder as that of the official evaluator, with two sections of fan and one of valve."""
    labels = {("fan", "03"): "1", ("fan", "04"): "0", ("valve", "03"): "0"}
    for (machine, section), label in labels.items():
        name = f"ground_truth_{machine}_section_{section}_test.csv"
        first, second = (f"section_{section}_000{number}.wav" for number in range(2))
        csv_file(tmp_path / "ground_truth_data" / name, f"{first},0\n{second},{label}\n")
        csv_file(tmp_path / "ground_truth_domain" / name, f"{second},0\n{first},1\n")
    return tmp_path


def test_the_evaluators_folder_has_labels_and_domains(evaluator: Path) -> None:
    assert said(read(evaluator, "fan")) == {
        "section_03_0000": ("normal", "target"),
        "section_03_0001": ("anomaly", "source"),
        "section_04_0000": ("normal", "target"),
        "section_04_0001": ("normal", "source"),
    }
    assert said(read(evaluator, "valve"))["section_03_0001"] == ("normal", "source")
    path = evaluator / "ground_truth_data" / "ground_truth_fan_section_03_test.csv"
    assert read(evaluator, "fan")["section_03_0001"].place == f"{path}:2"


def test_a_folder_of_files_may_lack_domains_or_have_them_in_a_column(evaluator: Path) -> None:
    labels = evaluator / "ground_truth_data"
    assert said(read(labels, "fan"))["section_03_0001"] == ("anomaly", None)
    csv_file(labels / "ground_truth_fan_section_05_test.csv", "section_05_0000.wav,1,1\n")
    assert said(read(labels, "fan"))["section_05_0000"] == ("anomaly", "target")


@pytest.mark.parametrize("domains", [("0", "1"), ("source", "target")])
def test_one_file_with_domains_as_numbers_or_words(tmp_path: Path, domains: tuple[str, str]) -> None:
    text = "section_03_0000.wav,0,{}\nsection_03_0001.wav,1,{}\n".format(*domains)
    assert said(read(csv_file(tmp_path / "mine.csv", text), "fan")) == {
        "section_03_0000": ("normal", "source"),
        "section_03_0001": ("anomaly", "target"),
    }


def test_one_file_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbf"section_03_0000.wav", 1\r\n\r\nsection_03_0001.FLAC,0\r\n'
    assert said(read(csv_file(tmp_path / "mine.csv", text), "fan")) == {
        "section_03_0000": ("anomaly", None),
        "section_03_0001": ("normal", None),
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("section_03_0000.wav,0\nsection_03_0001.wav,2\n", r"mine\.csv:2: label '2'; expected one of 0 \(normal\), 1"),
        ("section_03_0000.wav,normal\n", r"mine\.csv:1: label 'normal'; expected one of 0"),
        ("section_03_0000.wav," + "1" * 9999, r"mine\.csv:1: label '1{80}'; expected one of 0"),
        ("section_03_0000.wav,0,2\n", r"mine\.csv:1: domain '2'; expected one of 0 \(source\), 1 \(target\)"),
        ("section_03_0000.wav\n", r"mine\.csv:1: 1 columns; expected name,label or name,label,domain\."),
        ("section_03_0000.wav,0,1,1\n", r"mine\.csv:1: 4 columns"),
        ("section_03_0000.wav,0,1\nsection_03_0001.wav,0\n", r"mine\.csv:2: 2 columns; .* in every row alike"),
        ("name,label\nsection_03_0000.wav,0\n", r"mine\.csv:1: 'name' says no section; .* no header"),
        ("fan/test/section_03_0000.wav,0\n", r"mine\.csv:1: 'fan/test/section_03_0000\.wav' has a folder"),
        ("..\\section_03_0000.wav,0\n", r"mine\.csv:1: .* has a folder"),
        ("section_03_0000.wav,0\n\nsection_03_0000.wav,1\n", r"mine\.csv:3: says of .* else than .*mine\.csv:1;"),
        ("section_03_0000.wav,0\nsection_03_0000.flac,1\n", r"mine\.csv:2: says of section_03_0000\.flac something"),
        ("section_03_0000.wav,0,0\nsection_03_0000.wav,0,1\n", r"mine\.csv:2: says of"),
        ("", r"mine\.csv: is empty; expected a row a clip"),
        ("\n \n", r"mine\.csv: is empty"),
        (b"section_03_0000.wav,0\nsection_03_\xe4.wav,1\n", r"mine\.csv:2: not UTF-8"),
        ('section_03_0000.wav,0\n"section_03_0001.wav,0\n', r"mine\.csv:2: not CSV"),
        ("section_03_0000.wav," + "0" * 200_000, r"mine\.csv:1: not CSV \(field larger than"),
        ("section_03_0000.wav,0\n" * 200_000, r"mine\.csv: larger than 4 MiB"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(tmp_path: Path, text: str | bytes, complaint: str) -> None:
    path = csv_file(tmp_path / "mine.csv", text)
    with pytest.raises(DataError, match=complaint) as refused:
        read(path, "fan")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_clip_twice_with_the_same_values_is_one(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "mine.csv", "section_03_0000.wav,1,1\nsection_03_0000.flac,1,target\n")
    assert said(read(path, "fan")) == {"section_03_0000": ("anomaly", "target")}


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: there is no such file or folder"):
        read(tmp_path / "gone", "fan")


def test_a_machine_type_without_files_is_told_which_have_some(evaluator: Path) -> None:
    with pytest.raises(DataError, match=r"no ground truth of slider; .*ground_truth_slider_.* found: fan, valve\)"):
        read(evaluator, "slider")
    with pytest.raises(DataError, match=r"no ground truth of \*; "):  # a name is no pattern
        read(evaluator, "*")
    with pytest.raises(DataError, match=r"no ground truth of fan; .* found: none\)"):
        read(csv_file(evaluator / "empty" / "other.csv", "").parent, "fan")


def test_a_file_of_another_machine_type_is_refused(evaluator: Path) -> None:
    path = evaluator / "ground_truth_data" / "ground_truth_valve_section_03_test.csv"
    with pytest.raises(DataError, match=r"the ground truth of valve by its name, not of fan"):
        read(path, "fan")
    assert len(read(path, "valve")) == 2


def test_domains_alone_are_not_taken_for_labels(evaluator: Path) -> None:
    with pytest.raises(DataError, match=r"ground_truth_domain: holds the domains alone"):
        read(evaluator / "ground_truth_domain", "fan")


def test_every_section_of_the_evaluators_folder_needs_its_domains(evaluator: Path) -> None:
    (evaluator / "ground_truth_domain" / "ground_truth_fan_section_04_test.csv").unlink()
    with pytest.raises(DataError, match=r"ground_truth_fan_section_04_test\.csv: no such file; the clips of .*data"):
        read(evaluator, "fan")


@pytest.mark.parametrize(
    ("shorter", "longer", "missing"), [("domain", "data", r"ground_truth_domain"), ("data", "domain", "labels")]
)
def test_labels_and_domains_must_name_the_same_clips(evaluator: Path, shorter: str, longer: str, missing: str) -> None:
    name = "ground_truth_fan_section_03_test.csv"
    csv_file(evaluator / f"ground_truth_{shorter}" / name, "section_03_0001.wav,0\n")
    complaint = rf"ground_truth_{longer}/{name}:\d: names section_03_0000, which is missing in the .*{missing}"
    with pytest.raises(DataError, match=complaint):
        read(evaluator, "fan")


def test_a_domain_file_has_domains_only(evaluator: Path) -> None:
    path = evaluator / "ground_truth_domain" / "ground_truth_fan_section_03_test.csv"
    csv_file(path, "section_03_0000.wav,0,1\n")
    with pytest.raises(DataError, match=r"section_03_test\.csv:1: 3 columns; expected name,domain\."):
        read(evaluator, "fan")


def test_a_row_in_another_sections_file_is_refused(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "ground_truth_fan_section_03_test.csv", "section_04_0000.wav,0\n")
    with pytest.raises(DataError, match=r"test\.csv:1: section_04_0000\.wav is of section 04 in a file of section 03"):
        read(path, "fan")


def test_a_file_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv_file(tmp_path / "mine.csv", "section_03_0000.wav,0\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match=r"mine\.csv: can't be read \(Permission denied\)"):
        read(path, "fan")


TRUTH = {
    "section_03_0000": Truth("normal", "target", "t.csv:1"),
    "section_03_0001": Truth("anomaly", None, "t.csv:2"),
    "section_04_0000": Truth("anomaly", "source", "t.csv:3"),
}


def test_clips_get_label_and_domain_whatever_their_format_and_form_of_name() -> None:
    given = clips("section_03_0001.flac", "section_03_test_0000.wav", "section_03_0002.wav")
    found = named(given, TRUTH)
    assert [clip.path for clip in found] == [clip.path for clip in given]
    assert [(clip.name.section, clip.name.label, clip.name.domain) for clip in found] == [
        ("03", "anomaly", None),
        ("03", "normal", "target"),
        ("03", None, None),
    ]
    assert given[0].name.label is None  # the clips given stay as they are


def test_what_a_name_says_already_stays_where_nothing_is_told() -> None:
    given = clips("section_03_0000.wav", "section_00_source_test_anomaly_0000_vel_21.wav")
    assert named(given, TRUTH)[1] == given[1]
    told = {"section_00_source_test_anomaly_0000_vel_21": Truth("anomaly", None, "t.csv:1")}
    assert named(given[1:], told) == given[1:]


@pytest.mark.parametrize(
    ("truth", "complaint"),
    [
        (Truth("normal", "source", "t.csv:7"), r"is anomaly by its name, and normal by t\.csv:7"),
        (Truth("anomaly", "target", "t.csv:7"), r"is source by its name, and target by t\.csv:7"),
    ],
)
def test_a_name_that_says_otherwise_is_refused(truth: Truth, complaint: str) -> None:
    name = "section_00_source_test_anomaly_0000"
    with pytest.raises(DataError, match=complaint):
        named(clips(f"{name}.wav"), {name: truth})


def test_sections_without_clips_are_left_aside_but_not_those_without_a_fitting_row() -> None:
    assert named(clips("section_03_0000.wav"), TRUTH)[0].name.label == "normal"
    with pytest.raises(
        DataError, match=r"t\.csv:3: names section_04_0000, and no row .* of section 04, such as .*0009"
    ):
        named(clips("section_03_0000.wav", "section_04_0009.wav"), TRUTH)
    with pytest.raises(DataError, match=r"t\.csv: has no row for any test clip, which are of section 05"):
        named(clips("section_05_0000.wav"), TRUTH)
    assert named([], TRUTH) == []
