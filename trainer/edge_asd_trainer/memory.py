"""The memory that a training step takes: kept for the next step, and whether there is enough.

A step allocates and frees some gigabytes of activations. The C library returns each large block to the system, which
then hands out fresh pages and clears them, page by page: half of a training step's time on two cores.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

# glibc's <malloc.h>
_TRIM_THRESHOLD = -1
_TOP_PAD = -2
_MMAP_MAX = -4

# Bytes that a step takes for one image, what the network keeps until its gradient has passed (docs/training.md).
_AN_IMAGE = {"float32": 8.7e6, "bfloat16": 4.4e6}


def keep_freed() -> None:
    """Have the C library keep what is freed, up to 2 GiB at the top of the heap; elsewhere than in glibc, nothing.

    The results are the same bytes; only time and the resident size change (docs/architecture.md).
    """
    option = _c_function("mallopt")
    option(_MMAP_MAX, 0)
    option(_TRIM_THRESHOLD, 2**31 - 1)
    option(_TOP_PAD, 64 << 20)


def give_back() -> None:
    """Return to the system what was kept: a training is over, and the next one's blocks have other sizes."""
    _c_function("malloc_trim")(0)


def _c_function(name: str) -> Callable[..., object]:
    """One of the C library's; where it has none of this name, nothing is done."""
    try:
        found: Callable[..., object] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return lambda *_: None
    return found


def shortage(images: int, precision: str) -> str | None:
    """What to say of a step on so many images for which this machine has too little memory; None where it fits."""
    needed, free = images * _AN_IMAGE.get(precision, _AN_IMAGE["float32"]), _available()
    if free is None or needed < free:
        return None
    return f"a step of {images} images takes some {needed / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free"


def _available() -> int | None:
    """Bytes that can be had without swapping; None where the system doesn't say (Linux does)."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
