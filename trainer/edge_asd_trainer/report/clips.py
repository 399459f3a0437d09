"""The clips that teach most: the normal ones that score highest, the anomalous ones that score lowest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from matplotlib.figure import Figure

from edge_asd.audio import read_clip
from edge_asd.errors import DataError
from edge_asd.front_end import FrontEnd, LogMel
from edge_asd_trainer.data import training_clips
from edge_asd_trainer.evaluation import ClipResult, Evaluation
from edge_asd_trainer.report.looks import WIDTH, Picture, kind_of, of_section
from edge_asd_trainer.run_folder import RunFolder

OF_EACH = 2
RANKS = ("", "second ")

Panel = tuple[str, LogMel]  # a title, and what is below it


@dataclass(frozen=True)
class Telling:
    """A clip that misleads the system, or comes near to it.

    Attributes:
        name: of its picture.
        why: it was chosen.
        clip: it.
    """

    name: str
    why: str
    clip: ClipResult


def telling(evaluation: Evaluation) -> list[Telling]:
    """The strangest normal clips, then the least strange anomalous ones, of all sections; fewer where there are fewer.

    Sections have scores of their own size, and of either sign: a clip's strangeness is how far it lies above its
    section's threshold, in standard deviations of the section's normal clips.
    """
    spreads = {section: _spread(of_section(evaluation, section)) for section in evaluation.thresholds}

    def strangeness(clip: ClipResult) -> float:
        return (clip.score - evaluation.thresholds[clip.section]) / spreads[clip.section]

    normal = sorted((clip for clip in evaluation.clips if clip.anomalous is False), key=strangeness, reverse=True)
    anomalous = sorted((clip for clip in evaluation.clips if clip.anomalous), key=strangeness)
    return [
        Telling(f"clip-{kind}-{rank}", f"{kind}, and scores {RANKS[rank - 1]}{end}", clip)
        for kind, end, clips in (("normal", "highest", normal), ("anomalous", "lowest", anomalous))
        for rank, clip in enumerate(clips[:OF_EACH], 1)
    ]


def pictures(folder: RunFolder, evaluation: Evaluation, front_end: FrontEnd) -> list[Picture]:
    """The log-mel of each, above that of its nearest normal training clip where there is a bank.

    Raises:
        ClipError, DataError: a clip to be shown is no longer there.
    """
    chosen = telling(evaluation)
    if not chosen:
        return []
    data = folder.read_provenance().data_set()
    training = {clip.path.name: clip.path for clip in training_clips(data, evaluation.machine)}

    panels: list[list[Panel]] = []
    for one in chosen:
        clip = one.clip
        shown = [(f"section {clip.section}, {kind_of(clip)}: {clip.score:.3g}", data / clip.path)]
        if clip.nearest:
            if clip.nearest not in training:
                raise DataError(
                    f"{data / evaluation.machine / 'train'}: {clip.nearest} is no longer there, which the report "
                    "shows; put it back, or run the same `edge-asd train` again."
                )
            shown.append(("nearest normal training clip", training[clip.nearest]))
        panels.append([(title, front_end.log_mel(read_clip(path, front_end.sample_rate))) for title, path in shown])
    scale = _scale([log_mel for _, log_mel in chain(*panels)])
    return [
        Picture(
            one.name,
            spectrograms(shown, front_end, scale),
            f"Log-mel spectrogram of {one.clip.file}, {one.why}"
            + (f", above that of {one.clip.nearest}." if one.clip.nearest else "."),
            _caption(one, evaluation.thresholds[one.clip.section]),
        )
        for one, shown in zip(chosen, panels, strict=True)
    ]


def spectrograms(shown: Sequence[Panel], front_end: FrontEnd, scale: tuple[float, float]) -> Figure:
    """Log-mels with their titles, one below the other, on one scale of time and of decibels."""
    figure = Figure(figsize=(WIDTH, 1.75 * len(shown) + 0.3), layout="constrained")
    every = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    low, high = scale
    for axes, (title, log_mel) in zip(every, shown, strict=True):
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
        axes.set_title(title)
        axes.set_ylabel("mel band")
    every[-1].set_xlabel("seconds")
    figure.colorbar(image, ax=every, label="dB", fraction=0.05, pad=0.02)
    return figure


def _caption(one: Telling, threshold: float) -> str:
    clip = one.clip
    verdict = "above" if clip.score > threshold else "not above"
    nearest = f" Its nearest normal training clip: {clip.nearest}." if clip.nearest else ""
    return f"{one.why.capitalize()}: {clip.file}, {clip.score:.4g}, {verdict} the threshold, {threshold:.4g}.{nearest}"


def _spread(clips: list[ClipResult]) -> float:
    """Standard deviation of the normal clips' scores; of all of them where it is 0, and 1 where that is 0 too."""
    normal = [clip.score for clip in clips if clip.anomalous is False]
    every = [clip.score for clip in clips]
    return next((float(spread) for one in (normal, every) if one and (spread := np.std(one)) > 0), 1.0)


def _scale(log_mels: list[LogMel]) -> tuple[float, float]:
    """From the quietest to the loudest that is worth a colour."""
    low, high = np.percentile(np.concatenate([log_mel.ravel() for log_mel in log_mels]), [2, 99.8])
    return float(low), float(high)
