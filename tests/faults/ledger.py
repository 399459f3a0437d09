"""What the faults came to: a line a trial while they are tried, and their sums as the table of docs/reliability.md.

python -m faults.ledger FOLDER PAGE     # sums up what the trials in FOLDER came to, on PAGE
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edge_asd_trainer.bench import page as pages

# Every fault that the suite tries, in the order of the table: its name, and what is done.
FAULTS = {
    "clean start": "nothing: what the times below are to be held beside",
    "unplugged": "the microphone's program ends, and comes back after a while",
    "frozen": "the microphone's program goes on and gives no sample",
    "zeros": "the microphone gives nothing but zeros for a while",
    "noise only": "the microphone gives noise of full scale, half of it clipped, for a while",
    "switched rate": "the microphone gives twice the samples a second that were promised, for a while",
    "killed while scoring": "kill -9 at a random moment, started again as systemd does",
    "killed while commissioning": "the same, with a commissioning that goes on or was just done",
    "killed while activating": "kill -9 of `edge-asd release activate` at a random moment; then the same command again",
    "killed while training": "kill -9 of `edge-asd train` at a random moment; then the same command again",
    "power cut while scoring": "what wasn't synced is lost, after every change of the file system",
    "power cut while commissioning": "the same, while what was learned on site is written",
    "power cut while activating": "the same, while a release is activated",
    "power cut while training": "the same, while a training writes checkpoints and stages",
    "disk full while scoring": "from every write on in turn, none succeeds; then there is space again",
    "disk full while commissioning": "the same, while what was learned on site is written",
    "disk full while activating": "the same, while a release is activated; then the same command again",
    "disk full while training": "the same, while a training writes checkpoints and stages; then the same command again",
    "clock jumps": "the wall clock jumps by hours, days and years, back and forth",
    "broker flaps": "the MQTT broker is killed and started again and again",
    "webhook flaps": "the web address takes, refuses, hangs and hangs up by turns",
    "memory limit": "all that the daemon can do at once, under the unit's MemoryMax",
    "out of memory": "the limit is drawn below what it needs: the kernel kills it; started again as systemd does",
    "CPU taken away": "the daemon gets a tenth of the time that it needs, for a while",
    "stopped": "the daemon is stopped and goes on, as in a suspended machine",
}

HEADER = ("fault", "tried", "survived", "events before", "after", "lost", "double", "files left", "scores again, mean")


@dataclass
class Trial:
    """One fault, once.

    Attributes:
        before: events that were acknowledged before it: on the disk, or with whom they were told.
        after: events that are there afterwards.
        lost: of those before.
        double: ids that are there, or were told as new, more than once.
        left: files that nobody asked for and nobody will remove.
        again: seconds from the end of the fault (where a process was killed: from its next start) to the next score.
        wrong: what else is not as it must be.
    """

    fault: str
    before: int | None = None
    after: int | None = None
    lost: int = 0
    double: int = 0
    left: list[str] = field(default_factory=list)
    again: float | None = None
    wrong: list[str] = field(default_factory=list)
    survived: bool = False

    def count(self, before: Sequence[str], after: Sequence[str]) -> None:
        """Hold the ids of acknowledged events before a fault against those after it."""
        self.before, self.after = len(before), len(after)
        self.lost = len(set(before) - set(after))
        self.double = len(after) - len(set(after))


class Ledger:
    """Where trials are noted."""

    def __init__(self, file: Path, *, full: bool) -> None:
        self._file = file
        self._full = full

    def times(self, few: int, many: int) -> range:
        """How often something is tried: few times in the ordinary tests, many in the whole suite."""
        return range(many if self._full else few)

    @contextmanager
    def trial(self, fault: str) -> Iterator[Trial]:
        """Try a fault once; noted whatever happens, and a failure where anything was lost, doubled, left or wrong."""
        assert fault in FAULTS, f"ledger.FAULTS doesn't know {fault!r}"
        trial = Trial(fault)
        try:
            yield trial
            trial.survived = not (trial.lost or trial.double or trial.left or trial.wrong)
        finally:
            with self._file.open("a") as file:
                file.write(json.dumps(asdict(trial)) + "\n")
        assert trial.survived, trial


def full() -> bool:
    """Whether the whole suite is wanted."""
    return os.environ.get("EDGE_ASD_FAULTS") == "all"


def table(trials: Sequence[Trial]) -> str:
    """A row for every fault that was tried."""
    lines: list[Sequence[str]] = [HEADER, ["---"] * len(HEADER)]
    for fault in FAULTS:
        if tried := [trial for trial in trials if trial.fault == fault]:
            again = [trial.again for trial in tried if trial.again is not None]
            lines.append(
                (
                    fault,
                    str(len(tried)),
                    str(sum(trial.survived for trial in tried)),
                    _sum([trial.before for trial in tried]),
                    _sum([trial.after for trial in tried]),
                    str(sum(trial.lost for trial in tried)),
                    str(sum(trial.double for trial in tried)),
                    str(sum(len(trial.left) for trial in tried)),
                    f"{sum(again) / len(again):.2g} s" if again else "",
                )
            )
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _sum(counts: Sequence[int | None]) -> str:
    known = [count for count in counts if count is not None]
    return str(sum(known)) if known else ""


def main(folder: str, page: str) -> None:
    trials = [Trial(**json.loads(line)) for file in sorted(Path(folder).glob("*.jsonl")) for line in file.open()]
    pages.write(Path(page), "faults", f"{table(trials)}\n{pages.machine()}.\n", kind="made")
    for trial in trials:
        if not trial.survived:
            sys.stderr.write(f"{trial}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
