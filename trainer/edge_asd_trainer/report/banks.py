"""AUC against the bytes of the banks: what fewer clips would have reached, chosen well or at random."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from edge_asd_trainer.bank_size import BankSize
from edge_asd_trainer.evaluation import Evaluation
from edge_asd_trainer.report.looks import Picture, legend_below, panel

LEAST_APART = 0.05  # of the axis; sizes nearer to the next leave no room for a number above each


def pictures(evaluation: Evaluation) -> list[Picture]:
    """One; none where nothing was measured."""
    if not evaluation.bank_sizes:
        return []
    first, last = evaluation.bank_sizes[0], evaluation.bank_sizes[-1]
    alt = (
        f"AUC over the bytes of the banks: {100 * first.coreset:.1f} % with {first.entries} in each section's, "
        f"{100 * last.coreset:.1f} % with {last.entries}."
    )
    return [Picture("bank-size", bank_size(evaluation), alt)]


def bank_size(evaluation: Evaluation) -> Figure:
    """The clips that stand for all, over the mean of random draws in a band from the lowest to the highest.

    Bytes along the axis; above it, how many clips of each section these are.
    """
    figure, axes = panel(3.4)
    found = evaluation.bank_sizes
    kilobytes = [one.bytes / 1000 for one in found]
    low, high, mean, chosen = (
        [100 * getattr(one, figure) for one in found] for figure in ("lowest", "highest", "auc", "coreset")
    )
    axes.fill_between(kilobytes, low, high, color="#999999", alpha=0.25, linewidth=0, label="lowest to highest draw")
    axes.plot(kilobytes, mean, "--", color="#777777", linewidth=1.2, label="drawn at random, mean")
    axes.plot(kilobytes, chosen, "o-", color="#0072B2", markersize=4, label="chosen to stand for all")
    axes.set(xlabel="kB of all sections' banks in the bundle", ylabel="AUC, %")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    above = axes.secondary_xaxis("top")
    marked = [one for one, larger in zip(found, [*found[1:], None], strict=True) if _has_room(one, larger, found)]
    above.set_xticks([one.bytes / 1000 for one in marked], [str(one.entries) for one in marked])
    above.set_xlabel("normal clips in a section's bank")
    legend_below(figure)
    return figure


def _has_room(one: BankSize, larger: BankSize | None, found: Sequence[BankSize]) -> bool:
    """Whether a number fits between it and the next larger size's."""
    return larger is None or larger.bytes - one.bytes >= LEAST_APART * (found[-1].bytes - found[0].bytes)
