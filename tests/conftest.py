"""What all tests share: a tiny plant, a run trained on it for a moment, its bundle; and where real clips may be."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import MOMENT


def pytest_configure() -> None:
    """What the tests' processes, and the programs that they start, shall inherit.

    What is ignored would be: begun by nohup or in the background, they'd be deaf to a test's signals.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:  # side by side, a thread each: more would only fight for the cores
        os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["SOURCE_DATE_EPOCH"] = "1700000000"  # what is trained twice is the same bundle twice
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def own_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Deployments keep a log in the user's folder of states; those of tests have one of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def real_clips() -> list[Path]:
    """28 real DCASE 2023 clips, one of the challenge's machine types each; not part of the project."""
    folder = os.environ.get("EDGE_ASD_CLIPS")
    if not folder:
        pytest.skip("no real clips: EDGE_ASD_CLIPS doesn't say where they are")
    clips = sorted((Path(folder) / "dcase2023").glob("*.flac"))
    assert clips, f"EDGE_ASD_CLIPS: there is no dcase2023/*.flac in {folder}"
    return clips


@pytest.fixture(scope="session")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic plant: one machine type, two sections, 8 training and 4 test clips each."""
    from edge_asd_tools.synth.commands import synth

    out = tmp_path_factory.mktemp("plant") / "plant"
    synth(
        out,
        machines="fan",
        sections=2,
        train_clips=6,
        target_clips=2,
        test_clips=4,
        recording_seconds=30,
        fault_at=15,
        jobs=1,
    )
    return out


@pytest.fixture(scope="session")
def run_folder(plant: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `edge-asd train` on the plant, every stage done but hardly trained."""
    from edge_asd_trainer.config import load
    from edge_asd_trainer.pipeline import train
    from edge_asd_trainer.run_folder import RunFolder

    folder = RunFolder(tmp_path_factory.mktemp("runs") / "fan")
    train(plant, "fan", folder, load("demo", options=MOMENT), "demo")
    return folder.path


@pytest.fixture(scope="session")
def tiny_bundle(run_folder: Path) -> Path:
    """A real bundle of machine type fan with the sections 00 and 01, hardly trained."""
    return run_folder / "fan.easd"


@pytest.fixture(scope="session")
def edge_asd() -> list[str]:
    """The command line, as the words that start it."""
    return [sys.executable, "-m", "edge_asd"]
