"""Bank size against AUC: how many normal clips are worth recording."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from edge_asd_trainer.evaluation import Evaluation
from edge_asd_trainer.report.looks import Picture, legend_below, panel

CLOSEST = 1.4  # sizes nearer to the next than this, as a ratio, leave no room for a number below each


def pictures(evaluation: Evaluation) -> list[Picture]:
    """One; none where nothing was measured."""
    if not evaluation.bank_sizes:
        return []
    first, last = evaluation.bank_sizes[0], evaluation.bank_sizes[-1]
    alt = (
        f"AUC over the size of the bank: {100 * first.auc:.1f} % with {first.entries} in each section's, "
        f"{100 * last.auc:.1f} % with {last.entries}."
    )
    return [Picture("bank-size", bank_size(evaluation), alt)]


def bank_size(evaluation: Evaluation) -> Figure:
    """Mean over the draws in a band from the lowest to the highest, over sizes that double."""
    figure, axes = panel(3.2)
    found = evaluation.bank_sizes
    entries = [one.entries for one in found]
    low, high, mean = (
        [100 * value for value in values] for values in zip(*((b.lowest, b.highest, b.auc) for b in found), strict=True)
    )
    axes.fill_between(entries, low, high, color="#0072B2", alpha=0.2, linewidth=0, label="lowest to highest draw")
    axes.plot(entries, mean, "o-", color="#0072B2", markersize=4, label="mean")
    axes.set_xscale("log", base=2)
    marked = [
        size for size, larger in zip(entries, [*entries[1:], 10 * entries[-1]], strict=True) if larger >= CLOSEST * size
    ]
    axes.set_xticks(marked, [f"{size}" for size in marked])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="normal clips in a section's bank", ylabel="AUC, %", title="bank size against AUC")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    legend_below(figure)
    return figure
