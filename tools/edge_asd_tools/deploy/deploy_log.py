"""What deployments did, kept on the workstation: a line a step, with time and device; a few megabytes at most."""

from __future__ import annotations

import logging
import os
import threading
from functools import lru_cache
from logging.handlers import RotatingFileHandler
from pathlib import Path

from edge_asd import progress
from edge_asd.clock import SystemClock, iso

LARGEST = 1 << 20
FILES = 3
NAME = "edge-asd.deploy"

_one_at_a_time = threading.Lock()  # a fleet has many to say


def path() -> Path:
    """Where it lies: `edge-asd/deploy.log` in the user's state folder (XDG base directories)."""
    stated = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (stated if stated.is_absolute() else Path.home() / ".local" / "state") / "edge-asd" / "deploy.log"


def note(device: str, step: str, outcome: str) -> None:
    """Keep one line. Where it can't be written that is said once, and no deployment fails for it."""
    with _one_at_a_time:
        log = _log(path())
    log.info("%s %s %-9s %s", iso(SystemClock().utc_now()), device, step, " ".join(outcome.split()))


@lru_cache(maxsize=1)
def _log(place: Path) -> logging.Logger:
    log = logging.getLogger(NAME)
    log.setLevel(logging.INFO)
    log.propagate = False
    for before in log.handlers[:]:  # it was kept elsewhere
        log.removeHandler(before)
        before.close()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        log.addHandler(RotatingFileHandler(place, maxBytes=LARGEST, backupCount=FILES, encoding="utf-8"))
    except OSError as error:
        log.addHandler(logging.NullHandler())
        progress.say(f"edge-asd: without a log of this deployment: {place}: {error.strerror}")
    return log
