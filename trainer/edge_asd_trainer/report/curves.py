"""How a training went, step by step: from the log that it kept to a figure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_asd.errors import ConfigError
from edge_asd_trainer.report.looks import WIDTH, Picture
from edge_asd_trainer.run_folder import RunFolder

# What to look for, a stage each: System 1's two, in the order in which they are trained, and the baselines' only one.
READINGS = {
    "pre-training": "Good: the loss falls and levels out, and the variance, of both branches together, falls to 0, "
    "where features vary as they should; one that stays near 1 a branch, with a deviation near 0, means collapse: all "
    "windows get the same embedding.",
    "fine-tuning": "Good: the divergence falls towards 0, so sections are told apart, and the constraint stays small, "
    "so the embedding of a mix stays the mix of the embeddings; a deviation near 0 means collapse.",
    "training": "Good: the loss falls and levels out. It says how well the network does its own task on normal clips, "
    "not how well it finds faults.",
}
# The paper's name of a column, and what its values say. Losses have no unit.
MEANINGS = {
    "loss": "what is minimised",
    "invariance": "s, equation 1: squared error of a mix's embedding",
    "variance": "v, equation 2, of both branches: 0 where every feature deviates by 1 or more",
    "covariance": "c, equation 4, of both branches: 0 where no two features go together",
    "divergence": "KL, in nats, from the classifier to the mixed section label",
    "constraint": "s, equation 1: squared error of a mix's embedding",
    "deviation": "of a feature over a batch, mean over the features: 0 after a collapse",
    "learning rate": "of each step",
}
MOST_ROWS = 2000
BINS = 400  # about as many as the picture has columns of pixels for
MOST_EPOCH_MARKS = 12
LETTERS = 52  # of a panel's title that fit into its width
LOGARITHMIC_FROM = 1000.0  # highest over lowest; below, a scale from 0 shows what "near 0" is

BEFORE_TERMS = ("step", "epoch", "learning_rate", "loss")
AFTER_TERMS = "clips_per_second"


@dataclass(frozen=True, eq=False)
class Curves:
    """What a training said of its steps; every array is (steps,).

    Attributes:
        step, epoch: which step of which epoch.
        learning_rate: of the step.
        losses: the loss, then the terms that it is made of, by name.
        speed: clips a second.
    """

    step: NDArray[np.float64]
    epoch: NDArray[np.float64]
    learning_rate: NDArray[np.float64]
    losses: Mapping[str, NDArray[np.float64]]
    speed: NDArray[np.float64]


def read(path: Path) -> Curves | None:
    """The log of a training; None where it has no whole row. A last line that was cut off doesn't count.

    Raises:
        ConfigError: the file is no such log.
    """
    try:
        *lines, _ = path.read_text(errors="replace").split("\n")  # what stands behind the last line's end was cut off
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); make it readable, or remove it.") from error
    if len(lines) < 2:
        return None
    names = lines[0].split(",")
    if tuple(names[:4]) != BEFORE_TERMS or names[-1] != AFTER_TERMS:
        raise _unusable(path, 1, f"{','.join(BEFORE_TERMS)},...,{AFTER_TERMS}", lines[0])
    rows = np.array([_numbers(path, number, line, len(names)) for number, line in enumerate(lines[1:], 2)])
    columns = dict(zip(names, rows.T, strict=True))
    step, epoch, learning_rate = (columns.pop(name) for name in BEFORE_TERMS[:3])
    speed = columns.pop(AFTER_TERMS)
    return Curves(step, epoch, learning_rate, columns, speed)


def pictures(folder: RunFolder, stages: Sequence[str]) -> list[Picture]:
    """One a stage that left a log, with what to look for. Raises: ConfigError, as `read`."""
    logs = {stage: found for stage in stages if (found := read(folder.log(stage)))}
    return [
        Picture(
            stage, training_curves(stage, found), f"Loss and learning rate over the steps of {stage}.", READINGS[stage]
        )
        for stage, found in logs.items()
    ]


def training_curves(stage: str, curves: Curves) -> Figure:
    """A panel each for the loss, its terms and the learning rate, one below the other over the same steps.

    More than `MOST_ROWS` steps are drawn as the mean of as many bins as the picture can tell apart, in a band from the
    lowest to the highest of each.
    """
    shown = {**curves.losses, "learning rate": curves.learning_rate}
    titles = [_title(name) for name in shown]
    lines = sum(title.count("\n") + 1 for title in titles)
    figure = Figure(figsize=(WIDTH, 0.95 * len(shown) + 0.17 * lines + 1.1), layout="constrained")
    every = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    bins = _bins(len(curves.step))
    step = _means(curves.step, bins)
    starts = _epoch_starts(curves)
    for axes, title, values in zip(every, titles, shown.values(), strict=True):
        if len(bins) < len(values):
            low, high = np.minimum.reduceat(values, bins), np.maximum.reduceat(values, bins)
            axes.fill_between(step, low, high, color="#0072B2", alpha=0.2, linewidth=0)
        axes.plot(step, _means(values, bins), color="#0072B2", linewidth=1, marker="." if len(step) == 1 else "")
        _scale(axes, values)
        axes.set_title(title, loc="left", fontsize=9)
        for start in starts.values():
            axes.axvline(start, color="#dddddd", linewidth=0.8, zorder=0)
    every[-1].set_xlabel("step", labelpad=1)
    _mark_epochs(every[-1], starts)
    steps, epochs = f"{int(curves.step[-1]) + 1:,} steps", len(np.unique(curves.epoch))
    speed = f"median {np.median(curves.speed):.3g} clips/s"
    figure.suptitle(f"{stage}: {steps}, {epochs} epoch{'s' if epochs != 1 else ''},\n{speed}", fontsize=10)
    figure.draw_without_rendering()  # the layout changes the ticks, whose new labels get their room when drawn again
    return figure


def _title(name: str) -> str:
    """A column's name and what its values say, in lines that fit."""
    meaning = MEANINGS.get(name)
    return "\n".join(textwrap.wrap(f"{name} ({meaning})" if meaning else name.replace("_", " "), LETTERS))


def _unusable(path: Path, number: int, expected: str, found: str) -> ConfigError:
    return ConfigError(
        f"{path}: line {number} is no row of a training's log: found {found[:80]!r}, expected {expected}; remove the "
        "file, and the report does without its picture, or train again."
    )


def _numbers(path: Path, number: int, line: str, expected: int) -> list[float]:
    try:
        values = [float(cell) for cell in line.split(",")]
    except ValueError:
        values = []
    if len(values) != expected:
        raise _unusable(path, number, f"{expected} numbers", line)
    return values


def _bins(rows: int) -> NDArray[np.intp]:
    """The first row of every bin, all of them as equal as can be; a row each where there are few."""
    bins = rows if rows <= MOST_ROWS else BINS
    return np.arange(bins) * rows // bins


def _means(values: NDArray[np.float64], bins: NDArray[np.intp]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.add.reduceat(values, bins) / np.diff(bins, append=len(values))
    return means


def _scale(axes: Axes, values: NDArray[np.float64]) -> None:
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() < 0:
        return
    if finite.min() > 0 and finite.max() > LOGARITHMIC_FROM * finite.min():
        axes.set_yscale("log")
    elif finite.max() > 0:
        axes.set_ylim(0, 1.06 * float(finite.max()))


def _epoch_starts(curves: Curves) -> dict[int, float]:
    """The first step of each epoch, of round ones alone where there are many."""
    epochs, first = np.unique(curves.epoch, return_index=True)
    rounds = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    apart = next(number for number in rounds if len(epochs) <= MOST_EPOCH_MARKS * number)
    return {int(epoch): float(curves.step[row]) for epoch, row in zip(epochs, first, strict=True) if epoch % apart == 0}


def _mark_epochs(axes: Axes, starts: Mapping[int, float]) -> None:
    """A second axis below that of the steps, whose marks are the epochs' first steps."""
    below = axes.secondary_xaxis(-0.5)
    below.set_xticks(list(starts.values()), [str(epoch) for epoch in starts])
    below.tick_params(length=3)
    below.set_xlabel("epoch", labelpad=1)
