"""What emulated Pis are made of is fetched and made once, and kept in the checkout while its recipe stays the same."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from common import ROOT, missing
from edge_asd.errors import MissingRequirement
from edge_asd_trainer.bench.arm64 import made

CACHE = Path(os.environ.get("EDGE_ASD_ARM64", ROOT / ".arm64"))


def kept(kind: str, recipe: ModuleType, make: Callable[[Path], None]) -> Path:
    """The folder of what is of this kind: made where there is none by this very recipe, and those by others go."""
    place = CACHE / f"{kind}-{hashlib.sha256(inspect.getsource(recipe).encode()).hexdigest()[:16]}"
    for outdated in set(CACHE.glob(f"{kind}-{'[0-9a-f]' * 16}")) - {place}:
        shutil.rmtree(outdated, ignore_errors=True)
    try:
        return made(place, make)
    except MissingRequirement as error:
        missing(str(error))
        raise AssertionError from error  # not reached
