"""The commands of the device's room. Whatever takes long to import is imported inside a command."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_asd import bundle_commands, json_lines, release_commands, shadow_commands
from edge_asd.cli import CommandLine
from edge_asd.commission_command import commission
from edge_asd.errors import CheckFailed, DataError, StorageError, UsageError
from edge_asd.options import Config, Device, Interpreter, Json, State, ask, state_folder
from edge_asd.plain import plain

if TYPE_CHECKING:
    from edge_asd.clips import ClipVerdict
    from edge_asd.events import Event


def register(line: CommandLine) -> None:
    """Add this room's commands."""
    line.app.command()(score)
    line.app.command()(run)
    line.app.command("status")(show_status)
    line.app.command("events")(show_events)
    line.app.command()(commission)
    line.app.command()(bench)
    line.app.command()(doctor)
    bundle_commands.register(line)
    release_commands.register(line)
    shadow_commands.register(line)


def score(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Clips (WAV, FLAC), or folders of them.")],
    *,
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="The bundle, .easd.")],
    section: Annotated[str, typer.Option(help="Section of all clips; otherwise each file's name says it.")] = "",
    threshold: Annotated[str, typer.Option(help="decision, alarm or a number.")] = "decision",
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, help="So many processes, where there are many clips; one a core.")
    ] = None,
    json: Json = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit code 1 when a clip is anomalous, and all could be used.")
    ] = False,
) -> None:
    """Score clips against the normal ones: CSV on standard output, with --json one object a line.

    A clip that can't be used is named on standard error, and the exit code is 4 in any case; the others are still
    scored, and with --check their tally is said. What comes out is the same with any number of --jobs.

    Example: edge-asd score test/ --bundle fan.easd > scores.csv
    """
    from edge_asd import workers

    with workers.one_thread():  # more gain nothing on matrices of this size, and are in the way of other processes
        from edge_asd import bundle as bundles
        from edge_asd import clips, progress, thresholds

    choice = thresholds.parse(threshold)
    opened = bundles.read(bundle)
    sections = opened.manifest.sections
    if section and section not in sections:
        raise UsageError(f"{bundle}: there is no section {section!r} in it; it has {', '.join(sorted(sections))}.")
    waiting = clips.found(files)
    write = json_lines.tell if json else _csv_writer(clips.ClipVerdict.__struct_fields__)
    verdicts = Counter[str]()

    def take(verdict: ClipVerdict) -> None:
        verdicts[verdict.verdict] += 1
        write(verdict)

    def tally() -> str:
        return f"{verdicts['anomalous']} of {verdicts.total()} clips are anomalous."

    try:
        clips.judge_all(opened, choice, waiting, section, take, jobs=jobs or workers.usable_cores())
    except DataError:
        if check:
            progress.say(f"edge-asd: {tally()}")
        raise
    if check and verdicts["anomalous"]:
        raise CheckFailed(tally())


def run(
    config: Annotated[Path, typer.Option(help="The device's configuration, device.toml.")],
    shadow: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A bundle that scores beside while it is there, on trial.")
    ] = None,
    json: Json = False,
) -> None:
    """Listen: raise an alert when the machine doesn't sound like itself any more.

    Alerts are said on standard error and kept in the state folder. With --json every score and every change of an
    alert is one object a line on standard output. SIGTERM ends it.

    Example: edge-asd run --config device.toml
    """
    from edge_asd import daemon_process

    verbose = logging.getLogger().isEnabledFor(logging.DEBUG)
    daemon_process.become(config, json=json, verbose=verbose, shadow=shadow)


def show_status(device: Device = None, *, state: State = None, config: Config = None, json: Json = False) -> None:
    """What the daemon does, and its newest events. Exit code 1 when none runs.

    Example: edge-asd status --state /var/lib/edge-asd

    Of another device: edge-asd status pi@shop-floor-7
    """
    if device:
        ask(device, "status", state or config, json=json)
    from edge_asd import status

    folder = state_folder(state, config)
    found = status.read(folder)
    if found is None:
        raise CheckFailed(f"{folder}: nothing runs with this state folder, and nothing ever did; start `edge-asd run`.")
    alive = status.alive(folder)
    if json:
        import msgspec

        json_lines.tell({**msgspec.structs.asdict(found), "alive": alive})
    else:
        for line in status.describe(found, alive=alive):
            typer.echo(plain(line))
        try:
            events = _event_lines(folder, 3)
        except StorageError as error:  # what the daemon says of itself is wanted all the more
            events = [f"events     {error}"]
        for line in events:
            typer.echo(plain(line))
    if not alive:
        raise CheckFailed(f"{folder}: the daemon doesn't run; start `edge-asd run`.")


def show_events(
    device: Device = None,
    *,
    state: State = None,
    config: Config = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="So many, the newest first.")] = 20,
    json: Json = False,
) -> None:
    """The alerts of the past, the newest first; with --json one object a line.

    Example: edge-asd events --state /var/lib/edge-asd --limit 5
    """
    if device:
        ask(device, "events", state or config, "--limit", str(limit), json=json)
    folder = state_folder(state, config)
    if not json:
        for line in _event_lines(folder, limit):
            typer.echo(plain(line))
        return
    for event in _newest(folder, limit):
        json_lines.tell(event)


def bench(
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="The bundle, .easd.")],
    *,
    section: Annotated[str, typer.Option(help="For which it scores; the golden clip's.")] = "",
    runtime: Annotated[Interpreter | None, typer.Option(help="The interpreter; whichever is installed.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="How long it measures.")] = 3.0,
    json: Json = False,
) -> None:
    """How fast this device scores: front end, model, bank and the whole, of a clip and of a stream.

    One thread scores the bundle's golden clip again and again. The last line says how many times faster than real time
    it follows one stream; exit code 1 when it can't.

    Example: edge-asd bench --bundle fan.easd
    """
    from edge_asd import workers

    with workers.one_thread():
        from edge_asd import bundle as bundles
        from edge_asd import speed

    found = speed.measure(bundles.read(bundle), section, runtime.value if runtime else None, seconds)
    if json:
        json_lines.tell(found)
    else:
        for text in speed.lines(found):
            typer.echo(text)
    if not found.keeps_up:
        raise CheckFailed(f"{bundle}: this device {speed.verdict(found)}; try `edge-asd doctor --bundle {bundle}`.")


def doctor(
    device: Device = None,
    *,
    config: Annotated[Path | None, typer.Option(help="The device.toml that says which bundle and interpreter.")] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", "-b", help="The bundle, .easd, without a device.toml.")
    ] = None,
    json: Json = False,
) -> None:
    """What is wrong with this device, and what to do: interpreters, bundle, speed, microphone, clock, disk, power.

    Each interpreter is tried in a process of its own, with a bundle for a second; the microphone is listened to for
    some seconds, unless the daemon does, whose word counts then. Exit code 1 when something is a problem; a warning,
    for what works but could be better, leaves with 0.

    Example: edge-asd doctor --config device.toml

    Of another device: edge-asd doctor pi@shop-floor-7
    """
    if device:
        ask(device, "doctor", bundle or config, json=json)
    from edge_asd import doctor as diagnosis
    from edge_asd import finding as findings_of

    if config and bundle:
        raise UsageError("say either --config device.toml, which names the bundle, or --bundle FILE.")
    findings = diagnosis.examine(config, bundle)
    if json:
        json_lines.tell(findings)
    else:
        for finding in findings:
            for text in findings_of.lines(finding):
                typer.echo(plain(text))
    problems = [finding for finding in findings if finding.state == "problem"]
    if problems:
        raise CheckFailed(f"{len(problems)} of {len(findings)} findings are problems; the first: {problems[0].found}")


def _newest(folder: Path, count: int) -> list[Event]:
    from edge_asd.store import FILE_NAME, EventStore

    with EventStore(folder / FILE_NAME, read_only=True) as store:
        return store.newest(count)


def _event_lines(folder: Path, count: int) -> list[str]:
    from edge_asd.events import line

    return [line(event) for event in _newest(folder, count)] or ["no events"]


def _csv_writer(columns: Sequence[str]) -> Callable[[ClipVerdict], None]:
    import csv

    import msgspec

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)

    def write(verdict: ClipVerdict) -> None:
        writer.writerow(msgspec.structs.astuple(verdict))
        sys.stdout.flush()

    return write
