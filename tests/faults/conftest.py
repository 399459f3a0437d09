"""Where the trials of this folder are noted: for the whole suite in .faults, whose sums go into docs/reliability.md."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common import ROOT
from faults import preloaded
from faults.ledger import Ledger, full


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    folder = ROOT / ".faults" if full() else tmp_path_factory.mktemp("faults")
    folder.mkdir(exist_ok=True)
    return Ledger(folder / f"{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}.jsonl", full=full())


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Watches what a program does to its disk, see `disk`."""
    return preloaded.library("disk", tmp_path_factory.mktemp("library"))
