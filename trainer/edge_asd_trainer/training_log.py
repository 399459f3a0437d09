"""What a training says of every step: a CSV file for whoever wants to plot, and the same for TensorBoard."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from edge_asd import files
from edge_asd_trainer.run_folder import remove


class Writer:
    """Writes the rows of a training that runs."""

    def __init__(self, path: Path, file: IO[str], events: EventsWriter, *, empty: bool) -> None:
        self._path, self._file, self._events = path, file, events
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
            for name, value in figures.items():
                self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary.scalar(name, value)))
            self._events.flush()
        except OSError as error:
            raise files.unwritable(self._path, error) from error


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
            # Not its SummaryWriter, whose thread dies of a full disk and leaves the training waiting for it.
            events = EventsWriter(str(self._events / "events"), f".{start}")
            if start:  # TensorBoard then forgets what an earlier file says of later steps
                began_anew = SessionLog(status=SessionLog.START)
                events.write_event(Event(wall_time=time.time(), step=start, session_log=began_anew))
        except OSError as error:
            raise files.unwritable(self._path, error) from error
        try:
            yield Writer(self._path, file, events, empty=not kept)
        finally:
            for each in (file, events):
                with suppress(OSError):  # every row was flushed, or that it couldn't be has been raised
                    each.close()


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
