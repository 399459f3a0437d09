"""Where the clips' embeddings lie: all sections on one map, then each one's close-up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from edge_asd_trainer.embedding_map import EmbeddingMap
from edge_asd_trainer.evaluation import Evaluation
from edge_asd_trainer.report.looks import (
    Picture,
    counted,
    kind_of,
    kinds,
    legend_below,
    look,
    panel,
    section_colours,
    shown_sections,
)

# Training clips stand behind the others, in grey; but a bank holds few of the target domain, and those are to be seen.
TRAINING = {"training, source": ("#bbbbbb", "o", 1), "training, target": ("#333333", "s", 3)}


def pictures(evaluation: Evaluation) -> list[Picture]:
    """The map and its close-ups; none of a system without a bank. One section alone is its own map."""
    places = evaluation.embeddings
    if places is None:
        return []
    every = {place.section for place in places.train}
    drawn = []
    if len(every) > 1:
        drawn.append(
            Picture(
                "map",
                overview(evaluation, places),
                f"Map of the embeddings of {counted(len(places.test), 'test clip')} and "
                f"{counted(len(places.train), 'training clip')} of {len(every)} sections.",
            )
        )
    for section in shown_sections(evaluation):
        asked, known = (sum(place.section == section for place in of) for of in (places.test, places.train))
        drawn.append(
            Picture(
                f"map-{section}",
                close_up(evaluation, places, section),
                f"Map of section {section}: the embeddings of {counted(asked, 'test clip')} among those of "
                f"{counted(known, 'training clip')}.",
            )
        )
    return drawn


def overview(evaluation: Evaluation, places: EmbeddingMap) -> Figure:
    """A section is a colour and a kind a marker, hollow where anomalous; training clips are faint dots."""
    colours = section_colours(evaluation)
    occurring = kinds(evaluation.clips)
    figure, axes = panel(3.6 + 0.17 * ((len(colours) + len(occurring) + 2) // 2))
    for section, colour in colours.items():
        known = [place.overview for place in places.train if place.section == section]
        axes.plot(*_columns(known), "o", color=colour, alpha=0.4, markersize=2.5, markeredgewidth=0)
    for kind in occurring:
        for section, colour in colours.items():
            asked = [
                place.overview
                for clip, place in zip(evaluation.clips, places.test, strict=True)
                if (clip.section, kind_of(clip)) == (section, kind)
            ]
            axes.plot(*_columns(asked), **look(kind, colour))
    entries = [Line2D([], [], marker="o", linestyle="", color=colour) for colour in colours.values()]
    labels = [f"section {section}" for section in colours]
    for kind in occurring:
        entries.append(Line2D([], [], **look(kind, "#555555")))
        labels.append(kind)
    entries.append(Line2D([], [], marker="o", linestyle="", color="#555555", alpha=0.4, markersize=2.5))
    labels.append("training")
    figure.legend(entries, labels, loc="outside lower center", ncols=2, fontsize=9)
    _plane(axes, "all sections", places.overview_shares)
    return figure


def close_up(evaluation: Evaluation, places: EmbeddingMap, section: str) -> Figure:
    """A kind has its colour too, training clips are grey, a corner is as long as the threshold in either scale."""
    figure, axes = panel(3.5)
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
    for kind, (kinds_colour, _) in kinds([clip for clip, _ in members]).items():
        points = [point for clip, point in members if kind_of(clip) == kind]
        axes.plot(*_columns(points), **look(kind, kinds_colour), label=kind)
    every = np.array([place.close_up for place in known] + [point for _, point in members])
    left, below = every.min(axis=0) - 0.06 * np.ptp(every, axis=0)
    threshold = abs(evaluation.thresholds[section])  # of a flipped section it is a distance with the opposite sign
    corner = ([left, left, left + threshold], [below + threshold, below, below])
    axes.plot(*corner, color="black", label="threshold, both scales")
    _plane(axes, f"section {section}", places.close_up_shares[section])
    for spine in axes.spines.values():
        spine.set(color=section_colours(evaluation)[section], linewidth=2, visible=True)
    legend_below(figure)
    return figure


def _plane(axes: Axes, title: str, shares: tuple[float, float]) -> None:
    """No numbers on the axes, but how much of the variance lies along each, for they have their own scales."""
    first, second = shares
    axes.set(xticks=[], yticks=[], title=title)
    axes.set(xlabel=f"component 1 ({first:.1%} of the variance)", ylabel=f"component 2 ({second:.1%})")


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
