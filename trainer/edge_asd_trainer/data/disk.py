"""Room on a disk, asked for before it is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_asd.errors import StorageError
from edge_asd.files import unreadable

RESERVE = 64 << 20  # bytes left to whatever else writes there


def need(folder: Path, size: int, purpose: str) -> None:
    """Refuse to begin what the disk of `folder` has no room for. Raises: StorageError."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise unreadable(folder, error) from error
    if size + RESERVE > free:
        raise StorageError(
            f"{folder}: {size / 1e9:.1f} GB are needed {purpose}, {free / 1e9:.1f} GB are free there; "
            "free some, or give a folder on another disk."
        )
