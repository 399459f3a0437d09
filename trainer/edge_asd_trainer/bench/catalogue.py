"""Every measurement by its name. To add one: write a function of an `Effort` that returns rows, and name it here.

They are imported when they are wanted: a process that computes log-mels would else begin by importing PyTorch.
"""

from __future__ import annotations

from pkgutil import resolve_name

from edge_asd_trainer.bench.measurement import Measurement

MEASUREMENTS = {
    "log-mels": "edge_asd_trainer.bench.log_mels:from_the_start",
    "log-mels-started": "edge_asd_trainer.bench.log_mels:once_started",
    "log-mel": "edge_asd_trainer.bench.log_mels:on_one_thread",
    "log-mel-limit": "edge_asd_trainer.bench.scoring:log_mel_limit",
    "clip": "edge_asd_trainer.bench.scoring:clip",
    "nearest-neighbour": "edge_asd_trainer.bench.banks:nearest_neighbour",
    "score-jobs": "edge_asd_trainer.bench.scoring:score_jobs",
    "listening": "edge_asd_trainer.bench.listening:hop",
    "daemon-memory": "edge_asd_trainer.bench.listening:memory",
    "instructions": "edge_asd_trainer.bench.instructions:continuous",
    "start": "edge_asd_trainer.bench.listening:start",
    "bundle": "edge_asd_trainer.bench.banks:bundle_size",
    "pre-training": "edge_asd_trainer.bench.training:steps",
    "memory": "edge_asd_trainer.bench.training:memory",
}


def measurement(name: str) -> Measurement:
    """The function that measures it."""
    found: Measurement = resolve_name(MEASUREMENTS[name])
    return found
