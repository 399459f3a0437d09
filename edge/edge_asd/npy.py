"""NumPy's file format, written and read back: nothing is unpickled, nothing allocated that isn't there."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What NumPy's reader of headers, which is Python's parser, may answer to a text that no NumPy wrote.
_UNREADABLE = (SyntaxError, TypeError, OverflowError, MemoryError, RecursionError, tokenize.TokenError)


def encode(array: NDArray[Any]) -> bytes:
    """The bytes of a file that holds this array; the same array gives the same bytes."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def decode(content: bytes, kinds: Sequence[str]) -> NDArray[Any]:
    """The array of a file, of one of these types, such as "<f4"; its header accounts for every byte that follows it.

    Raises:
        ValueError: it isn't one.
    """
    file = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):  # type: ignore[no-untyped-call]
            raise ValueError("not version 1.0 of the format")
        shape, fortran, found = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]
        rest = content[file.tell() :]
        size = found.itemsize
        for length in shape:
            size *= length
        if fortran or found.str not in kinds or size != len(rest):
            raise ValueError(f"{found} {shape} in {len(rest)} bytes, expected {' or '.join(kinds)}")
        return np.frombuffer(rest, found).reshape(shape)
    except _UNREADABLE as error:
        raise ValueError(str(error)) from error
