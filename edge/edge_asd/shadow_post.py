"""A shadow's post: another bundle that is opened to score beside the one that listens."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_asd import bundle as bundles
from edge_asd.errors import BundleError
from edge_asd.front_end import LogMel
from edge_asd.model import Model
from edge_asd.post import Opened, Post
from edge_asd.settings import DeviceConfig


def read(path: Path, settings: DeviceConfig, running: Post, given_up: threading.Event) -> Post:
    """A shadow's post: what its bundle says, joined with what was learned on site, and its own threshold.

    Args:
        path: of the bundle.
        settings: those in force.
        running: what it is to score beside.
        given_up: ends the hearing of the site's clips, which on a small board takes half a minute.

    Raises:
        BundleError, MissingRequirement: it can't be read or run here, or not beside what listens.
    """
    bundle = bundles.read(path)
    sections, section = sorted(bundle.manifest.sections), running.origin.section
    if section not in sections:
        if len(sections) > 1:
            raise BundleError(
                f"{path}: has no section {section!r}, it has {', '.join(sections)}; train it with that one."
            )
        [section] = sections
    found, expected = bundle.manifest.front_end.sample_rate, running.detector.front_end.sample_rate
    if found != expected:
        raise BundleError(f"{path}: hears {found} Hz, expected {expected} Hz, as what listens does.")
    detector = bundle.detector(threads=settings.model.threads, runtime=settings.model.runtime or None)
    detector = replace(detector, model=_Hurried(detector.model, given_up))
    alarm = msgspec.structs.replace(settings.alarm, threshold="alarm")
    own = msgspec.structs.replace(settings, bundle=path, section=section, alarm=alarm)
    return replace(Opened(own, bundle, detector, "the shadow scores").post(own), spectrum=None)


class _Hurried:
    """A model that gives up when it is told to: a daemon that is to end doesn't wait for its shadow."""

    def __init__(self, model: Model, given_up: threading.Event) -> None:
        self.name = model.name
        self._model = model
        self._given_up = given_up

    def prepare(self, log_mel: LogMel) -> NDArray[Any]:
        return self._model.prepare(log_mel)

    def embed(self, windows: NDArray[Any]) -> NDArray[np.float32]:
        if self._given_up.is_set():
            raise InterruptedError("given up")
        return self._model.embed(windows)
