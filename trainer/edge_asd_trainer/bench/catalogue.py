"""Every measurement by its name. To add one: write a function of an `Effort` that returns rows, and name it here."""

from __future__ import annotations

from edge_asd_trainer.bench import log_mels, training
from edge_asd_trainer.bench.measurement import Measurement

MEASUREMENTS: dict[str, Measurement] = {
    "log-mels": log_mels.from_the_start,
    "log-mels-started": log_mels.once_started,
    "log-mel": log_mels.on_one_thread,
    "pre-training": training.steps,
    "memory": training.memory,
}
