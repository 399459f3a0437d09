"""The report's pictures: what they show is what is there, whatever a log or a data set looks like."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_asd.bank import Bank
from edge_asd.clip_name import parse_clip_name
from edge_asd.errors import ConfigError, DataError
from edge_asd_trainer import challenge_files, report, tables
from edge_asd_trainer.bank_size import BankSize
from edge_asd_trainer.embedding_map import EmbeddingMap, embedding_map
from edge_asd_trainer.evaluation import ClipResult, Evaluation, SystemResult, evaluate
from edge_asd_trainer.metrics import section_figures
from edge_asd_trainer.parity import Agreement, Parity
from edge_asd_trainer.report import agreement, banks, clips, curves, embeddings, looks, scores
from edge_asd_trainer.run_folder import Provenance, RunFolder, write_json
from edge_asd_trainer.training_log import TrainingLog

HEADING = "step,epoch,learning_rate,loss,invariance,variance,clips_per_second\n"


def log_of(path: Path, rows: int, steps: int = 10) -> Path:
    lines = [f"{row},{row // steps},{0.1 + row},{row}.5,{2 * row},1e-3,12.5\n" for row in range(rows)]
    path.write_text(HEADING + "".join(lines))
    return path


def test_what_a_training_writes_is_what_the_report_reads(tmp_path: Path) -> None:
    with TrainingLog(tmp_path / "log.csv", tmp_path / "events").from_step(0) as log:
        for step in range(3):
            log.row(
                step, {"epoch": step // 2, "learning_rate": 0.1, "loss": 2.0 - step, "odd": step, "clips_per_second": 9}
            )
    found = curves.read(tmp_path / "log.csv")
    assert found is not None
    assert found.step.tolist() == [0, 1, 2]
    assert found.epoch.tolist() == [0, 0, 1]
    assert {name: values.tolist() for name, values in found.losses.items()} == {"loss": [2, 1, 0], "odd": [0, 1, 2]}
    assert found.speed.tolist() == [9, 9, 9]


@pytest.mark.parametrize("text", [None, "", HEADING[:20], HEADING, HEADING + "0,0,0.1,2.5,1,1,12"])
def test_a_log_without_a_whole_row_has_no_curves(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "log.csv").write_text(text)
    assert curves.read(tmp_path / "log.csv") is None


@pytest.mark.parametrize("cut", [3, 12, 1])
def test_a_last_line_that_was_cut_off_does_not_count(cut: int, tmp_path: Path) -> None:
    path = log_of(tmp_path / "log.csv", rows=4)
    path.write_bytes(path.read_bytes()[:-cut])
    found = curves.read(path)
    assert found is not None
    assert found.step.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b,c\n1,2,3\n", r"log\.csv: line 1 .* found 'a,b,c', expected step,epoch,learning_rate,loss,\.\.\."),
        (
            HEADING + "0,0,0.1,2.5,1,1,12\n1,0,0.1\n2,0,0.1,2.5,1,1,12\n",
            r"line 3 .* found '1,0,0.1', expected 7 numbers",
        ),
        (HEADING + "0,0,0.1,what,1,1,12\n", r"line 2 .* expected 7 numbers; remove the file, .* or train again\."),
    ],
)
def test_what_is_no_log_is_refused_with_the_way_on(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ConfigError, match=says):
        curves.read(tmp_path / "log.csv")


def test_curves_have_a_panel_a_column_and_the_epochs_below(tmp_path: Path) -> None:
    found = curves.read(log_of(tmp_path / "log.csv", rows=40))
    assert found is not None
    figure = curves.training_curves("pre-training", found)
    titles = [axes.get_title("left").replace("\n", " ").split(" (")[0] for axes in figure.axes]
    assert titles == ["loss", "invariance", "variance", "learning rate"]
    for axes, drawn in zip(figure.axes, [*found.losses.values(), found.learning_rate], strict=True):
        assert axes.lines[0].get_xdata().tolist() == list(range(40))
        assert axes.lines[0].get_ydata().tolist() == drawn.tolist()
    assert figure.get_suptitle() == "pre-training: 40 steps, 4 epochs,\nmedian 12.5 clips/s"
    [below] = figure.axes[-1].child_axes
    assert [
        (mark.get_text(), place) for mark, place in zip(below.get_xticklabels(), below.get_xticks(), strict=True)
    ] == [
        ("0", 0),
        ("1", 10),
        ("2", 20),
        ("3", 30),
    ]
    assert figure.axes[2].get_ylim()[0] == 0  # so that "near 0" can be seen
    assert figure.axes[2].get_yscale() == "linear"


def test_a_long_training_is_drawn_as_means_and_keeps_its_peaks(tmp_path: Path) -> None:
    found = curves.read(log_of(tmp_path / "log.csv", rows=2001))
    assert found is not None
    found.losses["loss"][777] = 1e6
    axes = curves.training_curves("fine-tuning", found).axes[0]
    drawn = axes.lines[0]
    assert len(drawn.get_xdata()) == curves.BINS
    edges = np.arange(curves.BINS) * 2001 // curves.BINS
    means = [part.mean() for part in np.split(found.losses["loss"], edges[1:])]
    np.testing.assert_allclose(drawn.get_ydata(), means)
    [band] = axes.collections
    assert band.get_paths()[0].vertices[:, 1].max() == 1e6


def test_round_epochs_alone_are_marked_where_there_are_many(tmp_path: Path) -> None:
    found = curves.read(log_of(tmp_path / "log.csv", rows=600, steps=10))
    assert found is not None
    [below] = curves.training_curves("pre-training", found).axes[-1].child_axes
    assert [mark.get_text() for mark in below.get_xticklabels()] == [str(epoch) for epoch in range(0, 60, 5)]
    assert below.get_xticks().tolist() == list(range(0, 600, 50))


def on_a_plane(points: NDArray[np.float64], dimensions: int = 320) -> NDArray[np.float32]:
    """(points, 2) turned into a plane of many dimensions, off its origin."""
    random = np.random.default_rng(0)
    axes, _ = np.linalg.qr(random.normal(size=(dimensions, 2)))
    return (points @ axes.T + 1).astype(np.float32)


def test_the_map_keeps_distances_of_what_lies_on_a_plane_and_never_makes_one_longer() -> None:
    random = np.random.default_rng(1)
    flat = on_a_plane(random.normal(size=(30, 2)) * (5, 1))
    round_about = random.normal(size=(30, 320)).astype(np.float32)
    names = [parse_clip_name(f"section_00_target_test_anomaly_{number:04d}.wav") for number in range(20)]
    known = [f"section_00_source_train_normal_{number:04d}.wav" for number in range(10)]
    for points in (flat, round_about):
        found = embedding_map(points[:20], names, {"00": Bank.of(points[20:], known)})
        places = np.array([place.close_up for place in [*found.test, *found.train]])
        shown = np.linalg.norm(places[:, np.newaxis] - places, axis=2)
        true = np.linalg.norm(points[:, np.newaxis].astype(np.float64) - points, axis=2)
        if points is flat:
            np.testing.assert_allclose(shown, true, atol=0.01)  # a bank is kept in float16
            assert sum(found.overview_shares) == pytest.approx(1, abs=1e-4)
        assert (shown <= true + 0.05).all()
        assert found.overview_shares == found.close_up_shares["00"]  # one section: the same picture
    assert [place.domain for place in found.test] == ["target"] * 20
    assert [place.domain for place in found.train] == ["source"] * 10


def test_a_close_up_shows_what_the_overview_has_no_room_for() -> None:
    random = np.random.default_rng(4)
    embeddings = np.zeros((20, 8), np.float32)
    embeddings[:10, 0], embeddings[:10, 1] = 100, 9 * random.normal(size=10)
    embeddings[10:, 2] = random.normal(size=10)  # of section 01 alone
    names = [parse_clip_name(f"section_{section:02d}_{number:04d}.wav") for section in (0, 1) for number in range(10)]
    bank = {"01": Bank.of(embeddings[10:11], ["section_01_source_train_normal_0000.wav"])}
    found = embedding_map(embeddings, names, bank)
    np.testing.assert_allclose(np.ptp([place.overview for place in found.test[10:]], axis=0), 0, atol=0.1)
    seen = np.array([place.close_up[0] for place in found.test[10:]])
    np.testing.assert_allclose(np.abs(seen - seen[0]), np.abs(embeddings[10:, 2] - embeddings[10, 2]), atol=1e-4)
    assert found.close_up_shares["01"] == pytest.approx((1, 0), abs=1e-4)


def test_the_map_is_not_mirrored_by_chance() -> None:
    embeddings = np.random.default_rng(2).normal(size=(12, 320)).astype(np.float32)
    names = [parse_clip_name(f"section_00_{number:04d}.wav") for number in range(10)]
    bank = Bank.of(
        embeddings[10:], ["section_00_source_train_normal_0000.wav", "section_00_source_train_normal_0001.wav"]
    )
    once = embedding_map(embeddings[:10], names, {"00": bank})
    order = np.random.default_rng(3).permutation(10)
    again = embedding_map(embeddings[:10][order], names, {"00": bank})
    np.testing.assert_allclose(
        [once.test[index].overview for index in order], [place.overview for place in again.test], atol=1e-5
    )


def evaluation_of(sections: int, domains: tuple[str, ...] = ("source", "target"), sign: float = 1.0) -> Evaluation:
    """Three test clips a kind and five training clips a section, each section at a place of its own.

    Section n's clips score up to 10 ** n, the anomalous ones and the later ones more; all of them with the sign.
    """
    random = np.random.default_rng(0)
    tests = [
        f"section_{section:02d}_{domain}_test_{label}_{number:04d}.wav"
        for section in range(sections)
        for domain in domains
        for label in ("normal", "anomaly")
        for number in range(3)
    ]
    names = [parse_clip_name(name) for name in tests]
    places = random.normal(size=(len(tests), 8)) + [[10.0 * int(name.section)] for name in names]
    known = {
        f"{section:02d}": Bank.of(
            (random.normal(size=(5, 8)) + 10 * section).astype(np.float32),
            [f"section_{section:02d}_{'target' if i == 4 else 'source'}_train_normal_{i:04d}.wav" for i in range(5)],
        )
        for section in range(sections)
    }
    found = [
        ClipResult(
            file=file,
            path=f"fan/test/{file}",
            section=name.section,
            domain=name.domain,
            anomalous=name.label == "anomaly",
            score=sign * 10.0 ** int(name.section) * (0.3 * (name.label == "anomaly") + 0.2 * int(file[-5]) + 0.3),
            float_score=sign * 10.0 ** int(name.section) * 0.5,
            nearest="",
        )
        for file, name in zip(tests, names, strict=True)
    ]
    thresholds = {section: sign * 10.0 ** int(section) * 0.65 for section in known}
    figures = {
        section: section_figures(
            np.array([clip.score for clip in found if clip.section == section]),
            np.array([bool(clip.anomalous) for clip in found if clip.section == section]),
            [clip.domain or "" for clip in found if clip.section == section],
            thresholds[section],
            section,
        )
        for section in known
    }
    return Evaluation(
        machine="fan",
        system="system1",
        seed=0,
        preset="demo",
        data="",
        bundle="",
        clips=found,
        thresholds=thresholds,
        flipped=[],
        systems=[
            SystemResult(
                name="System 1, int8 (the bundle)",
                sections=figures,
                score=0.7654,
                interval=(0.6, 0.8),
                training_seconds=1234.5,
                bundle_bytes=2118427,
                milliseconds=7.25,
            )
        ],
        parity=Parity(1.0, Agreement(None, None, None), Agreement(None, None, None)),
        embeddings=embedding_map(places.astype(np.float32), names, known),
        bank_sizes=[
            BankSize(1, 9000, 0.55, 0.5, 0.4, 0.6),
            BankSize(2, 10_000, 0.65, 0.6, 0.55, 0.7),
            BankSize(5, 13_000, 0.8, 0.8, 0.8, 0.8),
        ],
    )


def places_of(evaluation: Evaluation) -> EmbeddingMap:
    assert evaluation.embeddings is not None
    return evaluation.embeddings


def test_the_map_shows_sections_and_kinds_at_once_and_every_section_close_up() -> None:
    evaluation = evaluation_of(3)
    drawn = embeddings.pictures(evaluation)
    assert [picture.name for picture in drawn] == ["map", "map-00", "map-01", "map-02"]
    [overview] = drawn[0].figure.axes
    close_ups = [picture.figure.axes[0] for picture in drawn[1:]]
    assert [axes.get_title() for axes in close_ups] == ["section 00", "section 01", "section 02"]
    known = {(line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in overview.lines}
    colours = looks.SECTION_COLOURS[:3]
    hollow = {(colour, marker, "none") for colour in colours for marker in "^v"}
    filled = {(colour, marker, colour) for colour in colours for marker in "os"}
    assert known == hollow | filled
    [legend] = drawn[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *("section 00", "section 01", "section 02"),
        *looks.KINDS,
        "training",
    ]
    points = [tuple(point) for line in overview.lines for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]
    found = places_of(evaluation)
    assert sorted(points) == sorted(place.overview for place in [*found.test, *found.train])

    for section, axes in zip(("00", "01", "02"), close_ups, strict=True):
        lines = {str(line.get_label()): line for line in axes.lines}
        assert list(lines) == [*embeddings.TRAINING, *looks.KINDS, "threshold, both scales"]
        assert [len(lines[kind].get_xdata()) for kind in embeddings.TRAINING] == [4, 1]
        for kind, (colour, _) in looks.KINDS.items():
            asked = [
                place.close_up
                for clip, place in zip(evaluation.clips, found.test, strict=True)
                if clip.section == section and kind == f"{'anomalous' if clip.anomalous else 'normal'}, {clip.domain}"
            ]
            assert lines[kind].get_color() == colour
            assert list(zip(lines[kind].get_xdata(), lines[kind].get_ydata(), strict=True)) == asked
        corner = lines["threshold, both scales"]
        assert np.ptp(corner.get_xdata()) == pytest.approx(evaluation.thresholds[section])
        assert np.ptp(corner.get_ydata()) == pytest.approx(evaluation.thresholds[section])


def test_one_section_is_its_own_map() -> None:
    [only] = embeddings.pictures(evaluation_of(1, ("source",)))
    assert only.figure.axes[0].get_title() == "section 00"


def test_without_a_bank_there_is_neither_map_nor_bank_size() -> None:
    evaluation = msgspec.structs.replace(evaluation_of(1), embeddings=None, bank_sizes=[])
    assert embeddings.pictures(evaluation) == []
    assert banks.pictures(evaluation) == []


def test_more_sections_than_colours_still_have_one_each() -> None:
    overview = embeddings.pictures(evaluation_of(12, ("source",)))[0].figure.axes[0]
    assert len({line.get_color() for line in overview.lines}) == 12


def test_of_very_many_sections_the_first_have_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "MOST_SECTIONS", 2)
    evaluation = evaluation_of(3)
    for pictures in (scores.pictures, agreement.pictures, embeddings.pictures):
        assert not [picture.name for picture in pictures(evaluation) if picture.name.endswith("-02")]


def bars(figure: Figure) -> dict[str, dict[float, float]]:
    """Of every kind in a histogram the height of each bar that has one, by the middle of its bin."""
    return {
        kind: {
            round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in container if bar.get_height() != 0
        }
        for kind, container in zip(looks.KINDS, (one for one in figure.axes[0].containers), strict=False)
    }


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_histogram_has_each_domain_on_its_side_from_the_lowest_score_on(sign: float) -> None:
    evaluation = evaluation_of(2, sign=sign)
    figure = scores.score_histogram(evaluation, "01")
    axes = figure.axes[0]
    found = bars(figure)
    assert list(found) == list(looks.KINDS)
    for kind, heights in found.items():
        assert sum(heights.values()) == (-3 if "target" in kind else 3)
    lowest = min(clip.score for clip in evaluation.clips if clip.section == "01")
    assert min(bar.get_x() for one in axes.containers for bar in one) == pytest.approx(lowest)
    [threshold] = [line for line in axes.lines if str(line.get_label()).startswith("threshold")]
    assert list(threshold.get_xdata()) == [evaluation.thresholds["01"]] * 2
    assert axes.get_ylim()[0] == -axes.get_ylim()[1]
    assert [text.get_text() for text in axes.texts] == ["source", "target"]
    assert scores.pictures(evaluation)[1].alt.startswith("Histogram of the anomaly scores of section 01: ")
    above = "1 of 3 clips (normal, source)" if sign > 0 else "2 of 3 clips (normal, source)"
    assert above in scores.pictures(evaluation)[1].alt


def test_a_histogram_without_a_target_domain_has_one_side() -> None:
    evaluation = evaluation_of(1, ("source",))
    unlabelled = [msgspec.structs.replace(clip, anomalous=None, domain=None) for clip in evaluation.clips]
    figure = scores.score_histogram(msgspec.structs.replace(evaluation, clips=unlabelled), "00")
    assert figure.axes[0].get_ylim()[0] == 0
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["unlabelled", "threshold, 0.65"]


def test_roc_curves_end_where_they_must_and_their_dots_are_the_decisions() -> None:
    evaluation = evaluation_of(2)
    axes = scores.roc_curves(evaluation).axes[0]
    curve, dot, *_ = axes.lines
    assert (curve.get_xdata()[0], curve.get_ydata()[0]) == (0, 0)
    assert (curve.get_xdata()[-1], curve.get_ydata()[-1]) == (1, 1)
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert str(curve.get_label()) == f"00: AUC {100 * evaluation.systems[0].sections['00'].auc:.1f}"


def test_float_against_int8_counts_what_is_decided_otherwise() -> None:
    evaluation = evaluation_of(2)
    [first, _] = agreement.pictures(evaluation)  # float scores all lie below the threshold
    above = sum(clip.score > evaluation.thresholds["00"] for clip in evaluation.clips if clip.section == "00")
    axes = first.figure.axes[0]
    assert axes.get_title() == f"section 00: {above} of 12 clips decided otherwise"
    assert f"{above} of 12 clips on different sides of the decision threshold" in first.alt
    lines = {str(line.get_label()): line for line in axes.lines}
    assert set(lines["normal, source"].get_xdata()) == {0.5}
    assert lines["normal, source"].get_ydata() == pytest.approx([0.3, 0.5, 0.7])
    assert axes.get_xlim() == axes.get_ylim()


def test_bank_sizes_are_drawn_over_their_bytes_with_the_random_ones_in_a_band() -> None:
    [picture] = banks.pictures(evaluation_of(1))
    axes = picture.figure.axes[0]
    [above] = axes.child_axes
    assert [label.get_text() for label in above.get_xticklabels()] == ["1", "2", "5"]
    drawn, chosen = axes.lines
    assert drawn.get_ydata() == pytest.approx([50, 60, 80])
    assert chosen.get_ydata() == pytest.approx([55, 65, 80])
    assert chosen.get_xdata() == pytest.approx([9, 10, 13])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(40), pytest.approx(80))
    assert "80.0 % with 5" in picture.alt


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_telling_clips_are_the_two_strangest_and_the_two_least_strange_of_all_sections(sign: float) -> None:
    evaluation = evaluation_of(2, ("source",), sign)
    chosen = clips.telling(evaluation)
    assert [one.name for one in chosen] == ["clip-normal-1", "clip-normal-2", "clip-anomalous-1", "clip-anomalous-2"]
    # Both sections are alike but for their scale, in which section 01's numbers are ten times those of 00.
    assert {one.clip.section for one in chosen[:2]} == {one.clip.section for one in chosen[2:]} == {"00", "01"}
    last, first = ("0002.wav", "0000.wav") if sign > 0 else ("0000.wav", "0002.wav")
    assert [one.clip.file[-8:] for one in chosen] == [last, last, first, first]
    assert [one.why for one in chosen] == [
        "normal, and scores highest",
        "normal, and scores second highest",
        "anomalous, and scores lowest",
        "anomalous, and scores second lowest",
    ]


def test_there_are_fewer_telling_clips_where_there_are_fewer() -> None:
    evaluation = evaluation_of(1, ("source",))
    normal = [clip for clip in evaluation.clips if clip.anomalous is False]
    one = msgspec.structs.replace(evaluation, clips=normal[:1])
    assert [telling.name for telling in clips.telling(one)] == ["clip-normal-1"]
    assert clips.telling(msgspec.structs.replace(evaluation, clips=[])) == []


def test_the_table_of_systems_says_what_each_costs() -> None:
    evaluation = evaluation_of(1)
    [ships] = evaluation.systems
    fitted = msgspec.structs.replace(ships, bundle_bytes=None, training_seconds=0.0456)
    assert tables.results_header(ships) == [
        *("system", "score", "training, s", "bytes", "ms a clip"),
        *("00 source", "00 target", "00 pAUC"),
    ]
    row, other = tables.results_rows([ships, fitted])
    assert row[1] == tables.Cell("76.5", "60.0 to 80.0")
    assert [cell.text for cell in row[2:5]] == ["1,234", "2,118,427", "7.2"]
    assert [cell.text for cell in other[2:4]] == ["0.046", "-"]
    assert [cell.text for cell in row[5:]] == [f"{100 * value:.1f}" for value in ships.sections["00"].official()]


def test_the_table_of_figures_has_the_numbers_of_the_challenges_result(tmp_path: Path) -> None:
    evaluation = evaluation_of(3)
    challenge_files.write([evaluation], tmp_path)
    _, header, *rows = [line.split(",") for line in (tmp_path / "result.csv").read_text().splitlines()]
    expected = {name: [f"{100 * float(cell):.1f}" for cell in cells] for name, *cells in rows}
    figures = tables.figures_rows(evaluation)
    assert [section.name for section in figures] == list(expected)
    for section in figures:
        source, target = section.domains
        assert [source.domain, target.domain] == ["source", "target"]
        shown = [
            *(source.auc.text, target.auc.text, section.pauc.text, source.precision, target.precision),
            *(source.recall, target.recall, source.f1, target.f1),
        ]
        assert dict(zip(header[1:], shown, strict=True)) == dict(zip(header[1:], expected[section.name], strict=True))
    low, high = evaluation.systems[0].sections["00"].domains["source"].auc_interval
    assert figures[0].domains[0].auc.below == f"{100 * low:.1f} to {100 * high:.1f}"
    assert (figures[0].domains[0].normal, figures[0].domains[0].anomalous) == ("3", "3")
    assert figures[-1].domains[0].normal == figures[-1].pauc.below == ""


def test_a_domain_that_a_section_lacks_has_no_row() -> None:
    figures = tables.figures_rows(evaluation_of(2, ("source",)))
    assert [[row.domain for row in section.domains] for section in figures] == [["source"]] * 4


@pytest.fixture(scope="module")
def evaluation(run_folder: Path) -> Evaluation:
    return evaluate(RunFolder(run_folder))


@pytest.fixture
def folder(run_folder: Path, tmp_path: Path) -> RunFolder:
    """A copy of the run."""
    return RunFolder(shutil.copytree(run_folder, tmp_path / "run"))


@pytest.fixture(scope="module")
def page(run_folder: Path, evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the run, where an earlier one has left a picture."""
    folder = RunFolder(shutil.copytree(run_folder, tmp_path_factory.mktemp("report") / "run"))
    folder.report.mkdir(exist_ok=True)
    (folder.report / "of-another-time.png").write_bytes(b"")
    return report.write(folder, evaluation)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the page's text: its pictures, which take seconds, stay empty."""
    monkeypatch.setattr("edge_asd_trainer.report.page._png", lambda picture: b"")


class Reader(HTMLParser):
    """Every tag and attribute of a page, and what its style says."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.style = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.style += data
        self._inside = "" if data.strip() else self._inside


def references(page: str) -> list[str]:
    """Whatever in a page could make a browser ask for another file, or run something."""
    reader = Reader()
    reader.feed(page)
    harmless = {"alt", "charset", "class", "content", "http-equiv", "id", "lang", "name", "rowspan", "tabindex"}
    text = {
        "body",
        "br",
        "dd",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "h1",
        "h2",
        "h3",
        "head",
        "html",
        "img",
        "meta",
        "p",
    }
    text |= {"pre", "span", "style", "table", "tbody", "td", "th", "thead", "title", "tr", "div"}
    found = [f"<{tag}>" for tag in sorted(reader.tags - text)]
    for tag, name, value in reader.attributes:
        if name not in harmless and not (name == "src" and value.startswith("data:image/png;base64,")):
            found.append(f'<{tag} {name}="{value[:40]}">')
        if name == "http-equiv" and value != "Content-Security-Policy":  # a refresh would lead away
            found.append(f'<{tag} {name}="{value[:40]}">')
    return found + [word for word in ("url(", "@import", "@font-face", "expression(") if word in reader.style]


def test_the_page_refers_to_nothing_outside_itself(page: Path) -> None:
    text = page.read_text()
    assert references(text) == []
    assert "default-src 'none'" in text
    for outside in (
        '<img src="https://example.org/a.png">',
        '<img src="roc.png">',
        '<img srcset="roc.png 2x">',
        '<link rel="stylesheet" href="//example.org/a.css">',
        "<script>1</script>",
        '<p style="background: url(a.png)">',
        "<style>p { background: url(a.png) }</style>",
        '<meta http-equiv="refresh" content="0; url=https://example.org">',
    ):
        assert references(text.replace("<h2>Results", outside + "<h2>Results")), outside


def test_the_page_says_what_was_trained_on_what(page: Path, evaluation: Evaluation, tiny_bundle: Path) -> None:
    text = page.read_text()
    assert "System 1, trained on 16 normal clips of 2 sections" in text
    for said in (evaluation.data, evaluation.bundle, f"{tiny_bundle.stat().st_size:,} bytes", "<dd>demo, 0</dd>"):
        assert said in text
    assert "<td>00</td><td>6</td><td>2</td>" in text
    assert 'id="flipped"' not in text


@pytest.mark.usefixtures("undrawn")
def test_a_flipped_section_is_not_passed_off_as_an_estimate(folder: RunFolder, evaluation: Evaluation) -> None:
    page = report.write(folder, msgspec.structs.replace(evaluation, flipped=["01"])).read_text()
    [said] = [part for part in page.split("<p") if part.startswith(' class="warning" id="flipped"')]
    assert "scores of section 01 have the opposite sign" in said
    assert "no estimate" in said


def test_every_picture_of_the_page_is_a_png_beside_it_and_no_other_is(page: Path) -> None:
    reader = Reader()
    reader.feed(page.read_text())
    names = [value for tag, name, value in reader.attributes if (tag, name) == ("figure", "id")]
    assert names == [
        *("histogram-00", "histogram-01", "roc"),
        *("clip-normal-1", "clip-normal-2", "clip-anomalous-1", "clip-anomalous-2"),
        *("map", "map-00", "map-01", "bank-size", "agreement-00", "agreement-01", "pre-training", "fine-tuning"),
    ]
    assert {path.stem for path in page.parent.glob("*.png")} == set(names)
    for name in names:
        assert page.with_name(f"{name}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.usefixtures("undrawn")
def test_a_system_without_a_bank_has_a_page_too(folder: RunFolder, evaluation: Evaluation) -> None:
    found = [msgspec.structs.replace(clip, nearest="", score=-clip.score) for clip in evaluation.clips]
    bare = msgspec.structs.replace(evaluation, clips=found, embeddings=None, bank_sizes=[])
    page = report.write(folder, bare).read_text()
    assert "<h2>Embeddings" not in page
    assert "<h2>Bank size" not in page
    assert "nearest normal training clip" not in page
    assert 'id="clip-anomalous-1"' in page


@pytest.mark.usefixtures("undrawn")
def test_both_telling_clips_may_be_nearest_to_the_same(folder: RunFolder, evaluation: Evaluation) -> None:
    nearest = evaluation.clips[0].nearest
    shared = [msgspec.structs.replace(clip, nearest=nearest) for clip in evaluation.clips]
    page = report.write(folder, msgspec.structs.replace(evaluation, clips=shared)).read_text()
    assert page.count(f"Its nearest normal training clip: {nearest}.") == 4


def test_a_nearest_clip_that_has_gone_is_missed_before_anything_is_written(
    folder: RunFolder, evaluation: Evaluation, plant: Path
) -> None:
    data = shutil.copytree(plant, folder.path.parent / "plant")
    write_json(folder.provenance, Provenance(str(data), "fan", "demo"))
    for clip in evaluation.clips:
        (data / "fan" / "train" / clip.nearest).unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"fan/train: section_\S+\.wav is no longer there, .* put it back, or"):
        report.write(folder, evaluation)
    assert not folder.report.exists()


def test_numbers_that_are_not_the_bundles_are_not_shown_beside_it(folder: RunFolder, evaluation: Evaluation) -> None:
    folder.config.write_text(folder.config.read_text().replace("seed = 0", "seed = 1"))
    with pytest.raises(ConfigError, match="not the bundle that was evaluated"):
        report.write(folder, evaluation)


@pytest.mark.usefixtures("undrawn")
def test_the_page_shows_curves_where_there_is_a_log_and_none_where_not(
    folder: RunFolder, evaluation: Evaluation
) -> None:
    folder.log("fine-tuning").unlink()
    shutil.copy(folder.log("pre-training"), folder.log("training"))  # what another system left in the same folder
    page = report.write(folder, evaluation).read_text()
    assert '<figure id="pre-training">' in page
    assert "means collapse" in page
    assert '<figure id="fine-tuning">' not in page
    assert '<figure id="training">' not in page
    assert (folder.report / "pre-training.png").is_file()
    folder.log("pre-training").unlink()
    assert 'id="pre-training"' not in report.write(folder, evaluation).read_text()
    assert not (folder.report / "pre-training.png").exists()
    folder.log("pre-training").write_text("not a log\n\n")
    with pytest.raises(ConfigError, match=r"pre-training\.csv: line 1 is no row of a training's log"):
        report.write(folder, evaluation)


def test_every_training_of_every_system_has_a_reading() -> None:
    from edge_asd_trainer.systems import SYSTEMS

    assert {stage for system in SYSTEMS.values() for stage in system.stages} == set(curves.READINGS)


def test_a_training_without_terms_has_its_loss_drawn(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,epoch,learning_rate,loss,clips_per_second\n0,0,1e-3,2,9\n1,0,1e-3,1,9\n")
    found = curves.read(tmp_path / "log.csv")
    assert found is not None
    panels = curves.training_curves("training", found).axes
    assert [axes.get_title("left") for axes in panels] == ["loss (what is minimised)", "learning rate (of each step)"]
