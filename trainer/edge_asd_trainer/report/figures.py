"""The pictures of a report, each a function from an evaluation to a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from edge_asd.front_end import FrontEnd, LogMel
from edge_asd_trainer.evaluation import ClipResult, Evaluation

# Colour-blind safe (Okabe and Ito); every kind also has its own marker.
KINDS = {
    "normal, source": ("#0072B2", "o"),
    "normal, target": ("#56B4E9", "s"),
    "anomalous, source": ("#D55E00", "^"),
    "anomalous, target": ("#E69F00", "v"),
}
UNKNOWN = ("unlabelled", ("#777777", "x"))
# Training clips stand behind the others, in grey; but a bank holds few of the target domain, and those are to be seen.
TRAINING = {"training, source": ("#bbbbbb", "o", 1), "training, target": ("#333333", "s", 3)}
# Sections: colour-blind safe too (Paul Tol, muted), and none of the kinds' colours.
SECTION_COLOURS = ("#332288", "#44AA99", "#CC6677", "#DDCC77", "#88CCEE", "#882255", "#117733", "#999933", "#AA4499")


def score_histograms(evaluation: Evaluation) -> Figure:
    """A panel a section: how normal and anomalous clips score, and the decision threshold."""
    figure, panels = _panels(evaluation, height=2.6)
    for section, axes in panels.items():
        clips = [clip for clip in evaluation.clips if clip.section == section]
        scores = np.array([clip.score for clip in clips])
        edges = np.linspace(0, float(scores.max()) * 1.02 + 1e-9, 26).tolist()
        for kind, (colour, _) in _kinds(clips).items():
            chosen = [clip.score for clip in clips if _kind(clip) == kind]
            axes.hist(chosen, edges, color=colour, alpha=0.6, label=kind)
        axes.axvline(evaluation.thresholds[section], color="black", linestyle="--", label="threshold")
        axes.set(title=f"section {section}", xlabel="anomaly score", ylabel="clips")
    _legend(figure, panels)
    return figure


def roc_curves(evaluation: Evaluation) -> Figure:
    """ROC of every section, and where its decision threshold lies on it."""
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axes = figure.subplots()
    colours = _section_colours(evaluation)
    for section in sorted(evaluation.systems[0].sections):
        clips = [clip for clip in evaluation.clips if clip.section == section and clip.anomalous is not None]
        truth = np.array([bool(clip.anomalous) for clip in clips])
        scores = np.array([clip.score for clip in clips])
        false_alarms, hits, _ = roc_curve(truth, scores)
        axes.plot(false_alarms, hits, color=colours[section], label=f"section {section}")
        called = scores > evaluation.thresholds[section]
        axes.plot(called[~truth].mean(), called[truth].mean(), "o", color=colours[section])
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    axes.axvspan(0, 0.1, color="#eeeeee", zorder=0)
    axes.set(xlabel="false alarms", ylabel="faults found", title="ROC (dot: threshold; grey: range of the pAUC)")
    axes.legend(loc="lower right")
    return figure


def embedding_map(evaluation: Evaluation) -> Figure:
    """All sections on one map, then each one's close-up.

    On the map a section is a colour and a kind a marker, hollow where anomalous; training clips are faint dots. In a
    close-up a kind has its colour too, training clips are grey, and a corner is as long as the decision threshold, in
    the scale of either direction. One section alone is its own map.
    """
    colours = _section_colours(evaluation)
    sections = _sections(evaluation)
    columns = min(2, len(sections))
    heights = [4.6] * (len(colours) > 1) + [3.1] * -(-len(sections) // columns)
    figure = Figure(figsize=(8.4, sum(heights) + 0.4), layout="constrained")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    if len(colours) > 1:
        _overview(figure.add_subplot(grid[0, :]), evaluation, colours)
    first = columns * (len(colours) > 1)
    panels = {section: figure.add_subplot(grid[divmod(first + i, columns)]) for i, section in enumerate(sections)}
    for section, axes in panels.items():
        _close_up(axes, evaluation, section, colours[section])
    _legend(figure, panels)
    return figure


def _overview(axes: Axes, evaluation: Evaluation, colours: Mapping[str, str]) -> None:
    places = evaluation.embeddings
    for section, colour in colours.items():
        known = [place.overview for place in places.train if place.section == section]
        axes.plot(*_columns(known), "o", color=colour, alpha=0.4, markersize=2.5, markeredgewidth=0)
    for kind in _kinds(evaluation.clips):
        for section, colour in colours.items():
            asked = [
                place.overview
                for clip, place in zip(evaluation.clips, places.test, strict=True)
                if (clip.section, _kind(clip)) == (section, kind)
            ]
            axes.plot(*_columns(asked), **_look(kind, colour))
    entries = [Line2D([], [], marker="o", linestyle="", color=colour) for colour in colours.values()]
    labels = [f"section {section}" for section in colours]
    for kind in _kinds(evaluation.clips):
        entries.append(Line2D([], [], **_look(kind, "#555555")))
        labels.append(kind)
    entries.append(Line2D([], [], marker="o", linestyle="", color="#555555", alpha=0.4, markersize=2.5))
    labels.append("training")
    axes.legend(entries, labels, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=5, fontsize=8, frameon=False)
    _plane(axes, "all sections", places.overview_shares)


def _close_up(axes: Axes, evaluation: Evaluation, section: str, colour: str) -> None:
    places = evaluation.embeddings
    known = [place for place in places.train if place.section == section]
    for kind, (grey, marker, order) in TRAINING.items():
        points = [place.close_up for place in known if kind.endswith(place.domain or "source")]
        if points:
            axes.plot(*_columns(points), marker, color=grey, markersize=3, markeredgewidth=0, zorder=order, label=kind)
    members = [
        (clip, place.close_up)
        for clip, place in zip(evaluation.clips, places.test, strict=True)
        if clip.section == section
    ]
    for kind, (kinds_colour, _) in _kinds([clip for clip, _ in members]).items():
        points = [point for clip, point in members if _kind(clip) == kind]
        axes.plot(*_columns(points), **_look(kind, kinds_colour), label=kind)
    every = np.array([place.close_up for place in known] + [point for _, point in members])
    left, below = every.min(axis=0) - 0.06 * np.ptp(every, axis=0)
    threshold = evaluation.thresholds[section]
    corner = ([left, left, left + threshold], [below + threshold, below, below])
    axes.plot(*corner, color="black", label="threshold, in both scales")
    _plane(axes, f"section {section}", places.close_up_shares[section])
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2)


def _plane(axes: Axes, title: str, shares: tuple[float, float]) -> None:
    """No numbers on the axes, but how much of the variance lies along each, for they have their own scales."""
    first, second = shares
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(f"component 1 ({first:.1%} of the variance)", fontsize=8)
    axes.set_ylabel(f"component 2 ({second:.1%})", fontsize=8)


def _look(kind: str, colour: str) -> dict[str, Any]:
    """How a test clip of a kind is drawn: its marker, hollow where anomalous so that what lies below can be seen."""
    _, marker = {**KINDS, UNKNOWN[0]: UNKNOWN[1]}[kind]
    inside = "none" if kind.startswith("anomalous") else colour
    return {"marker": marker, "linestyle": "", "color": colour, "markerfacecolor": inside, "markersize": 4}


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _section_colours(evaluation: Evaluation) -> dict[str, str]:
    """A colour a section of the bundle, the same in every picture; of very many, a shade between dark and light."""
    sections = sorted({place.section for place in evaluation.embeddings.train})
    if len(sections) <= len(SECTION_COLOURS):
        return dict(zip(sections, SECTION_COLOURS, strict=False))
    shades = colormaps["viridis"](np.linspace(0, 0.95, len(sections)))
    return {section: to_hex(shade) for section, shade in zip(sections, shades, strict=True)}


def spectrograms(clips: Sequence[tuple[str, LogMel]], front_end: FrontEnd) -> Figure:
    """Log-mels with their titles, one below the other, on one scale of decibels."""
    figure = Figure(figsize=(8, 1.9 * len(clips)), layout="constrained")
    every = figure.subplots(len(clips), squeeze=False)[:, 0]
    low, high = _range([log_mel for _, log_mel in clips])
    for axes, (title, log_mel) in zip(every, clips, strict=True):
        seconds = len(log_mel) * front_end.hop / front_end.sample_rate
        image = axes.imshow(
            log_mel.T,
            origin="lower",
            aspect="auto",
            vmin=low,
            vmax=high,
            extent=(0, seconds, 0, front_end.mels),
            cmap="magma",
        )
        axes.set_title(title, fontsize=8)
        axes.set_ylabel("mel band")
    every[-1].set_xlabel("seconds")
    figure.colorbar(image, ax=every, label="dB")
    return figure


def _range(log_mels: list[LogMel]) -> tuple[float, float]:
    values = np.concatenate([log_mel.ravel() for log_mel in log_mels])
    low, high = np.percentile(values, [2, 99.8])
    return float(low), float(high)


def _panels(evaluation: Evaluation, height: float) -> tuple[Figure, dict[str, Axes]]:
    sections = _sections(evaluation)
    columns = min(2, len(sections))
    rows = -(-len(sections) // columns)
    figure = Figure(figsize=(4.2 * columns, height * rows + 0.4), layout="constrained")
    every: NDArray[np.object_] = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in every[len(sections) :]:
        spare.set_axis_off()
    return figure, dict(zip(sections, every, strict=False))


def _legend(figure: Figure, panels: Mapping[str, Axes]) -> None:
    entries: dict[str, Artist] = {}
    for axes in panels.values():
        handles, labels = axes.get_legend_handles_labels()
        entries.update(zip(labels, handles, strict=True))
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=3, fontsize=8)


def _sections(evaluation: Evaluation) -> list[str]:
    return sorted({clip.section for clip in evaluation.clips})


def _kind(clip: ClipResult) -> str:
    if clip.anomalous is None:
        return UNKNOWN[0]
    return f"{'anomalous' if clip.anomalous else 'normal'}, {clip.domain or 'source'}"


def _kinds(clips: list[ClipResult]) -> dict[str, tuple[str, str]]:
    """The kinds that occur, in a fixed order, with colour and marker."""
    occurring = {_kind(clip) for clip in clips}
    return {kind: look for kind, look in [*KINDS.items(), UNKNOWN] if kind in occurring}
