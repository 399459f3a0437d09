"""The power goes at any change of the file system: what counted as done is there at the next start, which needs nobody.

Each scenario is watched once (see `disk`) and then laid out as a cut after its nth change would have left it, on every
kind of disk; there the same program starts again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import common
from edge_asd import commission_desk as desk
from edge_asd import release, settle
from edge_asd.release_tree import Tree
from edge_asd.sinks import courier as couriers
from faults import activating, disk, keeping, learning, training
from faults.disk import KINDS, Change, Disk, Watch
from faults.ledger import Ledger
from simulated_device import CONFIG, SimulatedDevice, differing, release_id, simulated, snapshot

until = partial(common.until, seconds=30)


@dataclass(frozen=True)
class Cut:
    """A cut of the power: after which change, what had been acknowledged by then, and what it left on which disk."""

    after: int
    kind: str
    acknowledged: tuple[str, ...]
    root: Path

    def __str__(self) -> str:
        return f"cut after change {self.after} on a disk of kind {self.kind}"


def cuts(before: Disk, changes: list[Change], wanted: Mapping[int, Sequence[str]], place: Path) -> Iterator[Cut]:
    """After so many changes each, on those kinds of disk."""
    for after in before.play(changes):
        for kind in wanted.get(after, ()):
            root = place / f"{after:05}-{kind}"
            before.lay(kind, root, seed=after)
            yield Cut(after, kind, tuple(before.acknowledged), root)
            shutil.rmtree(root)


def spread(changes: list[Change], sample: range) -> dict[int, Sequence[str]]:
    """As many as the sample has, evenly spread from the beginning to the end; each on every kind of disk."""
    count = min(len(sample), len(changes) + 1)
    return {round(number * len(changes) / (count - 1)): KINDS for number in range(count)}


def test_what_was_raised_is_there_after_a_power_cut(
    library: Path, tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events, the place of a sink and what it was told; the next start goes on numbering, telling and keeping."""
    monkeypatch.setattr(couriers, "IDLE_SECONDS", 0.02)
    (tmp_path / "root").mkdir()
    watch = Watch(library, tmp_path / "root", tmp_path / "beside")
    before = Disk(watch.root)
    done = watch.run("-m", keeping.__name__, watch.root)
    assert done.returncode == 0, done.stderr
    changes = disk.changes(watch.log)
    put = [change.first.decode().strip() for change in changes if change.kind == "a"]
    put = [line for line in put if not line.startswith("told")]
    assert len(put) == 2 * keeping.HOURS * keeping.EVENTS
    for cut in cuts(before, changes, spread(changes, ledger.times(25, 600)), tmp_path):
        with ledger.trial("power cut while scoring") as trial:
            said: list[str] = []
            new = keeping.identity(90_000)
            with keeping.hour(cut.root, said.append) as hour:
                hour.event(90_000, keeping.nobody)
                until(hour.all_told)
            kept = [line for line in cut.acknowledged if not line.startswith("told")]
            told = {int(line.split()[1]) for line in cut.acknowledged if line.startswith("told")}
            found = keeping.Found.under(cut.root)
            log = [f"{transition} {event}" for transition, event in found.messages]
            trial.count(kept, log)
            trial.left = keeping.left(cut.root)
            trial.wrong = keeping.wrong(cut.root, said)
            if log[:-2] not in (kept, put[: len(kept) + 1]) or log[-2:] != [f"raised {new}", f"cleared {new}"]:
                trial.wrong.append(f"the log is {log}")
            ids = list(dict.fromkeys(line.split()[1] for line in log))
            if found.events != ids[-keeping.KEEP :]:
                trial.wrong.append(f"the events are {found.events}")
            numbers = {message.sequence: f"{message.transition} {message.event.id}" for message in found.told}
            if missing := {number for number in told if number >= min(numbers)} - numbers.keys():
                trial.wrong.append(f"told, and gone again: {missing}")
            if any(log[number - 1] != text for number, text in numbers.items()):
                trial.wrong.append("a number means two messages")
            if trial.wrong or trial.left or trial.lost:
                trial.wrong.append(str(cut))


def test_what_was_learned_on_site_is_there_after_a_power_cut(library: Path, tmp_path: Path, ledger: Ledger) -> None:
    """What is in force is what it was or what it was to be, whole; what was asked for is done, and never twice."""
    (tmp_path / "root").mkdir()
    watch = Watch(library, tmp_path / "root", tmp_path / "beside")
    before = Disk(watch.root)
    done = watch.run("-m", learning.__name__, watch.root)
    assert done.returncode == 0, done.stderr
    changes = disk.changes(watch.log)
    said = [change.first.decode().strip() for change in changes if change.kind == "a"]
    thresholds = [line.split()[2] for line in said if line.startswith("in force")]
    assert len(set(thresholds)) == 5  # each its own, and none
    for cut in cuts(before, changes, spread(changes, ledger.times(12, 400)), tmp_path):
        with ledger.trial("power cut while commissioning") as trial:
            state = cut.root / "state"
            acts = [line for line in cut.acknowledged if line.startswith("in force")]
            asked = len(cut.acknowledged) > len(acts) and cut.acknowledged[-1].startswith("asked")
            was = acts[-1].split()[2] if acts else "none"
            coming = thresholds[len(acts)] if len(acts) < len(thresholds) else was
            if trouble := learning.wrong(state):
                trial.wrong.append(trouble)
            now = learning.in_force(state)
            trial.lost = int(now not in (was, coming))
            wish = learning.ACTS[min(len(acts), len(learning.ACTS) - 1)]
            answered = isinstance(wish, int) and desk.reported(state, learning.request(wish).id)
            learning.start_again(cut.root)
            after = learning.in_force(state)
            if asked and isinstance(wish, int) and not desk.reported(state, learning.request(wish).id):
                trial.wrong.append(f"{wish} was asked for, and forgotten")
            begun = isinstance(wish, int) and len(acts) < len(learning.ACTS) and not answered  # or about to be
            if after != now and (not begun or after in thresholds):
                trial.wrong.append(f"{now} was in force, and after the start {after}")
            trial.left = learning.left(cut.root)
            if trial.wrong or trial.left or trial.lost:
                trial.wrong.append(f"{cut}: {cut.acknowledged}")


@pytest.mark.parametrize("deployed", [0, 1, 3], ids=["first", "second", "fourth"])
def test_a_whole_release_is_current_after_a_power_cut(
    library: Path, tiny_bundle: Path, tmp_path: Path, ledger: Ledger, deployed: int
) -> None:
    """The old one or the new one, and the new one where that was said; the next deployment finishes."""
    environment, root = simulated(tmp_path / "venv"), tmp_path / "root"
    device, bundles = SimulatedDevice(root, environment), differing(tiny_bundle, tmp_path)
    root.mkdir()
    for path in bundles[:deployed]:
        device.deploy(path)
    watch = Watch(library, root, tmp_path / "beside")
    before = Disk(watch.root)
    done = watch.run("-m", activating.__name__, root, bundles[deployed], environment)
    assert done.returncode == 0, done.stderr
    allowed = {path.read_bytes() for path in bundles[max(0, deployed - 1) : deployed + 1]}
    new, undisturbed = release_id(bundles[deployed]), snapshot(root)
    changes = disk.changes(watch.log)
    for cut in cuts(before, changes, spread(changes, ledger.times(16, 1000)), tmp_path):
        with ledger.trial("power cut while activating") as trial:
            tree = Tree(cut.root)
            if cut.acknowledged:
                installed = release.status(cut.root)
                trial.lost = int(installed.current != new or not installed.committed)
            if deployed or tree.current.is_symlink():
                if (tree.current / "bundle.easd").read_bytes() not in allowed:
                    trial.wrong.append("another bundle is current")
                if not (tree.current / "venv" / "bin" / "python").exists():
                    trial.wrong.append("what is current can't run")
                if tree.config.read_text() != CONFIG or tree.config.stat().st_mode & 0o777 != 0o644:
                    trial.wrong.append("the settings are others, or nobody may read them")
                settle.settle(cut.root)  # as the unit does before it starts the daemon
                if not release.status(cut.root).committed:
                    trial.wrong.append("what listens isn't what is committed")
            SimulatedDevice(cut.root, environment).deploy(bundles[deployed])
            after = snapshot(cut.root)
            trial.left = sorted(after.keys() - undisturbed.keys())
            if after != undisturbed:
                trial.wrong.append("it isn't as it would have been")
            if trial.wrong or trial.left or trial.lost:
                trial.wrong.append(str(cut))


@pytest.mark.slow
def test_a_training_goes_on_after_a_power_cut(library: Path, plant: Path, tmp_path: Path, ledger: Ledger) -> None:
    """From the checkpoint and the stage that were kept; it ends with the same bytes, and nothing lies about."""
    root, whole = tmp_path / "root", tmp_path / "root" / "fan"
    root.mkdir()
    watch = Watch(library, root, tmp_path / "beside")
    before = Disk(watch.root)
    done = watch.run("-m", training.__name__, plant, whole, timeout=600)
    assert done.returncode == 0, done.stderr
    changes = disk.changes(watch.log)
    assert written_in_place(changes, watch.root / "fan") == {"logs"}
    count = len(ledger.times(1, 40))
    places = [round((number + 1) * len(changes) / (count + 1)) for number in range(count)]  # not where nothing is done
    wanted = {after: [KINDS[number % len(KINDS)]] for number, after in enumerate(places)}
    for cut in cuts(before, changes, wanted, tmp_path):
        with ledger.trial("power cut while training") as trial:
            run = cut.root / "fan"
            command = [sys.executable, "-m", "edge_asd", *training.command(plant, run)]
            again = subprocess.run(command, capture_output=True, text=True, timeout=600)
            if again.returncode:
                trial.wrong.append(again.stderr[-500:])
            else:
                trial.wrong += [name for name in training.RESULTS if not training.same(run / name, whole / name)]
                trial.left = training.left(run, whole)
            kept = [line for line in cut.acknowledged if line.endswith("inputs")]
            kept += [line for line in cut.acknowledged[-1:] if not line.endswith("inputs")]
            trial.count(kept, [line for line in kept if line in again.stderr])
            if trial.wrong or trial.left or trial.lost:
                trial.wrong.append(f"{cut}: {again.stderr[-500:]}")


def written_in_place(changes: Sequence[Change], run: Path) -> set[str]:
    """What of a run is written to under the name that it has for good, and so may be found half written."""
    names: dict[int, Path] = {}
    found = set()
    for change in changes:
        if change.kind in "cr":
            names[change.inode] = Path(os.fsdecode(change.second or change.first))
        elif change.kind in "wt" and not names[change.inode].name.startswith("."):
            found.add(names[change.inode].relative_to(run).parts[0])
    return found
