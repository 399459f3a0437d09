"""The doors through which strangers' bytes come in: what each of them does with any bytes, and what to begin from.

A knock gives up its bytes at one door and raises `contract.Breach`, or whatever the door let through, where the door
doesn't hold what it promises.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from fuzz.mutations import Mutate

A_FIFTH = 0.2  # of the time, for doors that fewer strangers come to


@dataclass(frozen=True)
class Door:
    """One of them.

    Attributes:
        name: of its corpus, too.
        title: for people.
        knock: takes bytes in.
        seeds: gives what is right, or nearly, and made by code.
        words: a dictionary for whoever mutates.
        mutations: of its structure.
        longest: bytes that are worth trying.
        weight: its share of the time.
    """

    name: str
    title: str
    knock: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    words: Sequence[bytes] = ()
    mutations: Sequence[Mutate] = ()
    longest: int = 4096
    weight: float = 1.0


@cache
def folder() -> Path:
    """Where a door finds its bytes as a file: in memory where there is such a place, for a disk is slow."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own within
    made = tempfile.mkdtemp(prefix="edge-asd-fuzz.", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def fields(*kinds: type[msgspec.Struct]) -> list[bytes]:
    """The names of these records' fields, as JSON has them."""
    return [f'"{field.name}":'.encode() for kind in kinds for field in msgspec.structs.fields(kind)]


def doors() -> dict[str, Door]:
    """All of them, by name; those that the project asks for first."""
    from fuzz import bundles, configurations, event_log, pages, programs, records, sounds, talk

    asked_for = (*bundles.DOORS, *sounds.DOORS, *configurations.DOORS, *talk.DOORS, *pages.DOORS)
    every = (*asked_for, *records.DOORS, *event_log.DOORS, *programs.DOORS)
    return {door.name: door for door in every}
