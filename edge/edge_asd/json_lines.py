"""What programs are told: one JSON object a line on standard output, each at once."""

from __future__ import annotations

import sys


def tell(value: object) -> None:
    """Write a value as one line."""
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()
