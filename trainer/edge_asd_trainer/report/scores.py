"""How the clips score: histograms by domain with the decision threshold, and ROC curves."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from edge_asd_trainer.evaluation import Evaluation
from edge_asd_trainer.metrics import MAX_FPR
from edge_asd_trainer.report.looks import (
    Picture,
    counted,
    kind_of,
    kinds,
    legend_below,
    of_section,
    panel,
    section_colours,
    shown_sections,
)

BINS = 24


def pictures(evaluation: Evaluation) -> list[Picture]:
    """A histogram a section, then the ROC curves where there are labels."""
    drawn = [
        Picture(
            f"histogram-{section}",
            score_histogram(evaluation, section),
            f"Histogram of the anomaly scores of section {section}: {_in_words(evaluation, section)}",
        )
        for section in shown_sections(evaluation)
    ]
    if evaluation.systems:
        of = ", ".join(
            f"{section} {figures.auc:.3f}" for section, figures in sorted(evaluation.systems[0].sections.items())
        )
        drawn.append(Picture("roc", roc_curves(evaluation), f"ROC curve of every section; area under it: {of}"))
    return drawn


def score_histogram(evaluation: Evaluation, section: str) -> Figure:
    """One section: how normal and anomalous clips score, upwards the source domain, downwards the target domain."""
    figure, axes = panel(3.1)
    clips = of_section(evaluation, section)
    threshold = evaluation.thresholds[section]
    edges = np.histogram_bin_edges([*(clip.score for clip in clips), threshold], BINS).tolist()
    for kind, (colour, _) in kinds(clips).items():
        for downwards in (False, True):
            chosen = [clip.score for clip in clips if kind_of(clip) == kind and (clip.domain == "target") == downwards]
            if chosen:
                weights = np.full(len(chosen), -1 if downwards else 1)
                label = "_" if kind in axes.get_legend_handles_labels()[1] else kind
                axes.hist(chosen, edges, weights=weights, color=colour, alpha=0.6, edgecolor=colour, label=label)
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold, {threshold:.3g}")
    axes.set(title=f"section {section}", xlabel="anomaly score", ylabel="clips")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if any(clip.domain == "target" for clip in clips):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{abs(count):.0f}"))
        most = max(abs(limit) for limit in axes.get_ylim())
        axes.set_ylim(-most, most)
        for height, domain in ((0.75, "source"), (0.25, "target")):
            axes.text(1.01, height, domain, transform=axes.transAxes, rotation=270, va="center", color="#555555")
    legend_below(figure)
    return figure


def roc_curves(evaluation: Evaluation) -> Figure:
    """ROC of every section, and where its decision threshold lies on it."""
    figures = evaluation.systems[0].sections
    figure, axes = panel(3.9 + 0.17 * max(0, len(figures) - 4))
    colours = section_colours(evaluation)
    for section in sorted(figures):
        truth, scores = _labelled(evaluation, section)
        false_alarms, hits, _ = roc_curve(truth, scores)
        axes.plot(false_alarms, hits, color=colours[section], label=f"{section}: AUC {100 * figures[section].auc:.1f}")
        called = scores > evaluation.thresholds[section]
        axes.plot(called[~truth].mean(), called[truth].mean(), "o", color=colours[section])
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    axes.axvspan(0, MAX_FPR, color="#eeeeee", zorder=0)
    axes.set(xlabel="false alarms, share of the normal clips", ylabel="faults found", title="ROC, a curve a section")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    legend_below(figure)
    return figure


def _labelled(evaluation: Evaluation, section: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of a section's labelled clips whether they are anomalous, and their scores."""
    clips = [clip for clip in of_section(evaluation, section) if clip.anomalous is not None]
    return np.array([bool(clip.anomalous) for clip in clips]), np.array([clip.score for clip in clips])


def _in_words(evaluation: Evaluation, section: str) -> str:
    """How many clips of each kind lie above the threshold."""
    clips, threshold = of_section(evaluation, section), evaluation.thresholds[section]
    counts = []
    for kind in kinds(clips):
        scores = [clip.score for clip in clips if kind_of(clip) == kind]
        above = sum(score > threshold for score in scores)
        counts.append(f"{above} of {counted(len(scores), 'clip')} ({kind})")
    return f"{'; '.join(counts)} above the decision threshold, {threshold:.3g}."
