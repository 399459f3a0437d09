"""What a training says of every step: a CSV file for whoever wants to plot, and the same for TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tensorboardX import SummaryWriter

from edge_asd import files
from edge_asd_trainer.run_folder import remove

FLUSH_SECONDS = 10


class Writer:
    """Writes the rows of a training that runs."""

    def __init__(self, path: Path, file: IO[str], board: SummaryWriter, *, empty: bool) -> None:
        self._path, self._file, self._board = path, file, board
        self._rows = csv.writer(file, lineterminator="\n")
        self._empty = empty

    def row(self, step: int, figures: Mapping[str, float]) -> None:
        """A step's figures; they are the same ones at every step. Raises: StorageError."""
        try:
            if self._empty:
                self._rows.writerow(["step", *figures])
                self._empty = False
            self._rows.writerow([step, *(f"{value:.8g}" for value in figures.values())])
            self._file.flush()
        except OSError as error:
            raise files.unwritable(self._path, error) from error
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)


class TrainingLog:
    """The files of one training: `step,epoch,learning_rate,loss,<terms>,clips_per_second`, a row a step."""

    def __init__(self, path: Path, events: Path) -> None:
        """Keep the CSV file at `path`, and TensorBoard's files in the folder `events`."""
        self._path, self._events = path, events

    def clear(self) -> None:
        """Remove what an earlier training wrote. Raises: StorageError."""
        remove(self._path.parent, self._path.name)
        remove(self._events, "events.*")

    @contextmanager
    def from_step(self, start: int) -> Iterator[Writer]:
        """Write from this step on; rows of later steps, which a killed training had written already, are dropped.

        Raises:
            StorageError: a file can't be written.
        """
        kept = _lines_before(self._path, start)
        files.write_text(self._path, "".join(kept))
        if not start:
            remove(self._events, "events.*")
        try:
            self._events.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a", newline="")
            board = SummaryWriter(str(self._events), purge_step=start or None, flush_secs=FLUSH_SECONDS)
        except OSError as error:
            raise files.unwritable(self._path, error) from error
        with file, board:
            yield Writer(self._path, file, board, empty=not kept)


def _lines_before(path: Path, start: int) -> list[str]:
    """The heading and the whole rows of the steps before `start`; nothing where there is no step before."""
    if not start:
        return []
    try:
        lines = path.read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return []
    return lines[:1] + [line for line in lines[1:] if line.endswith("\n") and _step(line) < start]


def _step(line: str) -> float:
    number, _, _ = line.partition(",")
    return int(number) if number.isdecimal() else float("inf")
