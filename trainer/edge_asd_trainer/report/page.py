"""One self-contained HTML file: what was trained on what, how good it is, and pictures to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from edge_asd import bundle as bundles
from edge_asd import files
from edge_asd.bundle import Bundle
from edge_asd.errors import ConfigError
from edge_asd_trainer import tables
from edge_asd_trainer.config import as_toml, fingerprint
from edge_asd_trainer.evaluation import Evaluation
from edge_asd_trainer.recipe import System
from edge_asd_trainer.report import agreement, banks, clips, curves, embeddings, scores
from edge_asd_trainer.report.looks import DOTS_PER_INCH, MOST_SECTIONS, Picture, sections, styled
from edge_asd_trainer.results_table import parity_line
from edge_asd_trainer.run_folder import RunFolder, remove
from edge_asd_trainer.systems import SYSTEMS


def write(folder: RunFolder, evaluation: Evaluation) -> Path:
    """Write the report's pictures and its page, in place of earlier ones; returns the path of the page.

    Raises:
        ConfigError: the run's bundle or its numbers aren't those that were evaluated, or a training's log is none.
        BundleError: it can't be verified.
        ClipError, DataError: a clip to be shown, or the data set, is no longer there.
        StorageError: the folder can't be written.
    """
    config = folder.read_config()
    path = folder.bundle(evaluation.machine)
    bundle = bundles.read(path)
    if bundle.digest != evaluation.bundle or bundle.manifest.config_fingerprint != fingerprint(config):
        raise ConfigError(f"{path}: not the bundle that was evaluated; run `edge-asd evaluate {folder.path}` again.")
    system = SYSTEMS[bundle.manifest.system]
    trained = tables.trained_sections(bundle)
    with styled():
        drawn = _pictures(folder, evaluation, bundle)
        encoded = {one.name: _png(one) for group in drawn.values() for one in group}
    remove(folder.report, "*.png")
    for name, png in encoded.items():
        files.write_bytes(folder.report / f"{name}.png", png)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edge_asd_trainer.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(
        evaluation=evaluation,
        title=system.title,
        trained=trained,
        manifest=bundle.manifest,
        bundle_path=path,
        bundle_bytes=bundle.size,
        timings=_timings(folder, system),
        config=as_toml(config),
        pictures=drawn,
        sources={name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in encoded.items()},
        left_out=max(0, len(sections(evaluation)) - MOST_SECTIONS),
        results_header=tables.results_header(evaluation.systems[0]) if evaluation.systems else [],
        results=tables.results_rows(evaluation.systems),
        figures=tables.figures_rows(evaluation) if evaluation.systems else [],
        parity=parity_line(evaluation.parity),
        normal_above=_share_above(evaluation, anomalous=False),
        faults_above=_share_above(evaluation, anomalous=True),
    )
    target = folder.report / "index.html"
    files.write_text(target, page)
    return target


def _pictures(folder: RunFolder, evaluation: Evaluation, bundle: Bundle) -> Mapping[str, list[Picture]]:
    """All of them, by the part of the page that shows them."""
    return {
        "scores": scores.pictures(evaluation),
        "clips": clips.pictures(folder, evaluation, bundle.manifest.front_end),
        "embeddings": embeddings.pictures(evaluation),
        "banks": banks.pictures(evaluation),
        "agreement": agreement.pictures(evaluation),
        "curves": curves.pictures(folder, SYSTEMS[bundle.manifest.system].stages),
    }


def _timings(folder: RunFolder, system: System) -> dict[str, float]:
    """Seconds of every stage, but for those that another system left in the same folder."""
    others = {stage for other in SYSTEMS.values() for stage in other.stages} - {*system.stages}
    return {stage: seconds for stage, seconds in folder.read_timings().seconds.items() if stage not in others}


def _share_above(evaluation: Evaluation, *, anomalous: bool) -> float | None:
    clips = [clip for clip in evaluation.clips if clip.anomalous is anomalous]
    above: list[bool] = [clip.score > evaluation.thresholds[clip.section] for clip in clips]
    return float(np.mean(above)) if above else None


def _png(picture: Picture) -> bytes:
    """With 256 colours of its own, more than anyone tells apart here: a third of the bytes."""
    drawn, small = io.BytesIO(), io.BytesIO()
    picture.figure.savefig(drawn, format="png", dpi=DOTS_PER_INCH, pil_kwargs={"compress_level": 1})
    with Image.open(drawn) as image:
        few = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(small, format="PNG")
    return small.getvalue()
