"""A log-mel as a picture: PNG of 256 colours, low frequencies at the bottom, written with zlib alone.

A library for pictures would be the largest package on the device, for three chunks of a file.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from edge_asd.front_end import LogMel

HEIGHT = 2  # pixels a band
QUIETEST, LOUDEST = 2.0, 99.8  # percentiles of the values that become the darkest and the brightest colour
LEAST_RANGE_DB = 20.0  # or the noise of a quiet room would be as bright as a machine

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE = 3  # colour type
# Dark blue to yellow, as light as it is loud, so that it reads in grey and by those who see few colours: red, green and
# blue at five places between which the others lie.
_COLOURS = np.array([(13, 8, 51), (62, 42, 130), (45, 120, 142), (80, 190, 110), (250, 230, 70)], float)


def png(log_mel: LogMel) -> bytes:
    """The picture of a log-mel (frames, mels) in dB: a pixel a frame, two a band."""
    low, high = np.percentile(log_mel, [QUIETEST, LOUDEST])
    span = max(float(high - low), LEAST_RANGE_DB)
    codes = np.clip((log_mel - low) / span * 255.0, 0, 255).astype(np.uint8)
    rows = np.repeat(codes.T[::-1], HEIGHT, axis=0)
    lines = np.column_stack([np.zeros(len(rows), np.uint8), rows])  # each line begins with its filter: none
    head = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 8, _PALETTE, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"PLTE", _palette().tobytes()), (b"IDAT", zlib.compress(lines.tobytes(), 6))]
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in [*chunks, (b"IEND", b"")])


def _palette() -> NDArray[np.uint8]:
    places = np.linspace(0, len(_COLOURS) - 1, 256)
    known = np.arange(len(_COLOURS))
    mixed = np.column_stack([np.interp(places, known, _COLOURS[:, channel]) for channel in range(3)])
    palette: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return palette


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
