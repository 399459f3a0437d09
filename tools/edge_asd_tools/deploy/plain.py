"""What a device says, before it is shown or kept: it may be anybody's, and a terminal does as it is told."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text without what only a terminal understands: each such character is a question mark."""
    return "".join(one if one.isprintable() or one == "\t" else "?" for one in text)
