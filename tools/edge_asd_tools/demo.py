"""`edge-asd demo`: the whole path on a synthetic plant, by the commands that a user would type, each shown as it runs.

The rooms don't import each other, and neither does this: it starts `edge-asd` and reads what that leaves behind.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge_asd.errors import CheckFailed, UsageError
from edge_asd.progress import say

MACHINES = ("fan", "gearbox")
SECTION = "00"
STEP_SECONDS = 3600


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all that it makes; it must not exist yet, or be a demo's.")],
    preset: Annotated[str, typer.Option(help="Training preset.")] = "demo",
    machines: Annotated[str, typer.Option(help="Which of the plant's machine types to train, by commas.")] = ",".join(
        MACHINES
    ),
    setting: Annotated[list[str] | None, typer.Option("--set", help="One number of the preset; repeatable.")] = None,
    synth: Annotated[
        list[str] | None, typer.Option("--synth", help="An option of `data synth`, such as sections=2.")
    ] = None,
) -> None:
    """Show the whole path on a synthetic plant: make it, train, evaluate, deploy, listen to a fault begin.

    Example: edge-asd demo --out demo-plant
    """
    began, began_utc = time.monotonic(), datetime.now(UTC)
    chosen = machines.split(",")
    if unknown := sorted(set(chosen) - set(MACHINES)):
        raise UsageError(
            f"--machines: there is no {unknown[0]!r} in the synthetic plant; it has {', '.join(MACHINES)}."
        )
    plant = out / "plant"
    options = [option.split("=", 1) for option in synth or []]
    there_already = _has_plant(out, plant, chosen, options)
    say(
        "This is a demonstration on SYNTHETIC sound, hardly trained: no figure below says anything about a real "
        "machine, and the network will not yet beat the systems without one.\n"
    )
    if not there_already:
        words = [word for name, *value in options for word in (f"--{name}", *value)]
        _edge_asd("data", "synth", plant, "--machines", ",".join(chosen), *words)
    settings = [word for text in setting or [] for word in ("--set", text)]
    for machine in chosen:
        _edge_asd("train", plant, "--machine", machine, "--preset", preset, "--out", out / "runs" / machine, *settings)
    machine = chosen[0]
    run = out / "runs" / machine
    site, wav = out / "site", plant / "recordings" / f"{machine}_{SECTION}_fault.wav"
    _edge_asd("deploy", run / f"{machine}.easd", "--to", site, "--section", SECTION, "--wav", wav, "--pace", "fast")
    _edge_asd("run", "--config", site / "etc/edge-asd/device.toml")
    _show_outcome(machine, wav, site, began_utc, [out / "runs" / one for one in chosen])
    say("")
    say(f"The whole of it took {(time.monotonic() - began) / 60:.1f} minutes.")


def _has_plant(out: Path, plant: Path, machines: list[str], options: list[list[str]]) -> bool:
    """Whether this plant is in `out` already. Raises: UsageError where another one is, or something else."""
    import msgspec

    from edge_asd_tools.synth.plant import Plan
    from edge_asd_tools.synth.writing import NOTICE

    notice = plant / NOTICE
    if not out.exists():
        return False
    if not out.is_dir():
        raise UsageError(f"--out {out}: is not a folder; name a new one.")
    if not notice.is_file():
        if any(out.iterdir()):
            raise UsageError(f"--out {out}: holds something that no demonstration made; name a new folder.")
        return False
    asked = {name.replace("-", "_"): value for name, *values in options for value in values}
    try:
        plan = msgspec.convert({**asked, "machines": machines}, Plan, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"--synth: {error}.") from error
    if f"{plan.command}\n" not in notice.read_text():
        raise UsageError(
            f"--out {out}: its plant was made otherwise ({notice} says how); name a new folder, or ask for that plant."
        )
    return True


def _edge_asd(*words: object, shown: bool = True) -> str:
    """Run one command and show it, or give what it prints instead.

    Raises:
        CheckFailed: it failed, and has said why itself; or it took too long.
    """
    arguments = [str(word) for word in words]
    if shown:
        say("")
        say(f"$ edge-asd {' '.join(arguments)}")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge_asd", *arguments],
            stdout=None if shown else subprocess.PIPE,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(
            f"the demonstration stopped: `edge-asd {arguments[0]}` took more than {STEP_SECONDS / 60:g} minutes; "
            "is the machine busy with something else? Try again when it isn't, in a new folder."
        ) from error
    if done.returncode:
        raise CheckFailed(
            f"the demonstration stopped: `edge-asd {arguments[0]}` left with exit code {done.returncode}."
        )
    return done.stdout or ""


def _show_outcome(machine: str, wav: Path, site: Path, since: datetime, runs: Iterable[Path]) -> None:
    truth = json.loads(wav.with_suffix(".json").read_text())
    state = site / "var/lib/edge-asd"
    events = _edge_asd("events", "--state", state, "--json", shown=False)
    told = sorted((json.loads(event) for event in events.splitlines()), key=lambda event: event["raised_s"])
    alerts = [
        alert for alert in told if alert["kind"] == "anomaly" and datetime.fromisoformat(alert["raised_utc"]) >= since
    ]
    say("")
    say(f"In {wav.name} a {machine} starts to fail ({truth['fault']}) at {truth['fault_begins_s']:.1f} s.")
    hits = [alert for alert in alerts if alert["raised_s"] >= truth["fault_begins_s"]]
    for alert in alerts:
        delay = alert["raised_s"] - truth["fault_begins_s"]
        what = f"{delay:.1f} s after the fault began" if delay >= 0 else "before the fault: a FALSE alarm"
        say(
            f"ALERT at {alert['raised_s']:.1f} s, {what}; peak score {alert['peak']:.3f}, "
            f"threshold {alert['threshold']:.3f}, nearest normal clip {alert['nearest']}"
        )
    say("")
    for run in runs:
        say(f"bundle     {run / run.name}.easd")
        say(f"report     {run / 'report/index.html'}")
    say(f"event log  {state / 'events.sqlite'}   (edge-asd events --state {state})")
    if not hits:
        raise CheckFailed("the fault was not found: no alert was raised after it began.")
