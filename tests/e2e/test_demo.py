"""`edge-asd demo`, smaller than `make demo` but in earnest: it trains long enough to find the fault."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from edge_asd import bundle as bundles

SMALLER = ("sections=2", "train-clips=24", "target-clips=4", "test-clips=8", "recording-seconds=60", "fault-at=30")


@pytest.mark.slow
def test_the_fault_is_found_after_it_began(tmp_path: Path, edge_asd: list[str]) -> None:
    out = tmp_path / "demo"
    options = [word for option in SMALLER for word in ("--synth", option)]
    command = [*edge_asd, "demo", "--out", str(out), "--machines", "fan", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    said = " ".join(done.stderr.split())
    assert "SYNTHETIC" in said
    for command_shown in ("data synth", "train", "deploy", "run"):
        assert f"$ edge-asd {command_shown} " in said
    [alert, *_] = re.findall(r"ALERT at ([\d.]+) s, ([\d.]+) s after the fault began", said)
    assert 30 <= float(alert[0]) <= 60
    assert float(alert[1]) == pytest.approx(float(alert[0]) - 30, abs=0.11)

    assert "System 1, int8 (the bundle)" in done.stdout
    assert "log-mel statistics, Mahalanobis" in done.stdout
    assert bundles.read(out / "runs" / "fan" / "fan.easd").manifest.quantisation.cosine > 0.99
    assert (out / "runs" / "fan" / "report" / "index.html").is_file()
    assert (out / "site" / "var/lib/edge-asd" / "events.sqlite").is_file()
    assert (out / "site" / "opt/edge-asd/current/bundle.easd").is_file()
