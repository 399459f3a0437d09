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
from edge_asd.front_end import FrontEnd, LogMel
from edge_asd_trainer.config import as_toml
from edge_asd_trainer.data import training_clips
from edge_asd_trainer.evaluation import Evaluation
from edge_asd_trainer.report import figures
from edge_asd_trainer.run_folder import RunFolder

DOTS_PER_INCH = 110


def write(folder: RunFolder, evaluation: Evaluation) -> Path:
    """Write the report's pictures and its page; returns the path of the page. Raises: StorageError."""
    config = folder.read_config()
    pictures = {
        name: _png(folder.report / f"{name}.png", figure)
        for name, figure in _figures(evaluation, config.front_end).items()
    }
    path = folder.bundle(evaluation.machine)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edge_asd_trainer.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("page.html.j2").render(
        evaluation=evaluation,
        manifest=bundles.read(path).manifest,
        bundle_path=path,
        bundle_bytes=path.stat().st_size,
        timings=folder.read_timings().seconds,
        config=as_toml(config),
        pictures=pictures,
        normal_above=_share_above(evaluation, anomalous=False),
        faults_above=_share_above(evaluation, anomalous=True),
    )
    target = folder.report / "index.html"
    files.write_text(target, page)
    return target


def _figures(evaluation: Evaluation, front_end: FrontEnd) -> dict[str, Figure]:
    drawn = {"histograms": figures.score_histograms(evaluation), "map": figures.embedding_map(evaluation)}
    if evaluation.systems:
        drawn["roc"] = figures.roc_curves(evaluation)
        drawn["clips"] = figures.spectrograms(_telling_clips(evaluation, front_end), front_end)
    return drawn


def _telling_clips(evaluation: Evaluation, front_end: FrontEnd) -> dict[str, LogMel]:
    """The log-mels that teach most: the strangest normal and the least strange anomalous clip, beside their nearest."""
    worst_normal = max((clip for clip in evaluation.clips if not clip.anomalous), key=_relative(evaluation))
    worst_anomaly = min((clip for clip in evaluation.clips if clip.anomalous), key=_relative(evaluation))
    data = Path(evaluation.data)
    training = {clip.path.name: clip.path for clip in training_clips(data, evaluation.machine)}
    test = data / evaluation.machine / "test"
    if not test.is_dir():
        test = data / "dev_data" / evaluation.machine / "test"
    shown = {}
    for title, clip in (
        ("normal clip that scores highest", worst_normal),
        ("anomalous clip that scores lowest", worst_anomaly),
    ):
        waveform = read_clip(test / clip.file, front_end.sample_rate)
        shown[f"{title}: {clip.file} ({clip.score:.3f})"] = front_end.log_mel(waveform)
        nearest = read_clip(training[clip.nearest], front_end.sample_rate)
        shown[f"its nearest normal training clip: {clip.nearest}"] = front_end.log_mel(nearest)
    return shown


def _relative(evaluation: Evaluation):  # type: ignore[no-untyped-def]
    return lambda clip: clip.score / max(evaluation.thresholds[clip.section], 1e-12)


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
