"""`edge-asd threshold`: the command. Recordings of normal sound in; a threshold, and if wanted a bundle with it, out.

NumPy and all that needs it is imported inside functions: the command line starts without.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asd import progress
from edge_asd.errors import CaptureError, ClipError, UsageError
from edge_asd.promise import clock_time, doubts, number, period, rounded_up

if TYPE_CHECKING:
    from edge_asd.bundle import Bundle
    from edge_asd.false_alarms import Evidence, Outlook, Recording
    from edge_asd.scoring import Detector

SHORTEST_SECONDS = 9.0  # of a recording: a score is of 10 s, and recorders stop a little early


@dataclass(frozen=True)
class Report:
    """What was asked, what was heard, and what follows.

    Attributes:
        bundle, machine, section, false_alarms, minimum_seconds, release: as asked for.
        recordings, hours, listened_hours: how much there was, and in how much of it an alert could have been raised.
        decision, alarm: what the bundle's thresholds mean.
        found: what the new one means.
        extrapolation: how many times as long as was listened is the time in which one alert may be raised.
        highest_score, highest_file, highest_seconds: of the normal sound.
        settings: the lines for the device.toml of a site, empty where it can't hold such a threshold.
        warnings: what speaks against relying on it.
    """

    bundle: str
    machine: str
    section: str
    false_alarms: float
    minimum_seconds: float
    release: float
    recordings: int
    hours: float
    listened_hours: float
    decision: Outlook
    alarm: Outlook
    found: Outlook
    extrapolation: float
    highest_score: float
    highest_file: str
    highest_seconds: float
    settings: str
    warnings: tuple[str, ...]


def threshold(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle, .easd.")],
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORDING...", help="Sound of the machine running normally, not trained on (WAV, FLAC; folders)."
        ),
    ],
    *,
    false_alarms: Annotated[float, typer.Option(help="At most so many a week, on average; 0.25 is one in 4 weeks.")],
    section: Annotated[str, typer.Option(help="The section recorded; may be left out where there is one.")] = "",
    minimum_seconds: Annotated[
        float, typer.Option(min=0, max=86400, help="As in the device's [alarm]: scores stay strange for so long.")
    ] = 1.0,
    release: Annotated[
        float, typer.Option(min=0.01, max=1, help="As there: below this share of the threshold an alert ends.")
    ] = 0.9,
    out: Annotated[
        Path | None, typer.Option(help="The bundle with the new alarm threshold: a new file, or BUNDLE itself.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Find the lowest alarm threshold for at most so many false alarms a week, from recordings of normal sound.

    They are listened to as a device listens, each by itself, their channels mixed. What is rarer than they are long
    is extrapolated: hours say more than minutes, and different days more than one.

    Example: edge-asd threshold runs/fan/fan.easd normal/ --section 00 --false-alarms 1 --out fan-quiet.easd
    """
    from edge_asd import bundle as bundles
    from edge_asd import clips
    from edge_asd.false_alarms import evidence
    from edge_asd.verdict import AlarmRule

    if not 0 < false_alarms < math.inf:
        raise UsageError(f"--false-alarms: found {false_alarms:g}; expected a number above 0, such as 1 or 0.25.")
    if out and out.exists() and not (bundle.exists() and out.samefile(bundle)):
        raise UsageError(f"--out {out}: there is one already; name a new file, or {bundle} to change that itself.")
    opened = bundles.read(bundle)
    name = _section(opened, section)
    files = list({path.resolve(): path for path in clips.found(recordings)}.values())
    seconds = [_seconds(file) for file in files]
    heard = _hear(files, seconds, opened.detector(), name)
    known = evidence(heard, AlarmRule(math.inf, release, minimum_seconds))
    report = _report(opened, name, known, false_alarms, sum(seconds))
    if out:
        bundles.write(out, _with_alarm(opened, report))
    if json:
        import msgspec

        typer.echo(msgspec.json.encode(report).decode())
    else:
        typer.echo(_as_text(report))
    for warning in report.warnings:
        progress.say(f"warning: {warning}")
    if out:
        progress.say(f"bundle: {out}")


def _section(opened: Bundle, section: str) -> str:
    known = sorted(opened.manifest.sections)
    if section in known or (not section and len(known) == 1):
        return section or known[0]
    raise UsageError(
        f"--section: found {section!r}; {opened.source} has {', '.join(known)}, say which of them was recorded."
    )


def _seconds(file: Path) -> float:
    """How long a recording is. Raises: ClipError where it can't be read, or is too short for a score."""
    import soundfile

    if not file.is_file():
        raise ClipError(f"{file}: there is no such file; give the path of a WAV or FLAC file, or of a folder.")
    try:
        seconds = float(soundfile.info(file).duration)
    except (soundfile.SoundFileError, OSError) as error:
        raise ClipError(f"{file}: can't be read as a sound file ({error}); expected WAV or FLAC.") from error
    if seconds < SHORTEST_SECONDS:
        raise ClipError(f"{file}: {seconds:.1f} s long, and a score is of 10 s of sound; leave it out.")
    return seconds


def _hear(files: Sequence[Path], seconds: Sequence[float], detector: Detector, section: str) -> list[Recording]:
    with progress.bar("Listening, s", round(sum(seconds))) as bar:
        return [_listen(file, detector, section, bar.advance) for file in files]


def _listen(file: Path, detector: Detector, section: str, advance: Callable[[int], None]) -> Recording:
    """Stream a recording through the device's scorer, a block at a time. Raises: ClipError."""
    import numpy as np

    from edge_asd.capture.wav import WavSource
    from edge_asd.false_alarms import Recording
    from edge_asd.scoring import StreamScorer

    rate = detector.front_end.sample_rate
    scorer = StreamScorer(detector, section)
    times, values = array("d"), array("d")
    samples, least, most = 0, math.inf, -math.inf
    try:
        with WavSource(file, sample_rate=rate, pace="fast") as source:
            for block in source:
                for score in scorer.push(block.samples):
                    times.append(score.seconds)
                    values.append(score.value)
                least = min(least, float(block.samples.min(initial=math.inf)))
                most = max(most, float(block.samples.max(initial=-math.inf)))
                advance((samples + len(block.samples)) // rate - samples // rate)
                samples += len(block.samples)
    except CaptureError as error:  # of a recording, not of a device
        raise ClipError(str(error)) from error
    if least >= most:
        raise ClipError(f"{file}: digital silence from beginning to end; record it again or leave it out.")
    if not values:  # as long as a clip, but a stream scores a window only when the frame behind it is there
        whole = scorer.finish()
        times.append(whole.seconds)
        values.append(whole.value)
    return Recording(str(file), np.array(times), np.array(values))


def _report(opened: Bundle, section: str, known: Evidence, false_alarms: float, seconds: float) -> Report:
    now = opened.manifest.sections[section].thresholds
    found = known.outlook(rounded_up(known.lowest_threshold(false_alarms)))
    name, at, score = known.highest()
    return Report(
        bundle=opened.source,
        machine=opened.manifest.machine,
        section=section,
        false_alarms=false_alarms,
        minimum_seconds=known.rule.minimum_seconds,
        release=known.rule.release,
        recordings=len(known.recordings),
        hours=seconds / 3600,
        listened_hours=known.seconds / 3600,
        decision=known.outlook(now.decision),
        alarm=known.outlook(now.alarm),
        found=found,
        extrapolation=known.extrapolation(false_alarms),
        highest_score=score,
        highest_file=name,
        highest_seconds=at,
        settings=_settings(found.threshold, known),
        warnings=(*_trained_on(opened, section, known), *doubts(known, false_alarms)),
    )


def _settings(found: float, known: Evidence) -> str:
    """The lines of a device.toml, or none where its reader would refuse such a threshold."""
    import msgspec

    from edge_asd.settings import AlarmSettings

    given = {"threshold": found, "release": known.rule.release, "minimum_seconds": known.rule.minimum_seconds}
    try:
        settings = msgspec.convert(given, AlarmSettings)
    except msgspec.ValidationError:
        return ""
    usual = AlarmSettings()
    lines = [f"{key} = {value!r}" for key, value in given.items() if getattr(settings, key) != getattr(usual, key)]
    return "\n".join(["[alarm]", *lines])


def _trained_on(opened: Bundle, section: str, known: Evidence) -> list[str]:
    """Recordings that were trained on would be far too near to the bank."""
    bank = opened.embedding_banks.get(section)
    trained = sorted({Path(one.name).name for one in known.recordings} & set(bank.clips if bank else ()))
    if not trained:
        return []
    return [
        f"{len(trained)} of the recordings are named like clips that were trained on, {trained[0]} for one; if they "
        "are these, leave them out, for what was trained on sounds more normal than anything will again."
    ]


def _with_alarm(opened: Bundle, report: Report) -> Bundle:
    """The bundle with another alarm threshold, which its card tells; all else is as it was."""
    from msgspec import structs

    sections = opened.manifest.sections
    changed = structs.replace(
        sections[report.section],
        thresholds=structs.replace(sections[report.section].thresholds, alarm=report.found.threshold),
    )
    note = (
        f"\n## Alarm threshold of section {report.section}\n\nSet to {report.found.threshold!r} after training, for at "
        f"most {report.false_alarms:g} false alarms a week, from {report.recordings} recordings of normal sound "
        f"({report.hours:.2f} h).\n"
    )
    return replace(
        opened,
        manifest=structs.replace(opened.manifest, sections={**sections, report.section: changed}),
        model_card=opened.model_card + note,
    )


def _as_text(report: Report) -> str:
    """The table, how far it reaches, and what to write into a device.toml."""
    wanted = f"at most {report.false_alarms:g} a week"
    lines = [f"{'':<{len(wanted)}} {'threshold':>11} {'alerts':>7} {'in alert':>9} {'alerts a week':>14}"]
    for name, one in (("decision", report.decision), ("alarm", report.alarm), (wanted, report.found)):
        counted = f"{one.threshold:>11.6g} {one.alerts:>7} {one.lasting:>9.1%}"
        lines.append(f"{name:<{len(wanted)}} {counted} {number(one.per_week):>14}")
    reach = f"from {report.listened_hours:.2f} h to {period(168 / report.false_alarms)}"
    far = f"extrapolated {reach}: {report.extrapolation:.3g} times" if report.extrapolation > 1 else "counted"
    highest = f"{report.highest_score:.6g}, at {clock_time(report.highest_seconds)} in {report.highest_file}"
    settings = (
        f"for one site alone, in its device.toml:\n\n{report.settings}"
        if report.settings
        else "a device.toml can't hold such a threshold; write a bundle with --out"
    )
    title = (
        f"{report.machine}, section {report.section}: {report.recordings} recordings of {report.hours:.2f} h, "
        f"listened to for {report.listened_hours:.2f} h"
    )
    return "\n".join([title, "", *lines, "", far, f"highest normal score: {highest}", settings])
