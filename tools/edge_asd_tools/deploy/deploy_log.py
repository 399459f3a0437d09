"""What deployments did, kept on the workstation: a line a step, with time and device; a few megabytes at most."""

from __future__ import annotations

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

from edge_asd import progress
from edge_asd.clock import SystemClock, iso

LARGEST = 1 << 20
FILES = 3
NAME = "edge-asd.deploy"


def path() -> Path:
    """Where it lies: `edge-asd/deploy.log` in the user's state folder (XDG base directories)."""
    stated = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (stated if stated.is_absolute() else Path.home() / ".local" / "state") / "edge-asd" / "deploy.log"


def note(device: str, step: str, outcome: str) -> None:
    """Keep one line. Where it can't be written that is said once, and no deployment fails for it."""
    _log().info("%s %s %-9s %s", iso(SystemClock().utc_now()), device, step, " ".join(outcome.split()))


def _log() -> logging.Logger:
    log = logging.getLogger(NAME)
    if not log.handlers:
        log.setLevel(logging.INFO)
        log.propagate = False
        try:
            path().parent.mkdir(parents=True, exist_ok=True)
            log.addHandler(RotatingFileHandler(path(), maxBytes=LARGEST, backupCount=FILES, encoding="utf-8"))
        except OSError as error:
            log.addHandler(logging.NullHandler())
            progress.say(f"edge-asd: without a log of this deployment: {path()}: {error.strerror}")
    return log
