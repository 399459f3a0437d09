"""Which of the training clips a bank keeps: as many as were asked for, or as few as do (`bank_choice`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asd import progress
from edge_asd.audio import sound_files
from edge_asd.clip_name import ClipName, section_named
from edge_asd.errors import DataError
from edge_asd.model import Model
from edge_asd.scoring import embed
from edge_asd_trainer.bank_choice import BankChoice, choose
from edge_asd_trainer.config import Config
from edge_asd_trainer.coreset import coreset
from edge_asd_trainer.data import Clip
from edge_asd_trainer.detection import embed_clips
from edge_asd_trainer.features import LogMels, log_mels
from edge_asd_trainer.made_up_faults import made_up_fault
from edge_asd_trainer.run_folder import RunFolder


def anomalous_clips(config: Config, sections: set[str], folder: RunFolder) -> LogMels | None:
    """The clips of real faults that banks are to be measured with; None where none were given.

    Raises:
        DataError: there is no such folder, no clip in it, or one of a section that isn't trained on.
        ClipError: a clip can't be read.
    """
    given = config.detection.anomalies
    if not given or config.system != "system1":
        return None
    found = sound_files(Path(given), below=True) if Path(given).is_dir() else []
    if not found:
        raise DataError(f"--anomalies {given}: no WAV or FLAC file there; give a folder of clips of real faults.")
    clips = [Clip(path, ClipName(_section(path, sections), None, "anomaly")) for path in found]
    return log_mels(clips, config.front_end, config.windows, folder.features("anomalies"))


def _section(path: Path, sections: set[str]) -> str:
    named = section_named(path.name) or (next(iter(sections)) if len(sections) == 1 else "")
    if named not in sections:
        raise DataError(
            f"{path}: its name says {f'section {named}' if named else 'no section'}; "
            f"expected section_{min(sections)}_... or another of {', '.join(sorted(sections))}."
        )
    return named


def compact(
    train: LogMels, embeddings: NDArray[np.float32], anomalies: LogMels | None, model: Model, config: Config
) -> tuple[BankChoice, set[str]]:
    """How large System 1's banks are and why, and the names of the clips that they keep.

    Args:
        train, embeddings: the training clips, and what the network makes of them, (clips, dimensions).
        anomalies: clips of real faults, if there are any.
        model: the network, for made-up faults.
        config: size, tolerance and back-ends. Back-ends that look at more than the nearest entry keep all clips.
    """
    section_of = np.array([name.section for name in train.names])
    sections = [str(name) for name in np.unique(section_of)]
    normal = {name: embeddings[section_of == name] for name in sections}
    wanted = config.detection
    if wanted.bank_size:
        choice = BankChoice(wanted.bank_size, "as many as were asked for")
    elif wanted.bank_tolerance == 0:
        choice = BankChoice(0, "nothing may be lost")
    elif len(wanted.backends) > 1 or not wanted.backends[0].plain:
        choice = BankChoice(0, "back-ends beyond the nearest neighbour look at all")
    elif anomalies:
        of = np.array([name.section for name in anomalies.names])
        strange = embed_clips(anomalies, config.windows, model)
        faulty = {name: strange[of == name] for name in sections}
        choice = choose(normal, faulty, paired=False, tolerance=wanted.bank_tolerance)
    else:
        faulty = _faulty(train, section_of, model, config)
        choice = choose(normal, faulty, paired=True, tolerance=wanted.bank_tolerance)
    kept = set()
    for name, rows in normal.items():
        members = np.flatnonzero(section_of == name)
        kept |= {train.clips[members[i]].path.name for i in coreset(rows, choice.entries or len(rows))}
    return choice, kept


def _faulty(
    train: LogMels, section_of: NDArray[np.str_], model: Model, config: Config
) -> dict[str, NDArray[np.float32]]:
    """By section the embeddings of the clips with a fault made up in each, the same ones at every call."""
    faulty: dict[str, list[NDArray[np.float32]]] = {}
    with progress.bar("made-up faults", len(train.clips)) as bar:
        for index, section in enumerate(section_of):
            changed = made_up_fault(train[index], np.random.default_rng((config.seed, index)))
            faulty.setdefault(str(section), []).append(embed(config.windows, model, changed))
            bar.advance()
    return {section: np.stack(rows) for section, rows in faulty.items()}
