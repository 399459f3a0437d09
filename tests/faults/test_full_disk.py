"""The disk is full from the nth write on, for every n: nothing is lost, the old state stays whole, and it is said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import filling, training
from faults.disk import Watch
from faults.filling import Outcome
from faults.ledger import Ledger
from simulated_device import SimulatedDevice, differing, simulated

ENOUGH = 0.8  # of the operations that need space when there is some; with so many there may be enough


def outcomes(library: Path, place: Path, scenario: str, sample: range, *words: object) -> Iterator[Outcome]:
    """The one without a fault first."""
    (place / "root").mkdir()
    watch = Watch(library, place / "root", place / "beside")
    command = [sys.executable, "-m", filling.__name__, scenario, watch.root, len(sample), *words]
    environment = watch.environment(log=False)
    needed = 0
    with subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        for line in program.stdout:
            outcome = Outcome(**json.loads(line))
            needed = needed or outcome.asked
            if outcome.allowed is not None and not outcome.refused and outcome.allowed > ENOUGH * needed:
                continue  # threads write a little more or less from one time to the next: it had space for all
            yield outcome
    assert program.returncode == 0


def test_what_is_raised_on_a_full_disk_is_kept_once_there_is_space(
    library: Path, tmp_path: Path, ledger: Ledger
) -> None:
    """In order, each told under one number; and whoever looks meanwhile sees what there was."""
    for outcome in outcomes(library, tmp_path, "keeping", ledger.times(30, 10_000)):
        with ledger.trial("disk full while scoring") as trial:
            trial.count(outcome.before, list(map(str, outcome.after)))
            trial.left, trial.wrong = outcome.left, outcome.wrong
            if outcome.allowed is not None and not outcome.refused:
                trial.wrong.append("the disk never was full")
            if trial.wrong:
                trial.wrong.append(f"{outcome.allowed} operations got space: {outcome.said}")


def test_what_was_learned_stays_in_force_on_a_full_disk(library: Path, tmp_path: Path, ledger: Ledger) -> None:
    """Who asks for something and can't be served is told so; the daemon tries again by itself."""
    for outcome in outcomes(library, tmp_path, "learning", ledger.times(15, 10_000)):
        with ledger.trial("disk full while commissioning") as trial:
            trial.left, trial.wrong = outcome.left, outcome.wrong
            if outcome.allowed is None:
                assert outcome.codes == [0, 0]
            elif not outcome.refused:
                trial.wrong.append("the disk never was full")
            if trial.wrong:
                trial.wrong.append(f"{outcome.allowed} operations got space: {outcome.codes} {outcome.said}")


@pytest.mark.parametrize("deployed", [0, 1, 3], ids=["first", "second", "fourth"])
def test_a_release_is_refused_by_a_full_disk_and_the_old_one_runs(
    library: Path, tiny_bundle: Path, tmp_path: Path, ledger: Ledger, deployed: int
) -> None:
    """With no space for ever: what ran before is current, whole and committed; once there is space it is deployed."""
    environment, template = simulated(tmp_path / "venv"), tmp_path / "template"
    device, bundles = SimulatedDevice(template, environment), differing(tiny_bundle, tmp_path)
    template.mkdir()
    for path in bundles[:deployed]:
        device.deploy(path)
    old = bundles[deployed - 1] if deployed else ""
    whole: Outcome | None = None
    words = template, old, bundles[deployed], environment
    for outcome in outcomes(library, tmp_path, "activating", ledger.times(20, 10_000), *words):
        whole = whole or outcome
        with ledger.trial("disk full while activating") as trial:
            trial.wrong = outcome.wrong
            if outcome.allowed is not None and not outcome.refused:
                trial.wrong.append("the disk never was full")
            trial.left = sorted(str(name) for name in dict(outcome.after).keys() - dict(whole.after).keys())  # type: ignore[call-overload]
            if outcome.after != whole.after:
                trial.wrong.append("it isn't as it would have been")
            if trial.wrong:
                trial.wrong.append(f"{outcome.allowed} operations got space: {outcome.codes} {outcome.said}")


@pytest.mark.slow
def test_a_training_on_a_full_disk_says_so_and_goes_on_when_there_is_space(
    library: Path, plant: Path, run_folder: Path, tmp_path: Path, ledger: Ledger
) -> None:
    """It ends with what to do, and the same command ends later with the bytes of one that had space."""
    (tmp_path / "root").mkdir()
    watch = Watch(library, tmp_path / "root", tmp_path / "beside")
    tries = ledger.times(1, 45)
    for number in tries:
        run, allowed = watch.root / f"{number}" / "fan", 2 + number * (180 // len(tries))
        run.parent.mkdir()
        with ledger.trial("disk full while training") as trial:
            watch.fill(allowed, halved=number % 2 == 1)
            done = watch.run("-m", "edge_asd", *training.command(plant, run), log=False, timeout=600)
            said, full = done.stderr.splitlines()[-1:], watch.refused
            if full and (done.returncode, "No space left on device" in "".join(said)) != (7, True):
                trial.wrong.append(f"it ended with {done.returncode}: {said}")
            watch.fill(None)
            again = watch.run("-m", "edge_asd", *training.command(plant, run), log=False, timeout=600)
            if again.returncode:
                trial.wrong.append(again.stderr[-500:])
            else:
                trial.wrong += [name for name in training.RESULTS if not training.same(run / name, run_folder / name)]
                trial.left = [str(path.relative_to(run)) for path in run.rglob(".*")]
            if trial.wrong:
                trial.wrong.append(f"{allowed} operations got space")
        shutil.rmtree(run.parent)
        if not full:
            break
    else:
        assert len(tries) < 45, "the last one had space for all"
