"""What comes from elsewhere, before a person reads it: a terminal does as it is told, and a log believes a line."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text without what only a terminal understands, and in one line: each such character is a question mark."""
    return "".join(one if one.isprintable() or one == "\t" else "?" for one in text)
