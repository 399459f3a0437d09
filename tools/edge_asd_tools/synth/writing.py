"""The plant's folder: built beside its place by several processes, then renamed: there whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from edge_asd.errors import UsageError
from edge_asd.files import unwritable, write_bytes, write_text
from edge_asd.workers import each
from edge_asd_tools.synth.plant import Clip, Plan, Recording
from edge_asd_tools.synth.recording import Pcm
from edge_asd_tools.synth.signals import SAMPLE_RATE

NOTICE = "SYNTHETIC.txt"
NOTICE_BEGINS = "Everything in this folder is synthetic."

Sounding = Clip | Recording


def write_plant(plan: Plan, out: Path, jobs: int, force: bool, written: Callable[[], None]) -> None:
    """Write the plant into `out`, calling `written` after each clip.

    Raises:
        UsageError: `out` holds something, and is not a synthetic plant that `force` allows to replace.
        StorageError: it could not be written; `out` is as it was.
    """
    place = Path(os.path.realpath(out))  # a link to a folder is followed, not replaced
    refuse_occupied(place, out, force)
    with _beside(place) as folder:
        clips = list(plan.clips())
        # Recordings first: they take longest, and the processes should finish together.
        sounds = [*plan.recordings(), *clips]
        write = partial(write_sound, folder)
        with nullcontext(map(write, sounds)) if jobs == 1 else each(write, sounds, min(jobs, len(sounds))) as done:
            for _ in done:
                written()
        _write_tables(folder, plan, clips)


def refuse_occupied(place: Path, named: Path, force: bool) -> None:
    """Raises UsageError unless a plant may be put at `place`, which the user called `named`."""
    if not os.path.lexists(place):
        return
    if not place.is_dir():
        raise UsageError(f"{named}: is not a folder; give a folder that doesn't exist yet, or an empty one.")
    if not any(place.iterdir()):
        return
    if not force:
        raise UsageError(
            f"{named}: exists and is not empty; give another folder, or replace a synthetic plant with --force."
        )
    notice = place / NOTICE
    if not notice.is_file() or not notice.read_text(errors="replace").startswith(NOTICE_BEGINS):
        raise UsageError(
            f"{named}: holds files, but no {NOTICE} of a synthetic plant, so --force doesn't delete it; "
            "give another folder, or remove this one yourself."
        )


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """Give a new folder beside `place`; on leaving without an error it takes `place`'s place, otherwise it goes."""
    folder = old = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        yield folder
        folder.chmod(0o755)
        if place.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{place.name}.old.", dir=place.parent))
            place.rename(old)
        folder.rename(place)
    except OSError as error:
        raise unwritable(place, error) from error
    finally:
        if old is not None and not place.exists():
            old.rename(place)
        for left in (folder, old):
            if left is not None:
                shutil.rmtree(left, ignore_errors=True)


def write_sound(folder: Path, sound: Sounding) -> None:
    """Render one clip or recording and write it under `folder`. Raises: StorageError."""
    path = folder / sound.path
    write_bytes(path, wav(sound.samples()))
    if isinstance(sound, Recording):
        write_text(path.with_suffix(".json"), json.dumps(sound.sidecar, indent=2) + "\n")


def wav(samples: Pcm) -> bytes:
    """A WAV file, mono, 16 bit."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return content.getvalue()


def _write_tables(folder: Path, plan: Plan, clips: Sequence[Clip]) -> None:
    """The attributes of each section, which clip has which fault, and the notice."""
    for machine in plan.machines:
        for section in range(plan.sections):
            rows = [
                (clip.path, "spd", clip.take.point.speed_rpm, "load", clip.take.point.load)
                for clip in clips
                if (clip.machine, clip.section) == (machine, section)
            ]
            table = _csv(("file_name", "d1p", "d1v", "d2p", "d2v"), rows)
            write_text(folder / machine / f"attributes_{section:02d}.csv", table)
    faults = [
        (clip.path, onset.fault.kind, f"{onset.fault.severity:.3f}", f"{onset.fault.level_db(clip.machine):.1f}")
        for clip in clips
        if (onset := clip.take.onset)
    ]
    write_text(folder / "faults.csv", _csv(("file_name", "fault", "severity", "level_db"), faults))
    write_text(folder / NOTICE, _notice(plan, clips))


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([header, *rows])
    return table.getvalue()


def _notice(plan: Plan, clips: Sequence[Clip]) -> str:
    units = {(clip.machine, clip.section): clip.take.unit for clip in clips}
    places = [
        f"  {machine} {section:02d}: source {unit.source.factory.snr_db:g} dB, target {unit.target.factory.snr_db:g} dB"
        for (machine, section), unit in units.items()
    ]
    return "\n".join(
        [
            NOTICE_BEGINS,
            "",
            "No machine was recorded: fans, gearboxes, their faults and the factory round them were computed, to try",
            "out edge-asd and to test it. Results on this data say nothing about results on real machines.",
            "",
            "Made with, and made again by:",
            f"  {plan.command}",
            f"Seed: {plan.seed}",
            "",
            "Machine against factory noise, RMS, at the rated speed and load 1 (varies a little from clip to clip):",
            *places,
            "",
            "faults.csv tells which fault is in which anomalous clip, how severe (0 to 1), and its level in dB against",
            "the machine. recordings/ holds one unit of each type that breaks at the second that its .json states.",
            "",
        ]
    )
