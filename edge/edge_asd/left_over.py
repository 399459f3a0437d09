"""What a power cut, or a kill, left half written in the state folder: whoever listens with it next clears it away."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edge_asd import commission_desk, files, kept_sounds, shadow_file, site
from edge_asd.errors import StorageError


def clear(state: Path) -> None:
    """Remove it, as far as the disk lets us: what stays is in nobody's way, and no reason to be deaf."""
    with suppress(OSError, StorageError):
        files.remove_half_written(state, commission_desk.REQUEST, commission_desk.REPORT, shadow_file.FILE_NAME)
        files.remove_half_written(state / kept_sounds.FOLDER, "*.flac", "*.wav", "*.png")
        site.tidy(state)
