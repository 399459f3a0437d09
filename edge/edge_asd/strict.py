"""Decoding that refuses what it doesn't know, and whose refusals are of one kind.

msgspec checks the keys of its own structs alone, not those of dataclasses; and it says of what is nested too deeply,
unlike of all else, that Python has given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import msgspec

Kind = TypeVar("Kind")


def decoded(content: bytes | str, kind: type[Kind]) -> Kind:
    """JSON as a value of this type.

    Raises:
        ValueError: it isn't one, be it for its syntax, its encoding, its depth, or a field.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def check_keys(found: object, decoded: object, *, complete: bool, where: str = "") -> None:
    """Hold the keys of a raw document against what was decoded from it.

    Args:
        found: the document as plain mappings.
        decoded: the struct or dataclass made of it.
        complete: every key of a dataclass must be there, too.
        where: the path to it, for the error.

    Raises:
        ValueError: a dataclass was given a key that it doesn't have, or, if `complete`, lacks one.
    """
    if not isinstance(found, Mapping):
        return
    if is_dataclass(decoded):
        known = {field.name for field in fields(decoded)}
        if unknown := sorted(found.keys() - known):
            raise ValueError(f"{where} has no key `{unknown[0]}`; it has {', '.join(sorted(known))}")
        if complete and (absent := sorted(known - found.keys())):
            raise ValueError(f"{where} lacks the key `{absent[0]}`")
    elif isinstance(decoded, msgspec.Struct):
        for name in decoded.__struct_fields__:
            check_keys(found.get(name), getattr(decoded, name), complete=complete, where=_path(where, name))


def _path(where: str, name: Any) -> str:
    return f"{where}.{name}" if where else str(name)
