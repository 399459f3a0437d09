"""What a run leaves behind, and where: every path in a run's folder is named here, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from edge_asd import files, lock
from edge_asd.errors import ConfigError, DataError, UsageError
from edge_asd.manifest import Moment
from edge_asd_trainer.config import Config, as_toml
from edge_asd_trainer.config import read as read_config

Answer = TypeVar("Answer")

SHOWN = ("json", "csv", "png", "html")  # endings of what an evaluation and a report consist of


class Provenance(msgspec.Struct, frozen=True):
    """What was trained on what: the data set's folder, the machine type, the preset that it began from."""

    data: str
    machine: str
    preset: str

    def data_set(self) -> Path:
        """The data set's folder. Raises: DataError where it is no longer there."""
        data = Path(self.data)
        if not data.is_dir():
            raise DataError(
                f"{data}: the clips that this run was trained on are no longer there; put them back, or run the same "
                "`edge-asd train` with their new place: finished stages are kept."
            )
        return data


class Made(msgspec.Struct, frozen=True):
    """When this run's bundle counts as made, in seconds since 1970 UTC, and the fingerprint of what it is made from."""

    inputs: str
    seconds: Moment


class Timings(msgspec.Struct):
    """Seconds that each stage took when it last ran."""

    seconds: dict[str, float] = {}


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run of `edge-asd train`."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def provenance(self) -> Path:
        return self.path / "run.json"

    @property
    def made(self) -> Path:
        return self.path / "made.json"

    @property
    def stages(self) -> Path:
        return self.path / "stages.json"

    @property
    def timings(self) -> Path:
        return self.path / "timings.json"

    def features(self, split: str) -> Path:
        return self.path / "features" / f"{split}.npy"

    @property
    def pretrained(self) -> Path:
        return self.path / "pretrained.safetensors"

    @property
    def network(self) -> Path:
        return self.path / "network.safetensors"

    def checkpoint(self, stage: str) -> Path:
        return self.path / "checkpoints" / f"{stage}.safetensors"

    def log(self, stage: str) -> Path:
        return self.path / "logs" / f"{stage}.csv"

    def tensorboard(self, stage: str) -> Path:
        return self.path / "logs" / "tensorboard" / stage

    @property
    def onnx(self) -> Path:
        return self.path / "network.onnx"

    @property
    def tflite(self) -> Path:
        return self.path / "model.tflite"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def bundle(self, machine: str) -> Path:
        return self.path / f"{machine}.easd"

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Inside, no other process trains into this folder; what a killed one had half written is removed.

        Raises:
            UsageError: another process does.
            StorageError: the folder can't be written.
        """
        with lock.hold(
            self.path / "lock",
            lambda: UsageError(f"{self.path}: another process is training into this folder; wait for it, or end it."),
        ):
            for path in self._written_whole():
                remove(path.parent, files.half_written(path.name))
            try:
                yield
            finally:
                if not [path for path in self.path.rglob("*") if path.is_file() and path != self.path / "lock"]:
                    remove(self.path, "lock")  # what was asked for was refused, and leaves nothing

    def _written_whole(self) -> list[Path]:
        """The files of which a killed training may have left a part; the names of some are patterns."""
        of_all = [self.config, self.provenance, self.made, self.stages, self.timings, self.bundle("*")]
        of_stages = [self.pretrained, self.network, self.onnx, self.tflite, self.checkpoint("*"), self.log("*")]
        of_reports = [folder / f"*.{ending}" for folder in (self.evaluation, self.report) for ending in SHOWN]
        return [*of_all, *of_stages, self.features("*"), self.features("*").with_suffix(".json"), *of_reports]

    def write_config(self, config: Config) -> None:
        """Write down every number that this run uses. Raises: StorageError."""
        files.write_text(self.config, as_toml(config))

    def read_config(self) -> Config:
        """The numbers that this run used. Raises: ConfigError."""
        return read_config(self.config)

    def read_provenance(self) -> Provenance:
        """What was trained on what. Raises: ConfigError where this is no run's folder."""
        return self._read(self.provenance, Provenance)

    def read_made(self) -> Made | None:
        """When its bundle counts as made; None where no training has said it yet. Raises: ConfigError."""
        return self._read(self.made, Made) if self.made.is_file() else None

    def read_timings(self) -> Timings:
        """How long each stage took; empty where nothing was trained yet."""
        return self._read(self.timings, Timings) if self.timings.is_file() else Timings()

    def _read(self, path: Path, kind: type[Answer]) -> Answer:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except OSError as error:
            raise ConfigError(
                f"{path}: can't be read ({error.strerror}); expected the folder of a run of `edge-asd train`."
            ) from error
        except msgspec.DecodeError as error:
            raise ConfigError(f"{path}: not valid ({error}); remove it and train again.") from error


def remove(folder: Path, *patterns: str) -> None:
    """Remove the files that an earlier time left there, so that none is taken for one of now. Raises: StorageError."""
    for stale in [path for pattern in patterns for path in folder.glob(pattern)]:
        try:
            stale.unlink()
        except OSError as error:
            raise files.unwritable(stale, error) from error


def write_json(path: Path, value: msgspec.Struct) -> None:
    """Write a record as JSON. Raises: StorageError."""
    files.write_bytes(path, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
