"""kill -9 at a random moment, and a new start, as systemd makes it: what was acknowledged is there, once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from common import MOMENT
from edge_asd import bundle, commission_desk, site
from faults.ledger import Ledger
from faults.running import Hook, Post, running

STARTING = 0.3  # the share of kills before the first score
TOLD = ("told.jsonl", "told.jsonl.1", "told.jsonl.old")


@pytest.mark.slow
def test_a_clean_start(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    post = Post(tmp_path, tiny_bundle)
    for _ in ledger.times(2, 20):
        with ledger.trial("clean start") as trial, running(post.config) as daemon:
            trial.again = daemon.first_score()
            daemon.end()
            trial.left = post.left()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_while_scoring(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    """A webhook and a file are told of what happens; what they took counts as acknowledged, as does what is kept."""
    chance = random.Random(8)
    with Hook() as hook:
        sinks = f'[sinks.webhook]\nurl = "{hook.url}"\n[sinks.json_lines]\npath = "state/told.jsonl"\n'
        post = Post(tmp_path, tiny_bundle, sinks, asked="episodes")
        killed: float | None = None
        for number in ledger.times(6, 200):
            with ledger.trial("killed while scoring") as trial, running(post.config) as daemon:
                if number and chance.random() < STARTING:
                    time.sleep(chance.uniform(0.05, 1.5))
                else:
                    trial.again = daemon.first_score()
                    time.sleep(chance.uniform(0.0, 4.0))
                acknowledged = [message["sequence"] for message in list(hook.taken)]
                before = post.changes()
                daemon.kill()
                trial.count(before, post.changes())
                trial.lost += len(set(acknowledged) - set(range(1, len(post.changes()) + 1)))
                trial.wrong += twice(post)
                killed = time.monotonic()
        assert killed
        with running(post.config) as daemon:
            daemon.hear_more(2)
            post.microphone.ask("quiet")
            daemon.wait_for(lambda: post.waiting("webhook", "json_lines") == 0)
            daemon.end()
        assert hook.events == post.kept()[: len(hook.events)]
    lines = [json.loads(line)["sequence"] for line in (post.state / "told.jsonl").read_text().splitlines()]
    assert sorted(set(lines)) == list(range(1, lines[-1] + 1))  # without a hole; what it was told before a kill may
    assert len(lines) - len(set(lines)) <= len(ledger.times(6, 200))  # come once more
    assert not post.left(*TOLD)


def twice(post: Post) -> list[str]:
    """Events that were raised again."""
    raised = [identity for kind, identity in map(str.split, post.changes()) if kind == "raised"]
    return [f"{identity} was raised twice" for identity in raised if raised.count(identity) > 1]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_while_commissioning(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    """Eight minutes of sound pass in seconds. What was learned before is in force until all of the new one is there."""
    chance = random.Random(9)
    alarm = '[alarm]\nthreshold = "site"\n'
    post = Post(tmp_path, tiny_bundle, alarm, speed=60, patient=True)
    learned: list[str] = []
    for _ in ledger.times(3, 60):
        with ledger.trial("killed while commissioning") as trial:
            ask(post)
            with running(post.config) as daemon:
                daemon.first_score()
                time.sleep(chance.uniform(0.0, 10.0))
                before = post.changes()
                daemon.kill()
            known = in_force(post)
            if learned and not known:
                trial.wrong.append(f"{learned} was learned, and now there is nothing")
            with running(post.config) as daemon:
                trial.again = daemon.first_score()
                daemon.wait_for(lambda: not (post.state / "commission.json").exists(), 240)  # it is taken up again
                daemon.end()
            learned = in_force(post)
            if not learned:
                trial.wrong.append("nothing was learned")
            trial.count(before, post.changes())
            trial.left = post.left("site", "commissioned.json") + strays(post)


def ask(post: Post) -> None:
    """What `edge-asd commission --minutes 8` leaves for the daemon."""
    commission_desk.ask(post.state, commission_desk.Request(uuid.uuid4().hex, 8.0, 1e6))


def in_force(post: Post) -> list[str]:
    """What was learned and is in force, read as the daemon reads it."""
    found = site.read(post.state)
    return [found.made_utc] if found else []


def strays(post: Post) -> list[str]:
    """Files of the site that no record of it names."""
    folder = post.state / "site"
    names = {path.name for path in folder.iterdir()}
    records = [json.loads((folder / name).read_text()) for name in ("site.json", "site.previous.json") if name in names]
    needed = {f"{record[key][:16]}.{key}.npy" for record in records for key in ("log_mels", "heard")}
    return sorted(names - needed - {"site.json", "site.previous.json"})


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_while_activating(tmp_path: Path, tiny_bundle: Path, ledger: Ledger) -> None:
    """Two bundles take turns; after a kill the old one or the new one is whole and current, and the command works."""
    chance = random.Random(10)
    bundles = [tmp_path / f"{number}.easd" for number in range(2)]
    for path in bundles:
        bundle.write(path, replace(bundle.read(tiny_bundle), model_card=f"# {path.stem}\n"))
    root, config = tmp_path / "device", tmp_path / "first.toml"
    config.write_text(
        'bundle = "../../opt/edge-asd/current/bundle.easd"\nsection = "00"\nstate = "../../var/lib/edge-asd"\n'
        '[capture]\ncommand = ["a-recorder-that-is-nowhere"]\n'
    )

    def activate(path: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edge_asd", "release", "activate", "--bundle", str(path), "--root", str(root)]
        command += ["--first-config", str(config)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def current() -> bytes:
        return (root / "opt" / "edge-asd" / "current" / "bundle.easd").read_bytes()

    began = time.monotonic()
    first = activate(bundles[0])
    _, said = first.communicate(timeout=120)
    assert first.returncode == 0, said
    seconds = time.monotonic() - began
    for number in ledger.times(4, 100):
        with ledger.trial("killed while activating") as trial:
            old, new = bundles[number % 2], bundles[(number + 1) % 2]
            process = activate(new)
            time.sleep(chance.uniform(0.2, 1.1) * seconds)
            process.kill()
            process.communicate()
            if current() not in (old.read_bytes(), new.read_bytes()):
                trial.wrong.append("neither the old release nor the new one is current")
            began = time.monotonic()
            process = activate(new)
            _, said = process.communicate(timeout=120)
            trial.again = time.monotonic() - began
            if process.returncode or current() != new.read_bytes():
                trial.wrong.append(f"the next one ended with {process.returncode}: {said}")
            found = {path.name for path in (root / "opt" / "edge-asd").iterdir()}
            trial.left = sorted(found - {"current", "previous", "releases", "committed.json", "lock"})
            trial.left += sorted(path.name for path in (root / "opt" / "edge-asd" / "releases").glob(".*"))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_while_training(plant: Path, run_folder: Path, tmp_path: Path, ledger: Ledger) -> None:
    """Killed at random moments it goes on where it stood, and ends with the bundle of one that nobody killed."""
    chance = random.Random(11)
    wanted = (run_folder / "fan.easd").read_bytes()
    kills = ledger.times(2, 40)
    for first in kills[::4]:
        run, few = tmp_path / f"fan-{first}", kills[first : first + 4]
        command = [sys.executable, "-m", "edge_asd", "train", str(plant), "--machine", "fan", "--preset", "demo"]
        command += ["--out", str(run), *(word for setting in MOMENT for word in ("--set", setting))]
        wrong = []
        for _ in few:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(1.0, 25.0))
            process.kill()
            _, said = process.communicate()
            if process.returncode not in (0, -9):
                wrong.append(said[-500:])
        done = subprocess.run(command, capture_output=True, text=True, timeout=400)
        if done.returncode or (run / "fan.easd").read_bytes() != wanted:
            wrong.append(f"another end than without a kill: {done.stderr[-500:]}")
        for _ in few:
            with ledger.trial("killed while training") as trial:
                trial.wrong = wrong
                trial.left = [str(path.relative_to(run)) for path in run.rglob(".*")]
