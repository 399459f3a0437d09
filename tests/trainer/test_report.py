"""The report's pictures: what they show is what is there, whatever a log or a data set looks like."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_asd.bank import Bank
from edge_asd.clip_name import parse_clip_name
from edge_asd.errors import ConfigError
from edge_asd_trainer import report
from edge_asd_trainer.embedding_map import embedding_map
from edge_asd_trainer.evaluation import Agreement, ClipResult, Evaluation, Parity, evaluate
from edge_asd_trainer.report import curves, figures
from edge_asd_trainer.run_folder import RunFolder
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
    titles = [axes.get_title("left").split(" (")[0] for axes in figure.axes]
    assert titles == ["loss", "invariance", "variance", "learning rate"]
    for axes, drawn in zip(figure.axes, [*found.losses.values(), found.learning_rate], strict=True):
        assert axes.lines[0].get_xdata().tolist() == list(range(40))
        assert axes.lines[0].get_ydata().tolist() == drawn.tolist()
    assert figure.get_suptitle() == "pre-training: 40 steps, 4 epochs, median 12.5 clips/s"
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
    clips = [f"section_00_source_train_normal_{number:04d}.wav" for number in range(10)]
    for embeddings in (flat, round_about):
        found = embedding_map(embeddings[:20], names, {"00": Bank.of(embeddings[20:], clips)})
        places = np.array([place.close_up for place in [*found.test, *found.train]])
        shown = np.linalg.norm(places[:, np.newaxis] - places, axis=2)
        true = np.linalg.norm(embeddings[:, np.newaxis].astype(np.float64) - embeddings, axis=2)
        if embeddings is flat:
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


def evaluation_of(sections: int, domains: tuple[str, ...] = ("source", "target")) -> Evaluation:
    """Three test clips a kind and five training clips a section, each section at a place of its own."""
    random = np.random.default_rng(0)
    tests = [
        f"section_{section:02d}_{domain}_test_{label}_{number:04d}.wav"
        for section in range(sections)
        for domain in domains
        for label in ("normal", "anomaly")
        for number in range(3)
    ]
    names = [parse_clip_name(name) for name in tests]
    embeddings = random.normal(size=(len(tests), 8)) + [[10.0 * int(name.section)] for name in names]
    banks = {
        f"{section:02d}": Bank.of(
            (random.normal(size=(5, 8)) + 10 * section).astype(np.float32),
            [f"section_{section:02d}_{'target' if i == 4 else 'source'}_train_normal_{i:04d}.wav" for i in range(5)],
        )
        for section in range(sections)
    }
    clips = [
        ClipResult(file, file, name.section, name.domain, name.label == "anomaly", 1.0, "")
        for file, name in zip(tests, names, strict=True)
    ]
    return Evaluation(
        machine="fan",
        seed=0,
        preset="demo",
        data="",
        bundle="",
        clips=clips,
        thresholds=dict.fromkeys(banks, 1.5),
        systems=[],
        parity=Parity(1.0, Agreement(None, None, None), Agreement(None, None, None)),
        embeddings=embedding_map(embeddings.astype(np.float32), names, banks),
    )


def test_the_map_shows_sections_and_kinds_at_once_and_every_section_close_up() -> None:
    evaluation = evaluation_of(3)
    overview, *close_ups = figures.embedding_map(evaluation).axes
    assert [axes.get_title() for axes in close_ups] == ["section 00", "section 01", "section 02"]
    looks = {(line.get_color(), line.get_marker(), line.get_markerfacecolor()) for line in overview.lines}
    colours = figures.SECTION_COLOURS[:3]
    hollow = {(colour, marker, "none") for colour in colours for marker in "^v"}
    filled = {(colour, marker, colour) for colour in colours for marker in "os"}
    assert looks == hollow | filled
    legend = overview.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        *("section 00", "section 01", "section 02"),
        *figures.KINDS,
        "training",
    ]
    drawn = [tuple(point) for line in overview.lines for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]
    places = [*evaluation.embeddings.test, *evaluation.embeddings.train]
    assert sorted(drawn) == sorted(place.overview for place in places)

    for section, axes in zip(("00", "01", "02"), close_ups, strict=True):
        lines = {str(line.get_label()): line for line in axes.lines}
        assert list(lines) == [*figures.TRAINING, *figures.KINDS, "threshold, in both scales"]
        assert [len(lines[kind].get_xdata()) for kind in figures.TRAINING] == [4, 1]
        for kind, (colour, _) in figures.KINDS.items():
            asked = [
                place.close_up
                for clip, place in zip(evaluation.clips, evaluation.embeddings.test, strict=True)
                if clip.section == section and kind == f"{'anomalous' if clip.anomalous else 'normal'}, {clip.domain}"
            ]
            assert lines[kind].get_color() == colour
            assert list(zip(lines[kind].get_xdata(), lines[kind].get_ydata(), strict=True)) == asked
        corner = lines["threshold, in both scales"]
        assert np.ptp(corner.get_xdata()) == pytest.approx(1.5)
        assert np.ptp(corner.get_ydata()) == pytest.approx(1.5)


def test_one_section_is_its_own_map() -> None:
    [only] = figures.embedding_map(evaluation_of(1, ("source",))).axes
    assert only.get_title() == "section 00"


def test_more_sections_than_colours_still_have_one_each() -> None:
    overview, *_ = figures.embedding_map(evaluation_of(12, ("source",))).axes
    assert len({line.get_color() for line in overview.lines}) == 12


def test_the_page_shows_curves_where_there_is_a_log_and_none_where_not(run_folder: Path, tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(run_folder, tmp_path / "run"))
    evaluation = evaluate(folder)
    folder.log("fine-tuning").unlink()
    page = report.write(folder, evaluation).read_text()
    assert "<h3>Pre-training curves</h3>" in page
    assert "means collapse" in page
    assert "Fine-tuning curves" not in page
    assert (folder.report / "pre-training.png").is_file()
    folder.log("pre-training").unlink()
    assert "curves</h3>" not in report.write(folder, evaluation).read_text()
    assert not (folder.report / "pre-training.png").exists()
    folder.log("pre-training").write_text("not a log\n\n")
    with pytest.raises(ConfigError, match=r"pre-training\.csv: line 1 is no row of a training's log"):
        report.write(folder, evaluation)
