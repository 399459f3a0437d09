"""Stages that know whether they are done: the same inputs are never computed twice, other inputs always are."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_asd import __version__, files
from edge_asd.progress import say
from edge_asd_trainer.config import fingerprint
from edge_asd_trainer.distributed import ALONE, Group
from edge_asd_trainer.run_folder import RunFolder, write_json


class Stages:
    """The stages of one run, in order; each one's key covers its own inputs and those of all before it."""

    def __init__(self, folder: RunFolder, *inputs: object, group: Group = ALONE) -> None:
        self._folder, self._group = folder, group
        self._key = fingerprint(__version__, *inputs)
        self._done = _read(folder.stages)
        self._timings = folder.read_timings()
        group.wait()  # all have read what the leader will change

    def stage(self, name: str, outputs: list[Path], work: Callable[[str], None], *inputs: object) -> None:
        """Do `work`, which writes `outputs`, unless it was done before from the same inputs.

        An interrupted stage is not done: its outputs are written whole or not at all, and the mark comes last. The
        work is told the stage's key, for whatever it keeps half-way.
        """
        self._key = fingerprint(self._key, name, *inputs)
        if self._done.get(name) == self._key and all(output.exists() for output in outputs):
            say(f"{name}: done before, from the same inputs")
            return
        self._unmark(name)  # from here on what it left is no longer what its mark says
        began = time.monotonic()
        work(self._key)
        self._mark(name, time.monotonic() - began)

    def _unmark(self, name: str) -> None:
        if self._done.pop(name, None) and self._group.leads:
            files.write_bytes(self._folder.stages, msgspec.json.encode(self._done))

    def _mark(self, name: str, seconds: float) -> None:
        self._done[name] = self._key
        if self._group.leads:
            self._timings.seconds[name] = round(seconds, 1)
            files.write_bytes(self._folder.stages, msgspec.json.encode(self._done))
            write_json(self._folder.timings, self._timings)
            say(f"{name}: {seconds:.0f} s")


def _read(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}
