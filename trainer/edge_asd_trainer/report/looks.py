"""What all pictures have in common: their size, and how kinds of clips and sections look.

Every picture is one panel as wide as a phone, and the page sets as many side by side as there is room for: so its
letters are large enough to be read on either.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from edge_asd_trainer.evaluation import ClipResult, Evaluation

WIDTH = 4.0  # inches; shown 358 pixels wide, on a phone, 9 points are then 11 pixels
DOTS_PER_INCH = 220  # for screens that have two or three pixels where a page counts one
# Colour-blind safe (Okabe and Ito); every kind also has its own marker.
KINDS = {
    "normal, source": ("#0072B2", "o"),
    "normal, target": ("#56B4E9", "s"),
    "anomalous, source": ("#D55E00", "^"),
    "anomalous, target": ("#E69F00", "v"),
}
UNKNOWN = ("unlabelled", ("#777777", "x"))
# Sections: colour-blind safe too (Paul Tol, muted), and none of the kinds' colours.
SECTION_COLOURS = ("#332288", "#44AA99", "#CC6677", "#DDCC77", "#88CCEE", "#882255", "#117733", "#999933", "#AA4499")
MOST_SECTIONS = 24  # that have pictures of their own; of a thousand nobody would look at them


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture on the page.

    Attributes:
        name: of its PNG.
        figure: what is drawn.
        alt: what it shows, in words.
        caption: to be read below it; may be empty.
    """

    name: str
    figure: Figure
    alt: str
    caption: str = ""


def styled() -> AbstractContextManager[None]:
    """Inside, pictures are drawn in the letters and lines of a report."""
    return rc_context(
        {
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.labelsize": 9.5,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )


def panel(height: float) -> tuple[Figure, Axes]:
    """A figure as wide as a phone, so many inches high, and its only panel."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def sections(evaluation: Evaluation) -> list[str]:
    """The sections that have test clips."""
    return sorted({clip.section for clip in evaluation.clips})


def shown_sections(evaluation: Evaluation) -> list[str]:
    """Those of them that have pictures of their own."""
    return sections(evaluation)[:MOST_SECTIONS]


def of_section(evaluation: Evaluation, section: str) -> list[ClipResult]:
    """A section's test clips."""
    return [clip for clip in evaluation.clips if clip.section == section]


def section_colours(evaluation: Evaluation) -> dict[str, str]:
    """A colour a section of the bundle, the same in every picture; of very many, a shade between dark and light."""
    every = sorted(evaluation.thresholds)
    if len(every) <= len(SECTION_COLOURS):
        return dict(zip(every, SECTION_COLOURS, strict=False))
    shades = colormaps["viridis"](np.linspace(0, 0.95, len(every)))
    return {section: to_hex(shade) for section, shade in zip(every, shades, strict=True)}


def kind_of(clip: ClipResult) -> str:
    """What a clip is, as legends name it."""
    if clip.anomalous is None:
        return UNKNOWN[0]
    return f"{'anomalous' if clip.anomalous else 'normal'}, {clip.domain or 'source'}"


def kinds(clips: Sequence[ClipResult]) -> dict[str, tuple[str, str]]:
    """The kinds that occur, in a fixed order, with colour and marker."""
    occurring = {kind_of(clip) for clip in clips}
    return {kind: look for kind, look in [*KINDS.items(), UNKNOWN] if kind in occurring}


def look(kind: str, colour: str) -> dict[str, Any]:
    """How a test clip of a kind is drawn: its marker, hollow where anomalous so that what lies below can be seen."""
    _, marker = {**KINDS, UNKNOWN[0]: UNKNOWN[1]}[kind]
    inside = "none" if kind.startswith("anomalous") else colour
    return {"marker": marker, "linestyle": "", "color": colour, "markerfacecolor": inside, "markersize": 4}


def legend_below(figure: Figure, columns: int = 2) -> None:
    """The legend of a figure's panel, below it, where it covers nothing."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9)


def counted(number: int, of: str) -> str:
    """Such as "1 clip", "2 clips"."""
    return f"{number} {of}" if number == 1 else f"{number} {of}s"
