"""The commands of the device's room. Whatever takes long to import is imported inside a command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asd.cli import CommandLine
from edge_asd.errors import CheckFailed, DataError, UsageError

if TYPE_CHECKING:
    from edge_asd.clips import ClipVerdict
    from edge_asd.events import Event
    from edge_asd.scoring import Score


class Interpreter(StrEnum):
    """The TFLite interpreters, as they are typed."""

    LITERT = "litert"
    TFLITE_RUNTIME = "tflite-runtime"


BundleFile = Annotated[Path, typer.Argument(metavar="FILE", help="A bundle, .easd.")]
State = Annotated[Path | None, typer.Option(help="State folder of the daemon.")]
Config = Annotated[Path | None, typer.Option(help="The device.toml that names the state folder.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]


def register(line: CommandLine) -> None:
    """Add this room's commands."""
    line.app.command()(score)
    line.app.command()(run)
    line.app.command("status")(show_status)
    line.app.command("events")(show_events)
    line.group("bundle").command()(inspect)
    line.group("bundle").command()(verify)


def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Clips (WAV, FLAC), or folders of them.")],
    *,
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="The bundle, .easd.")],
    section: Annotated[str, typer.Option(help="Section of all clips; otherwise each file's name says it.")] = "",
    threshold: Annotated[str, typer.Option(help="decision, alarm or a number.")] = "decision",
    json: Json = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit code 1 when a clip is anomalous, and all could be used.")
    ] = False,
) -> None:
    """Score clips against the normal ones: CSV on standard output, with --json one object a line.

    A clip that can't be used is named on standard error, and the exit code is 4 in any case; the others are still
    scored, and with --check their tally is said.

    Example: edge-asd score test/ --bundle fan.easd > scores.csv
    """
    from edge_asd import bundle as bundles
    from edge_asd import clips, progress, thresholds

    choice = thresholds.parse(threshold)
    opened = bundles.read(bundle)
    sections = opened.manifest.sections
    if section and section not in sections:
        raise UsageError(f"{bundle}: there is no section {section!r} in it; it has {', '.join(sorted(sections))}.")
    waiting = clips.found(files)
    write = _json_line if json else _csv_writer(clips.ClipVerdict.__struct_fields__)
    verdicts: list[str] = []

    def take(verdict: ClipVerdict) -> None:
        verdicts.append(verdict.verdict)
        write(verdict)

    def tally() -> str:
        return f"{verdicts.count('anomalous')} of {len(verdicts)} clips are anomalous."

    try:
        clips.judge_all(clips.ClipJudge(opened.detector(), sections, choice), waiting, section, take)
    except DataError:
        if check:
            progress.say(f"edge-asd: {tally()}")
        raise
    if check and "anomalous" in verdicts:
        raise CheckFailed(tally())


def run(
    config: Annotated[Path, typer.Option(help="The device's configuration, device.toml.")],
    json: Json = False,
) -> None:
    """Listen: raise an alert when the machine doesn't sound like itself any more.

    Alerts are said on standard error and kept in the state folder. With --json every score and every change of an
    alert is one object a line on standard output. SIGTERM ends it.

    Example: edge-asd run --config device.toml
    """
    from edge_asd import config as settings
    from edge_asd import daemon, progress

    def tell_score(score: Score) -> None:
        if json:
            _json_line({"kind": "score", "seconds": score.seconds, "score": score.value, "nearest": score.nearest})

    def tell_change(kind: str, event: Event) -> None:
        if json:
            _json_line({"kind": kind, "event": event})

    summary = daemon.run(settings.load(config), on_score=tell_score, on_change=tell_change)
    end = "stopped" if summary.stopped else "end of the recording"
    progress.say(
        f"{end}: {summary.heard_seconds:.1f} s heard, {summary.scores} scores, {summary.alerts} alerts"
        + (f", {summary.lost_samples} samples lost" if summary.lost_samples else "")
    )


def show_status(state: State = None, config: Config = None, json: Json = False) -> None:
    """What the daemon does, and its newest events. Exit code 1 when none runs.

    Example: edge-asd status --state /var/lib/edge-asd
    """
    from edge_asd import status

    folder = _state_folder(state, config)
    found = status.read(folder)
    if found is None:
        raise CheckFailed(f"{folder}: nothing runs with this state folder, and nothing ever did; start `edge-asd run`.")
    alive = status.alive(folder)
    if json:
        import msgspec

        _json_line({**msgspec.structs.asdict(found), "alive": alive})
    else:
        for line in [*status.describe(found, alive=alive), *_event_lines(folder, 3)]:
            typer.echo(line)
    if not alive:
        raise CheckFailed(f"{folder}: the daemon doesn't run; start `edge-asd run`.")


def show_events(
    state: State = None,
    config: Config = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="So many, the newest first.")] = 20,
    json: Json = False,
) -> None:
    """The alerts of the past, the newest first; with --json one object a line.

    Example: edge-asd events --state /var/lib/edge-asd --limit 5
    """
    folder = _state_folder(state, config)
    if not json:
        for line in _event_lines(folder, limit):
            typer.echo(line)
        return
    for event in _newest(folder, limit):
        _json_line(event)


def inspect(file: BundleFile, json: Json = False) -> None:
    """What is in a bundle: machine, sections, thresholds, sizes, fingerprints; with --json the manifest.

    Example: edge-asd bundle inspect fan.easd
    """
    from edge_asd import bundle as bundles

    bundle = bundles.read(file)
    if json:
        _json_line(bundle.manifest)
        return
    from rich.console import Console

    from edge_asd import inspection

    console = Console()
    for table in inspection.tables(bundle.manifest, bundle.digest):
        console.print(table)


def verify(
    file: BundleFile,
    runtime: Annotated[Interpreter | None, typer.Option(help="The interpreter; whichever is installed.")] = None,
    json: Json = False,
) -> None:
    """Check every hash in a bundle, and that its golden clip scores here what it scored at export.

    Example: edge-asd bundle verify fan.easd
    """
    from edge_asd import bundle as bundles
    from edge_asd import golden

    result = golden.check(bundles.read(file), runtime=runtime.value if runtime else None)
    if json:
        _json_line(result)
    else:
        agreement = "bit for bit" if result.exact else f"largest difference in the embedding {result.largest_step:.3g}"
        typer.echo(
            f"{file}: hashes agree; the golden clip scores {result.score!r} with {result.runtime}, "
            f"at export {result.expected!r} ({agreement})"
        )
    if not result.passed:
        raise CheckFailed(
            f"{file}: the golden clip scores {result.score:.6g} here and {result.expected:.6g} at export; "
            "don't use this bundle with this interpreter."
        )


def _state_folder(state: Path | None, config: Path | None) -> Path:
    if state and not config:
        return state
    if config and not state:
        from edge_asd import config as settings

        return settings.load(config).state
    raise UsageError("say either --state FOLDER or --config device.toml.")


def _newest(folder: Path, count: int) -> list[Event]:
    from edge_asd.store import FILE_NAME, EventStore

    with EventStore(folder / FILE_NAME, read_only=True) as store:
        return store.newest(count)


def _event_lines(folder: Path, count: int) -> list[str]:
    from edge_asd.events import line

    return [line(event) for event in _newest(folder, count)] or ["no events"]


def _json_line(value: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def _csv_writer(columns: Sequence[str]) -> Callable[[ClipVerdict], None]:
    import csv

    import msgspec

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)

    def write(verdict: ClipVerdict) -> None:
        writer.writerow(msgspec.structs.astuple(verdict))
        sys.stdout.flush()

    return write
