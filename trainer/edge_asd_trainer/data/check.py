"""A folder of recordings, looked at before training is: every clip is heard, and all that is wrong with them is said.

DATA/<machine>/{train,test} --measures--> HeardClip --findings, comparisons--> Report
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import get_args

import msgspec

from edge_asd import progress
from edge_asd.audio import read_clip, sound_files
from edge_asd.clip_name import ClipName, parse_clip_name
from edge_asd.errors import ClipError, ClipNameError, DataError
from edge_asd.files import unreadable
from edge_asd.front_end import FrontEnd
from edge_asd.windows import Windows
from edge_asd.workers import each
from edge_asd_trainer.data.comparisons import of_machine
from edge_asd_trainer.data.dataset import roots
from edge_asd_trainer.data.findings import Finding, HeardClip, Severity, Split, finding, of_clip
from edge_asd_trainer.data.measures import Measures, measure

CLIPS_A_TASK = 4
SPLITS: tuple[Split, ...] = get_args(Split)
# What people record into that no command reads; other files (tables, notes) are nobody's mistake.
OTHER_SOUND = {".mp3", ".m4a", ".aac", ".ogg", ".opus", ".wma", ".aif", ".aiff", ".caf", ".raw", ".pcm"}


class SectionRow(msgspec.Struct, kw_only=True):
    """One row of the summary: the clips of a section and domain; "?" where their names don't say them.

    Attributes:
        section: two digits.
        domain: "source", "target", or "-" where the names carry none.
        train, test_normal, test_anomaly, test_unlabelled: how many clips.
        seconds: of those that could be read, in all.
        sample_rates, channels: all that occur, sorted.
    """

    section: str
    domain: str
    train: int
    test_normal: int
    test_anomaly: int
    test_unlabelled: int
    seconds: float
    sample_rates: list[int]
    channels: list[int]


class MachineReport(msgspec.Struct, kw_only=True):
    """What was found of one machine type: errors first, then by place."""

    machine: str
    findings: list[Finding]
    sections: list[SectionRow]


class Report(msgspec.Struct, kw_only=True):
    """What was found in a data set."""

    data: str
    errors: int
    warnings: int
    machines: list[MachineReport]


def check(
    data: Path,
    wanted: Collection[str] = (),
    processes: int | None = None,
) -> Report:
    """Hear every clip of these machine types (none named: of all) and say what is wrong.

    Raises:
        DataError: there is no such folder, or no machine's folder in it.
        StorageError: the folder can't be read, or a worker process was ended from outside.
    """
    machines = _machines(data, wanted)
    files = [(machine, split, path) for machine in machines for split, path in _files(data, machine)]
    heard = defaultdict(list)
    for (machine, *_), clip in zip(files, _heard([file[1:] for file in files], processes), strict=True):
        heard[machine].append(clip)
    reports = []
    for machine in machines:
        clips = heard[machine]
        found = [
            *_not_taken(data, machine),
            *of_machine(machine, roots(data)[0] / machine / "train", clips),
            *(one for clip in clips for one in of_clip(clip, FrontEnd(), Windows())),
        ]
        found.sort(key=lambda one: (one.severity, one.kind, one.place))
        reports.append(MachineReport(machine=machine, findings=found, sections=_rows(clips)))
    severities: Counter[Severity] = Counter(one.severity for report in reports for one in report.findings)
    return Report(data=str(data), errors=severities["error"], warnings=severities["warning"], machines=reports)


def _machines(data: Path, wanted: Collection[str]) -> list[str]:
    """The machine types to check: every folder with clips to train on or to test. Raises: DataError, StorageError."""
    if not data.is_dir():
        raise DataError(f"{data}: there is no such folder; give the folder that holds <machine>/train.")
    if any((data / split).is_dir() for split in SPLITS):
        raise DataError(f"{data}: is one machine's own folder; give the one above it: {data.resolve().parent}.")
    try:
        folders = [folder for root in roots(data) for folder in root.iterdir()]
    except OSError as error:
        raise unreadable(data, error) from error
    found = sorted({folder.name for folder in folders if any((folder / split).is_dir() for split in SPLITS)})
    if not found:
        raise DataError(
            f"{data}: holds no machine's folder; expected normal clips in {data}/<machine>/train, named like "
            "section_00_source_train_normal_0000.wav."
        )
    for machine in wanted:
        if machine not in found:
            raise DataError(f"{data}: there is no machine {machine} in it; it has {', '.join(found)}.")
    return [machine for machine in found if machine in wanted or not wanted]


def _files(data: Path, machine: str) -> Iterator[tuple[Split, Path]]:
    for split in SPLITS:
        for root in roots(data):
            for path in sound_files(root / machine / split):
                yield split, path


def _not_taken(data: Path, machine: str) -> Iterator[Finding]:
    """Sound that lies where no command looks for it, or in a format that none reads; one finding a folder."""
    for split in SPLITS:
        for folder in (root / machine / split for root in roots(data)):
            if deeper := [path for path in sound_files(folder, below=True) if path.parent != folder]:
                message = f"lies below {folder}, where no clip is looked for{_and_more(deeper)}; move it up."
                yield finding("not-taken", deeper[0], message)
            if foreign := sorted(path for path in folder.glob("*") if path.suffix.lower() in OTHER_SOUND):
                message = f"isn't taken for a clip{_and_more(foreign)}; expected WAV or FLAC, recorded without loss."
                yield finding("not-taken", foreign[0], message)


def _and_more(paths: Sequence[Path]) -> str:
    return f" (nor are {len(paths) - 1} more)" if len(paths) > 1 else ""


def _heard(files: Sequence[tuple[Split, Path]], processes: int | None) -> Iterator[HeardClip]:
    tasks = [files[start : start + CLIPS_A_TASK] for start in range(0, len(files), CLIPS_A_TASK)]
    if not tasks:
        return
    number = min(processes or os.cpu_count() or 1, len(tasks))
    with progress.bar("listening", len(files)) as bar, each(_hear_all, tasks, number) as done:
        for clips in done:
            bar.advance(len(clips))
            yield from clips


def _hear_all(files: Sequence[tuple[Split, Path]]) -> list[HeardClip]:
    return [hear(split, path) for split, path in files]


def hear(split: Split, path: Path) -> HeardClip:
    """Read a clip's name and its sound, and measure it."""
    refusals = {}
    name: ClipName | None = None
    measures: Measures | None = None
    try:
        name = parse_clip_name(path.name)
    except ClipNameError as error:
        refusals["clip-name"] = str(error).removeprefix(f"{path.name}: ")
    try:
        measures = _measured(path)
    except ClipError as error:
        refusals["unreadable"] = str(error).removeprefix(f"{path}: ")
    return HeardClip(path, split, name, measures, refusals)


def _measured(path: Path) -> Measures:
    """Raises: ClipError, with training's own words."""
    import soundfile

    try:
        file = soundfile.info(path)
    except (soundfile.SoundFileError, OSError):
        read_clip(path)
        raise
    samples = read_clip(path, file.samplerate)[:, None]  # at its own rate: resampling moves the peaks
    if file.channels > 1:
        samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
    return measure(samples, file.samplerate)


def _rows(clips: Sequence[HeardClip]) -> list[SectionRow]:
    groups = defaultdict(list)
    for clip in clips:
        groups[_group(clip.name)].append(clip)
    return [_row(section, domain, group) for (section, domain), group in sorted(groups.items())]


def _group(name: ClipName | None) -> tuple[str, str]:
    return (name.section, name.domain or "-") if name else ("?", "?")


def _row(section: str, domain: str, clips: Sequence[HeardClip]) -> SectionRow:
    labels = Counter(clip.name.label if clip.name else None for clip in clips if clip.split == "test")
    heard = [clip.measures for clip in clips if clip.measures]
    return SectionRow(
        section=section,
        domain=domain,
        train=sum(clip.split == "train" for clip in clips),
        test_normal=labels["normal"],
        test_anomaly=labels["anomaly"],
        test_unlabelled=labels[None],
        seconds=round(sum(measures.seconds for measures in heard), 3),
        sample_rates=sorted({measures.sample_rate for measures in heard}),
        channels=sorted({measures.channels for measures in heard}),
    )
