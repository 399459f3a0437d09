"""What a device's environment is made of: a CycloneDX document, read from the wheels that it is made from."""

from __future__ import annotations

import email
import re
import zipfile
from collections.abc import Sequence
from email.message import Message
from pathlib import Path

from edge_asd import __version__, sbom
from edge_asd.errors import DownloadError
from edge_asd_tools.deploy.wheels import Wheel

LARGEST_METADATA = 4 << 20


def runtime_sbom(wheels: Sequence[Wheel]) -> bytes:
    """All wheels with their licences and SHA-256; the same wheels give the same bytes.

    Raises:
        DownloadError: a file is no wheel.
    """
    components = [sbom.component(metadata(wheel.path), wheel.sha256) for wheel in wheels]
    return sbom.document("edge-asd", __version__, components)


def metadata(wheel: Path) -> Message:
    """What a wheel says of itself. Raises: DownloadError, where it is none."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            [entry] = [one for one in archive.infolist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one.filename)]
            if entry.file_size > LARGEST_METADATA:
                raise ValueError(f"its METADATA has {entry.file_size} bytes")
            return email.message_from_string(archive.read(entry).decode())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DownloadError(f"{wheel}: is no wheel ({error}); remove it, then run the same command again.") from error
