"""Clips scored by several processes: the same bytes as by one, the same refusals, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from common import interrupted
from edge_asd import bundle as bundles
from edge_asd import clips
from edge_asd.clips import CLIPS_A_PROCESS, ClipVerdict, judge_all
from edge_asd.errors import BundleError, StorageError

RATE = 16000
CLIPS = 3 * CLIPS_A_PROCESS


def clip(path: Path, *, seed: int, channels: int = 1) -> Path:
    shape = (10 * RATE, channels)
    soundfile.write(path, 0.05 * np.random.default_rng(seed).standard_normal(shape), RATE)
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Just enough clips for three processes, of a few sounds, two of which need a word in the log."""
    folder = tmp_path_factory.mktemp("clips")
    names = ("section_00_000.wav", "section_01_001.wav", "section_00_002.wav", "section_01_003.wav")
    sounds = [clip(folder / name, seed=seed, channels=1 + seed % 2) for seed, name in enumerate(names)]
    for number in range(len(sounds), CLIPS):
        os.link(sounds[number % len(sounds)], folder / f"section_{number % 2:02d}_{number:03d}.wav")
    return folder


@pytest.fixture(scope="session")
def many(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many clips that they can't all be scored before somebody ends it."""
    many = tmp_path_factory.mktemp("many")
    for number in range(6):
        for path in folder.iterdir():
            os.link(path, many / f"{path.stem}_{number}.wav")
    return many


def command(folder: Path, bundle: Path, jobs: int, *options: str) -> list[str]:
    words = [sys.executable, "-m", "edge_asd", "score", str(folder), "--bundle", str(bundle), "--jobs", str(jobs)]
    return [*words, *options]


def score(folder: Path, bundle: Path, jobs: int, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(folder, bundle, jobs, *options), capture_output=True, timeout=120)


@pytest.mark.parametrize("options", [[], ["--json", "--check", "--threshold", "1e-9"]], ids=" ".join)
def test_the_same_bytes_and_lines_with_any_number_of_jobs(
    folder: Path, tiny_bundle: Path, options: Sequence[str]
) -> None:
    alone, shared = (score(folder, tiny_bundle, jobs, *options) for jobs in (1, 3))
    assert alone.stdout == shared.stdout
    assert alone.stdout.count(b"section_00_") >= CLIPS // 2
    assert alone.stderr == shared.stderr
    assert alone.stderr.count(b"2 channels mixed down to one") == CLIPS // 2
    assert alone.returncode == shared.returncode == (1 if options else 0)


def test_refusals_are_said_alike_and_the_others_scored(tmp_path: Path, folder: Path, tiny_bundle: Path) -> None:
    for path in folder.iterdir():
        os.link(path, tmp_path / path.name)
    (tmp_path / "section_00_000b.wav").write_bytes(b"no sound")  # the first, one amid the others and the last
    (tmp_path / "section_00_030b.wav").write_bytes(b"")
    (tmp_path / "section_77_000.wav").hardlink_to(folder / "section_00_000.wav")
    alone, shared = (score(tmp_path, tiny_bundle, jobs) for jobs in (1, 2))
    assert (alone.stdout, alone.stderr) == (shared.stdout, shared.stderr)
    assert alone.returncode == shared.returncode == 4
    assert len(shared.stdout.splitlines()) == 1 + CLIPS
    refusals = [line for line in shared.stderr.decode().splitlines() if line.startswith("edge-asd: ")]
    names = ("section_00_000b.wav", "section_00_030b.wav", "section_77_000.wav")
    assert [next(name for name in names if name in line) for line in refusals] == list(names)


def test_a_handful_stays_in_this_process(folder: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a process was asked for")

    monkeypatch.setattr(clips, "each", refuse)
    found = clips.found([folder])[: 2 * CLIPS_A_PROCESS - 1]
    verdicts: list[ClipVerdict] = []
    judge_all(bundles.read(tiny_bundle), "decision", found, "", verdicts.append, jobs=8)
    assert [verdict.file for verdict in verdicts] == [str(path) for path in found]


def test_a_process_has_a_share_that_is_worth_its_start(
    folder: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def refuse(_: object, __: object, processes: int, **___: object) -> None:
        begun.append(processes)
        raise InterruptedError

    monkeypatch.setattr(clips, "each", refuse)
    for jobs in (2, 3, 64):
        with pytest.raises(InterruptedError):
            judge_all(bundles.read(tiny_bundle), "decision", clips.found([folder]), "", lambda _: None, jobs=jobs)
    assert begun == [1, 2, 2]  # beside this one


def test_both_this_process_and_others_score(folder: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = []
    judge = clips.ClipJudge.judge

    def counted(self: clips.ClipJudge, path: Path, section: str = "") -> ClipVerdict:
        here.append(path)
        return judge(self, path, section)

    monkeypatch.setattr(clips.ClipJudge, "judge", counted)
    verdicts: list[ClipVerdict] = []
    judge_all(bundles.read(tiny_bundle), "decision", clips.found([folder]), "", verdicts.append, jobs=2)
    assert len(verdicts) == CLIPS
    assert 0 < len(here) < CLIPS


def test_a_worker_that_is_killed_is_a_clear_error(folder: Path, tiny_bundle: Path) -> None:
    def kill_workers(_: ClipVerdict) -> None:
        for child in psutil.Process().children():
            with suppress(psutil.Error):  # it was killed after the verdict before
                if any("spawn_main" in word for word in child.cmdline()):
                    child.kill()

    with pytest.raises(StorageError, match="a worker process was ended from outside"):
        judge_all(bundles.read(tiny_bundle), "decision", clips.found([folder]) * 2, "", kill_workers, jobs=2)


def test_a_bundle_that_is_replaced_meanwhile_is_refused(tmp_path: Path, folder: Path, tiny_bundle: Path) -> None:
    path = tmp_path / "fan.easd"
    path.write_bytes(tiny_bundle.read_bytes())
    bundle = bundles.read(path)
    bundles.write(path, replace(bundle, model_card="another"))
    with pytest.raises(BundleError, match="was replaced while clips were scored"):
        judge_all(bundle, "decision", clips.found([folder]), "", lambda _: None, jobs=2)


def test_ctrl_c_leaves_no_worker(tmp_path: Path, many: Path, tiny_bundle: Path) -> None:
    out = tmp_path / "scores.csv"
    program = "import sys; from edge_asd import cli; sys.stdout = open(sys.argv.pop(1), 'w'); cli.main()"
    words = [sys.executable, "-c", program, str(out), *command(many, tiny_bundle, 2)[3:]]
    done = interrupted(words, lambda: out.exists() and out.read_bytes().count(b"\n") > 1)
    assert done.returncode != 0
    assert out.read_bytes().count(b"\n") < len(clips.found([many])), "it wasn't interrupted"
    assert is_empty_soon(done.args), "a worker was left behind"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nobody_works_on_for_a_process_that_was_killed(many: Path, tiny_bundle: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        command(many, tiny_bundle, 2), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert process.stdout.readline(), "it never began"  # the first verdict, from the other process
        process.send_signal(number)
    assert process.returncode == -number
    assert is_empty_soon(process.pid), "a worker was left behind"


def is_empty_soon(group: int) -> bool:
    """No living process of this group is left, after some seconds at most."""
    for _ in range(500):
        if not any(group_of(process) == group for process in psutil.process_iter()):
            return True
        time.sleep(0.02)
    return False


def group_of(process: psutil.Process) -> int | None:
    """Of a dead one, that nobody has waited for or that just ended, there is none."""
    with suppress(psutil.Error, ProcessLookupError):
        if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return os.getpgid(process.pid)
    return None
