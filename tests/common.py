"""What tests need by name: where the project lies, a training of a moment, what to do where a program is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Enough steps for every stage to do its work, far too few to learn anything.
MOMENT = (
    "pretraining.epochs=1",
    "pretraining.steps_per_epoch=2",
    "pretraining.batch=8",
    "pretraining.expander_width=32",
    "fine_tuning.epochs=1",
    "fine_tuning.steps_per_epoch=2",
    "fine_tuning.batch=8",
    "quantisation.calibration_windows=32",
    "threads=1",
)


def missing(what: str) -> None:
    """Skip a test for want of a program or of data; where CI promised to have it, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have what this test needs: {what}")
    pytest.skip(f"not here: {what}")
