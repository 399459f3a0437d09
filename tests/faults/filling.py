"""A scenario over and over, each time on a disk that is full from another write on. As a program, which is watched:

    python -m faults.filling SCENARIO ROOT COUNT WORD ...

SCENARIO is a module of this folder with a function `filling(folder, fill, lift, *words)`: it makes the folder, says
`fill` when the disk may begin to fill up and `lift` when there must be space again, and gives an `Outcome`. Each time
is a process of its own, forked when all is imported. The first is without a fault and tells how many operations need
space; of these, COUNT are then the last that succeeds, evenly spread. An outcome is told as a line of JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edge_asd.ending import guarded
from faults import disk

Fill = Callable[[], None]


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        allowed: operations that got space before there was none; None: all did.
        asked, refused: operations that needed space, and those that got none.
        codes: with which the commands ended.
        said: by them, or by the daemon.
        before, after: what had been put in, and what was there in the end.
        left: files that nobody asked for.
        wrong: what else is not as it must be.
    """

    allowed: int | None = None
    asked: int = 0
    refused: int = 0
    codes: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[object] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def ended(self, command: Callable[[], object]) -> int:
        """The exit code of a command, which says one line of ours where it isn't 0."""
        heard, code = io.StringIO(), 0
        with contextlib.redirect_stderr(heard):
            try:
                guarded(command)
            except SystemExit as error:
                code = int(str(error.code))
        lines = heard.getvalue().splitlines()
        self.codes.append(code)
        self.said += lines
        if code not in (0, 7, 8) or (code and (len(lines) != 1 or not lines[0].startswith("edge-asd: "))):
            self.wrong.append(f"it ended with {code}: {lines[-3:]}")
        return code


def tried(scenario: str, folder: Path, allowed: int | None, words: list[str]) -> Outcome:
    """Once, in a process of its own. How long there is no space, and how it begins, changes from one to the next."""
    disk.fill(disk.own_control(), None)
    read, write = os.pipe()
    if not os.fork():
        try:
            outcome = once(scenario, folder, allowed, words)
        except BaseException:
            outcome = Outcome(wrong=[traceback.format_exc()])
        with open(write, "w") as told:
            json.dump(asdict(outcome), told)
        os._exit(0)
    os.close(write)
    with open(read) as told:
        outcome = Outcome(**json.load(told))
    os.wait()
    outcome.allowed = allowed
    return outcome


def once(scenario: str, folder: Path, allowed: int | None, words: list[str]) -> Outcome:
    control, number = disk.own_control(), allowed or 0
    for_ever = scenario == "activating"

    def fill() -> None:
        failing = -1 if for_ever else (1, 4, 20)[number % 3]
        disk.fill(control, allowed, failing=failing, halved=number % 2 == 1)

    counts = []

    def lift() -> None:
        counts.append(disk.counted(control))
        disk.fill(control, None)

    outcome: Outcome = importlib.import_module(f"faults.{scenario}").filling(folder, fill, lift, *words)
    counts.append(disk.counted(control))
    outcome.asked, outcome.refused = (max(each) for each in zip(*counts, strict=True))
    return outcome


def main(scenario: str, root: str, count: str, *words: str) -> None:
    importlib.import_module(f"faults.{scenario}")
    whole = tried(scenario, Path(root, "whole"), None, list(words))
    print(json.dumps(asdict(whole)), flush=True)  # noqa: T201 - who began it reads it
    sample = min(int(count), whole.asked)
    for number in sorted({round(each * (whole.asked - 1) / max(1, sample - 1)) for each in range(sample)}):
        outcome = tried(scenario, Path(root, f"{number:05}"), number, list(words))
        print(json.dumps(asdict(outcome)), flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    main(*sys.argv[1:])
