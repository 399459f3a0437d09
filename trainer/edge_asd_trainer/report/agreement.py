"""Float against int8: whether quantisation changes what is decided."""

from __future__ import annotations

from matplotlib.figure import Figure

from edge_asd_trainer.evaluation import ClipResult, Evaluation
from edge_asd_trainer.report.looks import (
    Picture,
    counted,
    kind_of,
    kinds,
    legend_below,
    look,
    of_section,
    panel,
    shown_sections,
)


def pictures(evaluation: Evaluation) -> list[Picture]:
    """A panel a section."""
    drawn = []
    for section in shown_sections(evaluation):
        clips, threshold = of_section(evaluation, section), evaluation.thresholds[section]
        otherwise = decided_otherwise(clips, threshold)
        alt = (
            f"Score of each clip of section {section} by the float network and by the int8 network: {otherwise} of "
            f"{counted(len(clips), 'clip')} on different sides of the decision threshold, {threshold:.3g}."
        )
        drawn.append(Picture(f"agreement-{section}", agreement(evaluation, section), alt))
    return drawn


def agreement(evaluation: Evaluation, section: str) -> Figure:
    """Each clip's score by int8 over that by float, on one scale, cut into four by the bundle's threshold."""
    figure, axes = panel(4.2)
    clips, threshold = of_section(evaluation, section), evaluation.thresholds[section]
    every = [score for clip in clips for score in (clip.score, clip.float_score)]
    margin = 0.05 * (max(*every, threshold) - min(*every, threshold)) or 1.0
    ends = (min(*every, threshold) - margin, max(*every, threshold) + margin)
    axes.plot(ends, ends, color="#bbbbbb", linewidth=1, zorder=0, label="the same score")
    for kind, (colour, _) in kinds(clips).items():
        chosen = [clip for clip in clips if kind_of(clip) == kind]
        axes.plot(
            [clip.float_score for clip in chosen], [clip.score for clip in chosen], **look(kind, colour), label=kind
        )
    axes.axvline(threshold, color="black", linewidth=1, linestyle="--", label="the bundle's threshold")
    axes.axhline(threshold, color="black", linewidth=1, linestyle="--")
    otherwise = decided_otherwise(clips, threshold)
    axes.set(xlim=ends, ylim=ends, aspect="equal", xlabel="score, float network", ylabel="score, int8 network")
    axes.set_title(f"section {section}: {otherwise} of {counted(len(clips), 'clip')} decided otherwise")
    legend_below(figure)
    return figure


def decided_otherwise(clips: list[ClipResult], threshold: float) -> int:
    """How many clips lie above a threshold by one network alone."""
    return sum((clip.score > threshold) != (clip.float_score > threshold) for clip in clips)
