"""Values to TOML, for Python reads it and can't write it: what a device's settings need, and no more."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def encode(document: Mapping[str, object]) -> str:
    """A document as TOML: its plain values first, then its tables. `tomllib` reads back what went in.

    Raises:
        TypeError: a value is neither text, number, truth value, list of these nor table.
    """
    return "\n".join(_table(document, ())).lstrip("\n") + "\n"


def _table(table: Mapping[str, object], name: tuple[str, ...]) -> list[str]:
    lines = [f"{_key(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    if name and (lines or not table):
        lines = ["", f"[{'.'.join(map(_key, name))}]", *lines]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _table(value, (*name, key))
    return lines


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else _text(key)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case int():
            return str(value)
        case float():
            return repr(value) if math.isfinite(value) else str(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            return f"{{{', '.join(f'{_key(key)} = {_value(item)}' for key, item in value.items())}}}"
    raise TypeError(f"{value!r} has no place in a device's settings")


def _text(text: str) -> str:
    # A basic string is JSON's, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
