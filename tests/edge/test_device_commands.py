"""The device's commands as a user calls them: what they print where, and how they leave."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from msgspec.structs import replace

from edge_asd import bundle as bundles
from edge_asd import cli, commands, status
from edge_asd.audio import read_clip
from edge_asd.clips import ClipVerdict
from edge_asd.manifest import Manifest
from edge_asd.scoring import ClipScorer
from edge_asd.store import EventStore
from made_up_events import STATUS, STRANGE

RATE = 16000


def edge_asd(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_asd", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def clip(path: Path, seconds: float = 10.0, *, seed: int = 0) -> Path:
    samples = 0.05 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)
    return path


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_score_as_csv(tmp_path: Path, tiny_bundle: Path) -> None:
    first = clip(tmp_path / "section_00_source_test_normal_0000.wav")
    second = clip(tmp_path / "section_01_source_test_normal_0000.wav", seed=1)
    done = edge_asd("score", first, second, "--bundle", tiny_bundle, "--threshold", "1e-9")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "file,section,score,threshold,verdict,nearest"
    found = rows(done.stdout)
    assert [(row["file"], row["section"], row["verdict"]) for row in found] == [
        (str(first), "00", "anomalous"),
        (str(second), "01", "anomalous"),
    ]
    bundle = bundles.read(tiny_bundle)
    expected = ClipScorer(bundle.detector()).score(read_clip(second), "01")
    assert float(found[1]["score"]) == expected.value
    assert found[1]["nearest"] == expected.nearest
    assert found[1]["nearest"] in bundle.embedding_banks["01"].clips


def test_score_a_folder_as_json(tmp_path: Path, tiny_bundle: Path) -> None:
    clip(tmp_path / "test" / "section_01_b.wav")
    clip(tmp_path / "test" / "deeper" / "section_00_a.WAV", seed=1)
    (tmp_path / "test" / "notes.txt").write_text("no clip")
    done = edge_asd("score", tmp_path / "test", "-b", tiny_bundle, "--json", "--threshold", 1000)
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["file"]).name for row in found] == ["section_00_a.WAV", "section_01_b.wav"]
    assert {(row["threshold"], row["verdict"]) for row in found} == {(1000.0, "normal")}


def test_verdicts_reach_the_file_while_a_terminal_shows_progress(tmp_path: Path, tiny_bundle: Path) -> None:
    clips = [clip(tmp_path / f"section_00_{number}.wav", seed=number) for number in range(3)]
    terminal, inner = pty.openpty()
    command = [sys.executable, "-m", "edge_asd", "score", *map(str, clips), "-b", str(tiny_bundle), "--json"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=inner, timeout=120, check=True)
        shown = os.read(terminal, 65536)
    finally:
        os.close(inner)
        os.close(terminal)
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == [str(path) for path in clips]
    assert b"Scoring" in shown


def test_score_with_the_bundles_thresholds_and_a_section_of_ones_own(tmp_path: Path, tiny_bundle: Path) -> None:
    path = clip(tmp_path / "section_00_a.wav")
    thresholds = bundles.read(tiny_bundle).manifest.sections["01"].thresholds
    for name, expected in (("decision", thresholds.decision), ("alarm", thresholds.alarm)):
        done = edge_asd("score", path, "-b", tiny_bundle, "--section", "01", "--threshold", name)
        [row] = rows(done.stdout)
        assert (row["section"], float(row["threshold"])) == ("01", expected)


def test_check_is_exit_code_1(tmp_path: Path, tiny_bundle: Path) -> None:
    path = clip(tmp_path / "section_00_a.wav")
    done = edge_asd("score", path, "-b", tiny_bundle, "--check", "--threshold", "1e-9")
    assert (done.returncode, done.stderr) == (1, "edge-asd: 1 of 1 clips are anomalous.\n")
    assert len(rows(done.stdout)) == 1
    assert edge_asd("score", path, "-b", tiny_bundle, "--check", "--threshold", "1000").returncode == 0


def test_check_with_a_clip_that_cannot_be_used(tmp_path: Path, tiny_bundle: Path) -> None:
    clip(tmp_path / "section_00_a.wav")
    not_a_wav(tmp_path / "section_00_b.wav")
    done = edge_asd("score", tmp_path, "-b", tiny_bundle, "--check", "--threshold", "1e-9")
    assert done.returncode == 4
    tally, refusal = done.stderr.splitlines()
    assert tally == "edge-asd: 1 of 1 clips are anomalous."
    assert "section_00_b.wav" in refusal


def test_a_verdict_reaches_the_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.csv"
    with path.open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        write = commands._csv_writer(ClipVerdict.__struct_fields__)
        write(ClipVerdict(file="a", section="00", score=1.0, threshold=2.0, verdict="normal", nearest="b"))
        assert path.read_text().endswith("a,00,1.0,2.0,normal,b\n")


def test_a_fault_of_the_program_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fault() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "build", lambda: fault)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_log_lines_in_a_file_are_not_broken(tmp_path: Path, tiny_bundle: Path) -> None:
    path = tmp_path / f"section_00_{'a' * 100}.wav"
    soundfile.write(path, np.random.default_rng(0).standard_normal((160000, 2)) / 20, RATE)
    done = edge_asd("score", path, "-b", tiny_bundle)
    assert done.stderr == f"{path}: 2 channels mixed down to one\n"


def not_a_wav(path: Path) -> None:
    path.write_bytes(b"this is no sound at all, but some text" * 10)


def nothing_in_it(path: Path) -> None:
    path.write_bytes(b"")


def no_samples(path: Path) -> None:
    soundfile.write(path, np.empty(0), RATE)


def not_finite(path: Path) -> None:
    samples = np.zeros(160000, np.float32)
    samples[5] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def too_short(path: Path) -> None:
    clip(path, 1.0)


def unheard_of(path: Path) -> None:
    """The system won't even look for it."""


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def empty_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (not_a_wav, "section_00_a.wav", "not a sound file"),
        (nothing_in_it, "section_00_a.wav", "empty (0 bytes)"),
        (no_samples, "section_00_a.wav", "holds no samples"),
        (not_finite, "section_00_a.wav", "not finite"),
        (too_short, "section_00_a.wav", "too short"),
        (missing, "section_00_a.wav", "there is no such file"),
        (unheard_of, f"section_00_{'a' * 300}.wav", "can't be read (File name too long)"),
        (empty_folder, "section_00_a", "no WAV or FLAC file"),
        (clip, "section_07_a.wav", "its name says section 07, the bundle has 00, 01"),
        (clip, "a.wav", "its name doesn't say its section"),
    ],
)
def test_bad_input_is_exit_code_4_and_one_line(
    tmp_path: Path, tiny_bundle: Path, make: Callable[[Path], object], name: str, said: str
) -> None:
    path = tmp_path / name
    make(path)
    done = edge_asd("score", path, "--bundle", tiny_bundle)
    assert done.returncode == 4
    [line] = done.stderr.splitlines()
    assert line.startswith(f"edge-asd: {path}: ")
    assert said in line
    assert rows(done.stdout) == []


def test_bad_clips_do_not_stop_the_others(tmp_path: Path, tiny_bundle: Path) -> None:
    not_a_wav(tmp_path / "section_00_a.wav")
    clip(tmp_path / "section_00_b.wav")
    too_short(tmp_path / "section_00_c.wav")
    done = edge_asd("score", tmp_path, "--bundle", tiny_bundle)
    assert done.returncode == 4
    assert [Path(row["file"]).name for row in rows(done.stdout)] == ["section_00_b.wav"]
    first, second = done.stderr.splitlines()
    assert first.startswith(f"edge-asd: {tmp_path / 'section_00_a.wav'}: ")
    assert second.startswith(f"edge-asd: {tmp_path / 'section_00_c.wav'}: ")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--section", "77"], 2, "no section '77'"),
        (["--threshold", "loud"], 2, "'loud'"),
        (["--threshold", "-1"], 2, "'-1'"),
        (["--threshold", "nan"], 2, "'nan'"),
    ],
)
def test_score_called_wrongly(tmp_path: Path, tiny_bundle: Path, options: list[str], code: int, said: str) -> None:
    done = edge_asd("score", clip(tmp_path / "section_00_a.wav"), "-b", tiny_bundle, *options)
    assert (done.returncode, done.stdout) == (code, "")
    [line] = done.stderr.splitlines()
    assert said in line


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.easd").write_bytes(b"PK but no zip")
    for arguments in (
        ["score", clip(tmp_path / "section_00_a.wav"), "-b"],
        ["bundle", "inspect"],
        ["bundle", "verify"],
    ):
        done = edge_asd(*arguments, tmp_path / "x.easd")
        assert (done.returncode, done.stdout) == (5, "")
        [line] = done.stderr.splitlines()
        assert f"{tmp_path / 'x.easd'}: " in line


def device_toml(folder: Path, bundle: Path, threshold: str) -> Path:
    path = folder / "device.toml"
    path.write_text(
        f'bundle = "{bundle}"\nsection = "00"\nstate = "state"\n'
        f'[capture]\nwav = "a.wav"\npace = "fast"\n[alarm]\nthreshold = {threshold}\n'
    )
    return path


def test_run_then_status_then_events(tmp_path: Path, tiny_bundle: Path) -> None:
    clip(tmp_path / "a.wav", 13)
    config = device_toml(tmp_path, tiny_bundle, "1e-9")  # everything is strange
    done = edge_asd("run", "--config", config, "--json")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["kind"] for line in lines].count("raised") == 1
    assert {line["kind"] for line in lines} == {"score", "raised"}
    [raised] = [line["event"] for line in lines if line["kind"] == "raised"]
    heading, alert, end = done.stderr.splitlines()
    assert heading.startswith("fan 00: listening with bundle ")
    assert alert.startswith("ALERT fan 00: strange since ")
    assert end == f"end of the recording: 13.0 s heard, {len(lines) - 1} scores, 1 alerts"

    listed = edge_asd("events", "--config", config, "--json")
    [event] = [json.loads(line) for line in listed.stdout.splitlines()]
    assert (listed.returncode, event["id"], event["ended_s"]) == (0, raised["id"], None)
    assert event["bundle"] == bundles.digest(tiny_bundle.read_bytes())
    assert event["peak"] == max(line["score"] for line in lines if line["kind"] == "score")
    assert "fan 00: no end heard, strange since" in edge_asd("events", "--state", tmp_path / "state").stdout

    told = edge_asd("status", "--state", tmp_path / "state")
    assert told.returncode == 1
    assert "does not run: process" in told.stdout
    assert "13.0 s" in told.stdout
    [line] = told.stderr.splitlines()
    assert "the daemon doesn't run" in line
    as_json = edge_asd("status", "--config", config, "--json")
    assert (as_json.returncode, json.loads(as_json.stdout)["alive"]) == (1, False)


def test_run_without_json_says_nothing_on_standard_output(tmp_path: Path, tiny_bundle: Path) -> None:
    clip(tmp_path / "a.wav", 12)
    done = edge_asd("run", "--config", device_toml(tmp_path, tiny_bundle, '"alarm"'))
    assert (done.returncode, done.stdout) == (0, "")
    assert len(done.stderr.splitlines()) == 2


def test_run_with_a_configuration_that_cannot_be(tmp_path: Path) -> None:
    done = edge_asd("run", "--config", tmp_path / "device.toml")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)


def test_status_of_a_living_daemon(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from edge_asd import status
with status.alone(Path({str(tmp_path)!r})):
    print("listening", flush=True)
    input()
"""
    sleeper = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert sleeper.stdout
    assert sleeper.stdout.readline()
    running = replace(STATUS, pid=sleeper.pid, scores=190, last_score=1.25, lost_samples=3)
    status.write(tmp_path, running)
    with EventStore(tmp_path / "events.sqlite") as store:
        store.put("raised", STRANGE)
    with sleeper:
        told = edge_asd("status", "--state", tmp_path)
        sleeper.communicate(b"\n")
    assert (told.returncode, told.stderr) == (0, "")
    assert f"fan 00: runs as process {sleeper.pid}" in told.stdout
    for words in ("alert      off, last score 1.25", "190 scores, 3 samples lost", "strange since 10.0 s"):
        assert words in told.stdout
    assert edge_asd("status", "--state", tmp_path).returncode == 1  # it has ended meanwhile
    status.write(tmp_path, msgspec.structs.replace(running, pid=os.getpid()))
    assert edge_asd("status", "--state", tmp_path).returncode == 1  # this process lives, but isn't that one


def test_status_where_nothing_ever_ran(tmp_path: Path) -> None:
    done = edge_asd("status", "--state", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(tmp_path) in done.stderr
    (tmp_path / "status.json").write_text("{}")
    assert edge_asd("status", "--state", tmp_path).returncode == 7


def test_events_newest_first_and_so_many(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events.sqlite") as store:
        for number in range(5):
            store.put("cleared", replace(STRANGE, id=str(number), ended_s=99.0))
    done = edge_asd("events", "--state", tmp_path, "--limit", 2, "--json")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["4", "3"]
    assert "cleared at 99.0 s" in edge_asd("events", "--state", tmp_path).stdout


def test_events_of_a_folder_without(tmp_path: Path) -> None:
    done = edge_asd("events", "--state", tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (7, "", 1)


@pytest.mark.parametrize("arguments", [[], ["--state", "x", "--config", "y"]])
def test_either_state_or_config(arguments: list[str]) -> None:
    for command in ("status", "events"):
        done = edge_asd(command, *arguments)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_inspect(tiny_bundle: Path) -> None:
    done = edge_asd("bundle", "inspect", tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    manifest = bundles.read(tiny_bundle).manifest
    digest = bundles.digest(tiny_bundle.read_bytes())
    words = [
        digest,
        manifest.machine,
        manifest.data_fingerprint,
        manifest.config_fingerprint,
        "bank/01.embedding.codes.npy",
    ]
    for word in [*words, f"{manifest.entries['model.tflite'].bytes:,}"]:
        assert word in done.stdout
    as_json = edge_asd("bundle", "inspect", tiny_bundle, "--json")
    assert msgspec.json.decode(as_json.stdout, type=Manifest) == manifest


def test_verify(tiny_bundle: Path) -> None:
    done = edge_asd("bundle", "verify", tiny_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert "bit for bit" in done.stdout
    result = json.loads(edge_asd("bundle", "verify", tiny_bundle, "--json", "--runtime", "litert").stdout)
    assert result["passed"]
    assert result["runtime"].startswith("litert ")


def test_verify_a_bundle_that_scores_otherwise_here(tmp_path: Path, tiny_bundle: Path) -> None:
    bundle = bundles.read(tiny_bundle)
    golden = msgspec.structs.replace(bundle.manifest.golden, score=bundle.manifest.golden.score * 2)
    other = tmp_path / "other.easd"
    bundles.write(
        other,
        bundles.Bundle(
            msgspec.structs.replace(bundle.manifest, golden=golden),
            bundle.model,
            bundle.banks,
            bundle.golden_wav,
            bundle.golden_embedding,
            bundle.model_card,
            bundle.sbom,
        ),
    )
    done = edge_asd("bundle", "verify", other)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"edge-asd: {other}: the golden clip scores ")


COMMANDS = [
    ["score"],
    ["run"],
    ["status"],
    ["events"],
    ["bench"],
    ["commission"],
    ["doctor"],
    ["bundle", "inspect"],
    ["bundle", "verify"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_one_example(command: list[str]) -> None:
    done = edge_asd(*command, "--help")
    assert done.returncode == 0
    assert done.stdout.count(f"Example: edge-asd {' '.join(command)} ") == 1


def test_nothing_heavy_is_imported_before_a_command_is_called() -> None:
    program = (
        "import sys; from edge_asd import cli, commands; commands.register(cli.CommandLine())\n"
        "heavy = {'numpy', 'soundfile', 'soxr', 'sqlite3', 'ai_edge_litert', 'tflite_runtime', 'torch'}\n"
        "sys.stdout.write(' '.join(sorted(heavy & sys.modules.keys())))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
