"""One self-contained HTML file: what was trained on what, how good it is, and pictures to look at."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from edge_asd import bundle as bundles
from edge_asd import files
from edge_asd.audio import read_clip
from edge_asd.errors import ConfigError, DataError
from edge_asd.front_end import FrontEnd, LogMel
from edge_asd_trainer.config import as_toml
from edge_asd_trainer.data import training_clips
from edge_asd_trainer.evaluation import ClipResult, Evaluation
from edge_asd_trainer.report import curves, figures
from edge_asd_trainer.results_table import parity_line
from edge_asd_trainer.run_folder import RunFolder, remove

DOTS_PER_INCH = 110


def write(folder: RunFolder, evaluation: Evaluation) -> Path:
    """Write the report's pictures and its page, in place of earlier ones; returns the path of the page.

    Raises:
        ConfigError: the run's bundle isn't the one that was evaluated, or a training's log is none.
        BundleError: it can't be verified.
        DataError: a clip to be shown is no longer there.
        StorageError: the folder can't be written.
    """
    config = folder.read_config()
    path = folder.bundle(evaluation.machine)
    bundle = bundles.read(path)
    if bundle.digest != evaluation.bundle:
        raise ConfigError(f"{path}: not the bundle that was evaluated; run `edge-asd evaluate {folder.path}` again.")
    drawn = _figures(folder, evaluation, config.front_end)
    remove(folder.report, "*.png")
    pictures = {name: _png(folder.report / f"{name}.png", figure) for name, figure in drawn.items()}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edge_asd_trainer.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("page.html.j2").render(
        evaluation=evaluation,
        manifest=bundle.manifest,
        bundle_path=path,
        bundle_bytes=path.stat().st_size,
        timings=folder.read_timings().seconds,
        config=as_toml(config),
        pictures=pictures,
        readings=curves.READINGS,
        parity=parity_line(evaluation.parity),
        normal_above=_share_above(evaluation, anomalous=False),
        faults_above=_share_above(evaluation, anomalous=True),
    )
    target = folder.report / "index.html"
    files.write_text(target, page)
    return target


def _figures(folder: RunFolder, evaluation: Evaluation, front_end: FrontEnd) -> dict[str, Figure]:
    drawn = {"histograms": figures.score_histograms(evaluation), "map": figures.embedding_map(evaluation)}
    if evaluation.systems:
        drawn["roc"] = figures.roc_curves(evaluation)
        drawn["clips"] = figures.spectrograms(_telling_clips(folder, evaluation, front_end), front_end)
    for stage in curves.READINGS:
        if found := curves.read(folder.log(stage)):
            drawn[stage] = curves.training_curves(stage, found)
    return drawn


def _telling_clips(folder: RunFolder, evaluation: Evaluation, front_end: FrontEnd) -> list[tuple[str, LogMel]]:
    """The log-mels that teach most: strangest normal and least strange anomalous clip, each beside its nearest."""

    def strangeness(clip: ClipResult) -> float:
        return clip.score / max(evaluation.thresholds[clip.section], 1e-12)

    data = folder.read_provenance().data_set()
    training = {clip.path.name: clip.path for clip in training_clips(data, evaluation.machine)}
    chosen = {
        "normal clip that scores highest": max((c for c in evaluation.clips if c.anomalous is False), key=strangeness),
        "anomalous clip that scores lowest": min((c for c in evaluation.clips if c.anomalous), key=strangeness),
    }
    clips: list[tuple[str, LogMel]] = []
    for title, clip in chosen.items():
        if clip.nearest not in training:
            raise DataError(
                f"{data / evaluation.machine / 'train'}: {clip.nearest} is no longer there, which the report shows; "
                "put it back, or run the same `edge-asd train` again."
            )
        for caption, path in (
            (f"{title}: {clip.file} ({clip.score:.3f})", data / clip.path),
            (f"its nearest normal training clip: {clip.nearest}", training[clip.nearest]),
        ):
            clips.append((caption, front_end.log_mel(read_clip(path, front_end.sample_rate))))
    return clips


def _share_above(evaluation: Evaluation, *, anomalous: bool) -> float | None:
    clips = [clip for clip in evaluation.clips if clip.anomalous is anomalous]
    above: list[bool] = [clip.score > evaluation.thresholds[clip.section] for clip in clips]
    return float(np.mean(above)) if above else None


def _png(path: Path, figure: Figure) -> str:
    """Write a figure and give it as a data URI."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    files.write_bytes(path, file.getvalue())
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
