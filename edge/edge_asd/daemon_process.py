"""The process of `edge-asd run`. It listens for months, so it doesn't hold what read its command line.

`become` puts it in the place of the process that did, under the same number, so that whoever started that, such as
systemd, sees one process. What typer brings along would take 14 MB of a small board's memory for ever.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from edge_asd import logs
from edge_asd.ending import guarded

JSON, VERBOSE, SHADOW = "--json", "--verbose", "--shadow="


def become(config: Path, *, json: bool, verbose: bool, shadow: Path | None = None) -> NoReturn:
    """Go on as the daemon of this configuration, and of a shadow beside it."""
    flags = [flag for flag, wanted in ((JSON, json), (VERBOSE, verbose)) if wanted]
    if shadow:
        flags.append(f"{SHADOW}{shadow}")
    isolated = ["-I"] if sys.flags.isolated else []
    sys.stdout.flush()
    sys.stderr.flush()
    from edge_asd.workers import one_thread  # the daemon itself has no workers, and needn't hold what they need

    with one_thread():  # a second one of OpenBLAS's, which has nothing to do, spins: 40 % of a core in place of one
        os.execv(sys.executable, [sys.executable, *isolated, "-m", __name__, str(config), *flags])  # noqa: S606


def main(config: str, *flags: str) -> None:
    """Listen, as `daemon.run`; what a program is to read goes to standard output."""
    logs.start(verbose=VERBOSE in flags)
    from edge_asd import config as settings
    from edge_asd import daemon, json_lines, progress
    from edge_asd.duty import Ears
    from edge_asd.events import Event
    from edge_asd.listener import Recorded
    from edge_asd.owner import act_as_owner
    from edge_asd.scoring import Score

    tell: Callable[[object], None] = json_lines.tell if JSON in flags else lambda _: None

    def tell_score(score: Score) -> None:
        tell({"kind": "score", "seconds": score.seconds, "score": score.value, "nearest": score.nearest})

    def tell_change(kind: str, event: Event) -> None:
        tell({"kind": kind, "event": event})

    def tell_recorded(clip: Recorded) -> None:
        score = clip.score
        tell({"kind": "clip", "file": clip.name, "score": score and score.value, "nearest": score and score.nearest})

    device = settings.load(Path(config))
    act_as_owner(device.state)
    summary = daemon.run(
        device,
        ears=Ears(tell_score, tell_change, tell_recorded),
        reread=lambda: settings.load(Path(config)),
        shadow=next((Path(flag.removeprefix(SHADOW)) for flag in flags if flag.startswith(SHADOW)), None),
    )
    end = "stopped" if summary.stopped else "end of the recording"
    progress.say(
        f"{end}: {summary.heard_seconds:.1f} s heard, {summary.scores} scores, {summary.alerts} alerts"
        + (f", {summary.lost_samples} samples lost" if summary.lost_samples else "")
    )


if __name__ == "__main__":
    guarded(lambda: main(*sys.argv[1:]))
