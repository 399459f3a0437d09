"""What is found wrong with a device: judged from made-up trials, and looked at with the interpreters that are here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import msgspec
import pytest

from edge_asd import bundle as bundles
from edge_asd import doctor
from edge_asd.doctor import Finding, Trial, diagnose
from edge_asd.golden import GoldenResult
from edge_asd.speed import Effort, Part, Speed


def speed(window: float, hop: float) -> Speed:
    """Of a device that takes so many milliseconds for a window, and for a hop in all."""

    def part(milliseconds: float) -> Part:
        effort = Effort(least_ms=milliseconds, median_ms=milliseconds, times=5)
        return Part(clip=effort, hop=effort, core=milliseconds / 256)

    return Speed(
        runtime="",
        machine="fan",
        section="00",
        bundle="",
        front_end=part(0.1),
        model=part(window),
        bank=part(0.1),
        whole=part(hop),
        hop_ms=256.0,
        windows_per_second=1e3 / window,
        resident_mb=70.0,
        times_real_time=256 / hop,
        keeps_up=hop <= 256,
    )


def golden(*, passed: bool = True, exact: bool = True) -> GoldenResult:
    return GoldenResult(1.5, 1.5 if exact else 1.4, 0.0 if exact else 0.1, exact, passed, "litert 2.1.0")


LITERT = Trial(runtime="litert", version="2.1.0", imports=True, golden=golden(), speed=speed(0.25, 0.5))
TFLITE = Trial(
    runtime="tflite-runtime", version="2.14.0", imports=True, golden=golden(exact=False), speed=speed(4.9, 6.0)
)
NO_LITERT = Trial(runtime="litert", refusal="it isn't installed")
NO_TFLITE = Trial(runtime="tflite-runtime", refusal="it isn't installed")


def states(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.about, finding.state) for finding in findings]


def without_bundle(trial: Trial) -> Trial:
    return msgspec.structs.replace(trial, golden=None, speed=None)


def broken(trial: Trial) -> Trial:
    return msgspec.structs.replace(without_bundle(trial), refusal="SystemError: returned a result")


def test_both_installed() -> None:
    findings = diagnose([LITERT, TFLITE])
    assert states(findings) == [("interpreter", "ok"), ("interpreter", "ok"), ("bundle", "ok"), ("speed", "ok")]
    assert [finding.found for finding in findings] == [
        "litert 2.1.0: 0.25 ms a window. The device takes this one (the first that is installed).",
        "tflite-runtime 2.14.0: 4.9 ms a window, 20 times as long as litert; it never hands int8 to XNNPACK. "
        "The device doesn't need it.",
        "The bundle verifies: its hashes agree, its golden clip scores 1.5 here with litert 2.1.0, 1.5 at export "
        "(bit for bit).",
        "The device keeps up 512 times over, with 70 MB of memory.",
    ]
    assert not any(finding.todo for finding in findings)


def test_the_slower_one_is_taken_because_device_toml_says_so() -> None:
    taken, other, bundle, keeps_up = diagnose([LITERT, TFLITE], "tflite-runtime")
    assert taken.state == "warning"
    assert "20 times as long as litert" in taken.found
    assert "The device takes this one (as device.toml says)." in taken.found
    assert taken.todo == 'Set runtime = "litert" under [model] in device.toml: litert 2.1.0 is installed.'
    assert (other.state, bundle.state, keeps_up.state) == ("ok", "ok", "ok")
    assert "within its tolerance" in bundle.found
    assert "keeps up 42 times over" in keeps_up.found


@pytest.mark.parametrize("measured", [True, False])
def test_only_the_slower_one_is_installed(measured: bool) -> None:
    taken, missing, *_ = diagnose([NO_LITERT, TFLITE if measured else without_bundle(TFLITE)])
    assert (taken.state, missing.state) == ("warning", "ok")
    assert "pip install ai-edge-litert" in taken.todo
    assert missing.found == "litert can't be used: it isn't installed. The device doesn't need it."


def test_without_a_bundle_nothing_is_said_of_speed() -> None:
    assert states(diagnose([without_bundle(LITERT), NO_TFLITE])) == [("interpreter", "ok"), ("interpreter", "ok")]
    taken, *_ = diagnose([without_bundle(LITERT), without_bundle(TFLITE)], "tflite-runtime")
    assert (taken.state, "never hands int8" in taken.found) == ("warning", True)


def test_none_is_installed() -> None:
    findings = diagnose([NO_LITERT, NO_TFLITE])
    assert states(findings)[-1] == ("interpreter", "problem")
    assert findings[-1].todo == "Install one with: pip install ai-edge-litert"


def test_the_one_that_device_toml_asks_for_is_not_installed() -> None:
    taken, _ = diagnose([NO_LITERT, without_bundle(TFLITE)], "litert")
    assert taken.state == "problem"
    assert taken.found == "The device takes litert (as device.toml says), which can't be used: it isn't installed."
    assert taken.todo.startswith('Set runtime = "tflite-runtime" under [model]')


def test_the_first_one_imports_and_does_not_work() -> None:
    """The device would take it all the same, for it looks no further."""
    taken, other = diagnose([broken(LITERT), TFLITE])
    assert (taken.state, other.state) == ("problem", "ok")
    assert "SystemError" in taken.found
    assert taken.todo.startswith('Set runtime = "tflite-runtime"')
    taken, _ = diagnose([broken(LITERT), NO_TFLITE])
    assert taken.todo == "Install it anew: pip install --force-reinstall ai-edge-litert"


def test_a_golden_clip_that_scores_otherwise() -> None:
    bad = msgspec.structs.replace(LITERT, golden=golden(passed=False, exact=False))
    *_, bundle, _ = diagnose([bad, NO_TFLITE])
    assert (bundle.about, bundle.state) == ("bundle", "problem")
    assert bundle.found == "The bundle's golden clip scores 1.5 here with litert 2.1.0, 1.4 at export."


@pytest.mark.parametrize(("hop", "state"), [(127.0, "ok"), (129.0, "warning"), (256.0, "warning"), (257.0, "problem")])
def test_how_easily_it_must_keep_up(hop: float, state: str) -> None:
    *_, last = diagnose([msgspec.structs.replace(LITERT, speed=speed(100.0, hop)), NO_TFLITE])
    assert (last.about, last.state, bool(last.todo)) == ("speed", state, state != "ok")


def test_an_interpreter_that_takes_its_process_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_trial", end_the_process)
    trial = doctor._tried("litert", None, "")
    assert trial.imports
    assert trial.refusal == "it takes the process along when it is to work"
    assert trial.name.startswith("litert ")


def end_the_process(*_: object) -> None:
    os._exit(9)


def test_an_interpreter_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "version", none)
    assert doctor._tried("litert", None, "") == NO_LITERT


def test_an_interpreter_beside_the_wrong_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.np, "__version__", "2.4.1")
    assert doctor._known_to_fail("tflite-runtime") == "it doesn't work beside NumPy 2.4.1, only with numpy<2"
    assert doctor._known_to_fail("litert") == ""


def told(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_asd", "doctor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def device_toml(folder: Path, bundle: Path, section: str, runtime: str = "") -> Path:
    path = folder / "device.toml"
    path.write_text(
        f'bundle = "{bundle}"\nsection = "{section}"\nstate = "state"\n'
        f'[capture]\nwav = "a.wav"\n[model]\nruntime = "{runtime}"\n'
    )
    return path


def test_the_command_with_a_configuration(tmp_path: Path, tiny_bundle: Path) -> None:
    done = told("--config", device_toml(tmp_path, tiny_bundle, "01", "tflite-runtime"), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    findings = msgspec.convert(json.loads(done.stdout), list[Finding])
    assert [finding.about for finding in findings] == [
        "configuration",
        "interpreter",
        "interpreter",
        "bundle",
        "speed",
        "microphone",
        "disk",
        "clock",
        *(finding.about for finding in findings[8:]),  # of a board that says how hot it is
    ]
    assert {finding.about for finding in findings[8:]} <= {"temperature", "power"}
    assert findings[1].found.startswith("tflite-runtime ")
    assert "as device.toml says" in findings[1].found
    assert findings[3].state == "ok"
    assert "with tflite-runtime " in findings[3].found


def test_the_command_without_anything() -> None:
    done = told()
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith("ok       litert ")
    assert second.startswith("ok       tflite-runtime ")


def test_a_bundle_that_fails_its_golden_clip(tmp_path: Path, tiny_bundle: Path) -> None:
    bundle = bundles.read(tiny_bundle)
    golden = msgspec.structs.replace(bundle.manifest.golden, score=bundle.manifest.golden.score * 2)
    path = tmp_path / "other.easd"
    bundles.write(path, replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, golden=golden)))
    done = told("--bundle", path)
    assert done.returncode == 1
    assert "\nproblem  The bundle's golden clip scores " in done.stdout
    [line] = done.stderr.splitlines()
    assert re.match(r"edge-asd: 1 of \d findings are problems; the first: The bundle's golden clip scores ", line)


@pytest.mark.parametrize(
    ("section", "content", "about", "said"),
    [
        ("00", b"PK but no zip", "bundle", "damaged or not a bundle"),
        ("00", None, "bundle", "fan.easd"),
        ("77", b"", "configuration", "section: found '77'"),
        ("", b"", "configuration", "section: found ''"),
        ('"', b"", "configuration", "is not TOML"),
    ],
)
def test_what_cannot_be_used_is_a_finding_and_the_interpreters_are_looked_at(
    tmp_path: Path,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    section: str,
    content: bytes | None,
    about: str,
    said: str,
) -> None:
    monkeypatch.setattr(doctor, "_tried", lambda *arguments: {"litert": LITERT, "tflite-runtime": TFLITE}[arguments[0]])
    bundle = tmp_path / "fan.easd"
    if content is not None:
        bundle.write_bytes(content or tiny_bundle.read_bytes())
    findings = doctor.examine(device_toml(tmp_path, bundle, section))
    [problem] = [finding for finding in findings if finding.state == "problem"]
    assert problem.about == about
    assert said in problem.found
    assert problem.todo
    assert states(findings).count(("interpreter", "ok")) == 2


def test_either_a_configuration_or_a_bundle(tmp_path: Path, tiny_bundle: Path) -> None:
    done = told("--config", device_toml(tmp_path, tiny_bundle, "00"), "--bundle", tiny_bundle)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
