"""The pictures of a report, each a function from an evaluation to a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
UNKNOWN = ("unlabelled", ("#777777", "."))


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
    for section in sorted(evaluation.systems[0].sections):
        clips = [clip for clip in evaluation.clips if clip.section == section and clip.anomalous is not None]
        truth = np.array([bool(clip.anomalous) for clip in clips])
        scores = np.array([clip.score for clip in clips])
        false_alarms, hits, _ = roc_curve(truth, scores)
        [line] = axes.plot(false_alarms, hits, label=f"section {section}")
        called = scores > evaluation.thresholds[section]
        axes.plot(called[~truth].mean(), called[truth].mean(), "o", color=line.get_color())
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1)
    axes.axvspan(0, 0.1, color="#eeeeee", zorder=0)
    axes.set(xlabel="false alarms", ylabel="faults found", title="ROC (dot: threshold; grey: range of the pAUC)")
    axes.legend(loc="lower right")
    return figure


def embedding_map(evaluation: Evaluation) -> Figure:
    """Every test clip's embedding on the first two principal components: sections apart, and kinds by colour."""
    figure, panels = _panels(evaluation, height=3.0)
    everything = np.array(evaluation.embeddings)
    for section, axes in panels.items():
        axes.plot(*everything.T, ".", color="#dddddd", markersize=3)
        members = [
            (clip, point) for clip, point in zip(evaluation.clips, everything, strict=True) if clip.section == section
        ]
        for kind, (colour, marker) in _kinds([clip for clip, _ in members]).items():
            points = np.array([point for clip, point in members if _kind(clip) == kind])
            axes.plot(*points.T, marker, color=colour, markersize=4, linestyle="", label=kind)
        axes.set(title=f"section {section}", xticks=[], yticks=[])
    _legend(figure, panels)
    return figure


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
