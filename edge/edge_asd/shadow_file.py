"""`shadow.json`: what was compared of a shadow, so that it outlives the daemon and `edge-asd shadow` can show it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_asd import files, strict
from edge_asd.errors import StorageError
from edge_asd.shadow import Record

FILE_NAME = "shadow.json"
LARGEST = 512 << 10  # bytes; a full one has a quarter of it


def write(state: Path, record: Record) -> None:
    """Replace what is kept in the state folder, whole or not at all. Raises: StorageError."""
    files.write_bytes(state / FILE_NAME, msgspec.json.encode(record) + b"\n")


def read(state: Path) -> Record | None:
    """What is kept there; None where no shadow ever scored. Raises: StorageError."""
    path = state / FILE_NAME
    content = files.beginning(path, LARGEST + 1)
    if content is None:
        return None
    try:
        if len(content) > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 10} KiB")
        return strict.decoded(content, Record)
    except ValueError as error:
        raise StorageError(
            f"{path}: isn't a shadow's comparison ({error}); move it away, and the next one begins anew."
        ) from error
