"""What is wrong with a device, and what a person should do about it.

`examine` looks: each interpreter is tried in a process of its own, for one that doesn't fit the other packages here may
take its process along. `diagnose` judges what was seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import numpy as np

from edge_asd import bundle as bundles
from edge_asd import config as settings
from edge_asd import device_checks, golden, speed, workers
from edge_asd.bundle import Bundle
from edge_asd.errors import BundleError, ConfigError, MissingRequirement, StorageError
from edge_asd.finding import About, Finding
from edge_asd.golden import GoldenResult
from edge_asd.model import RUNTIMES, Runtime, installed_runtime, package_of
from edge_asd.native_output import silenced
from edge_asd.settings import DeviceConfig
from edge_asd.speed import Speed

TRIAL_SECONDS = 1.0
CLEARLY_SLOWER = 1.5  # times as long; less is chance
ENOUGH = 2.0  # times that a device should keep up, for it does other things too


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What came of trying an interpreter.

    Attributes:
        runtime: which.
        version: of its package; "" where that isn't installed.
        refusal: why it can't be used; "" where it can.
        imports: it does; the first that does is taken, whether it then works or not.
        golden, speed: with the bundle; None without one.
    """

    runtime: Runtime
    version: str = ""
    refusal: str = ""
    imports: bool = False
    golden: GoldenResult | None = None
    speed: Speed | None = None

    @property
    def name(self) -> str:
        """As other commands say it, such as "litert 2.1.0"."""
        return f"{self.runtime} {self.version}".rstrip()


def examine(config: Path | None = None, bundle: Path | None = None) -> list[Finding]:
    """Look at this device: its interpreters and, with a device.toml or a bundle, whether that verifies and keeps up;
    with a device.toml also its microphone, and in any case its clock and its power.

    What can't be read is a finding too.
    """
    findings, section = [], ""
    preferred: Runtime | None = None
    device: DeviceConfig | None = None
    if config:
        try:
            device = settings.load(config)
            bundle, section, preferred = device.bundle, device.section, device.model.runtime or None
            findings.append(Finding(about="configuration", state="ok", found=f"{config} can be read."))
        except ConfigError as error:
            findings.append(_problem("configuration", str(error), "Mend it: the daemon doesn't start with this file."))
    readable = None
    if bundle:
        try:
            opened = bundles.read(bundle)
            readable = bundle
            if config and _unknown(section, opened):
                known = ", ".join(sorted(opened.manifest.sections))
                said = f"section: found {section!r} in {config}, {bundle} has {known}."
                findings.append(_problem("configuration", said, "Say there which of them this device hears."))
                section = ""
        except BundleError as error:
            findings.append(_problem("bundle", str(error), "Until then the daemon doesn't start."))
    trials = [_tried(runtime, readable, section) for runtime in RUNTIMES]
    findings += diagnose(trials, preferred)
    if device:
        findings += [*device_checks.microphone(device), device_checks.disk(device.state)]
    return [*findings, device_checks.clock(), *device_checks.power()]


def diagnose(trials: Sequence[Trial], preferred: Runtime | None = None) -> list[Finding]:
    """Judge the interpreters, and the bundle and the speed with the one that is taken.

    Args:
        trials: the interpreters, in the order in which one is taken.
        preferred: the one that device.toml asks for, if it does.
    """
    taken = next((one for one in trials if (one.runtime == preferred if preferred else one.imports)), None)
    findings = [_untaken(trial, trials) for trial in trials if trial is not taken]
    if not taken:
        todo = "Install one with: pip install ai-edge-litert"
        return [*findings, _problem("interpreter", "There is no interpreter that the device could take.", todo)]
    return [_taken(taken, trials, asked_for=preferred is not None), *findings, *_with_bundle(taken)]


def _problem(about: About, found: str, todo: str) -> Finding:
    return Finding(about=about, state="problem", found=found, todo=todo)


def _untaken(trial: Trial, trials: Sequence[Trial]) -> Finding:
    found = f"{trial.name} can't be used: {trial.refusal}." if trial.refusal else f"{_cost(trial, trials)}."
    return Finding(about="interpreter", state="ok", found=f"{found} The device doesn't need it.")


def _taken(trial: Trial, trials: Sequence[Trial], *, asked_for: bool) -> Finding:
    reason = "as device.toml says" if asked_for else "the first that is installed"
    usable = [one for one in trials if one is not trial and not one.refusal]
    if trial.refusal:
        found = f"The device takes {trial.name} ({reason}), which can't be used: {trial.refusal}."
        todo = f"Install it anew: pip install --force-reinstall {package_of(trial.runtime)}"
        return _problem("interpreter", found, _setting(usable[0]) if usable else todo)
    found = f"{_cost(trial, trials)}. The device takes this one ({reason})."
    faster = [one for one in usable if _slower(trial, one)]
    if faster:
        todo = _setting(faster[0])
    elif trial.runtime == "tflite-runtime" and not usable:
        todo = f"Install LiteRT, where this processor has it, which is faster: pip install {package_of('litert')}"
    else:
        return Finding(about="interpreter", state="ok", found=found)
    return Finding(about="interpreter", state="warning", found=found, todo=todo)


def _setting(wanted: Trial) -> str:
    return f'Set runtime = "{wanted.runtime}" under [model] in device.toml: {wanted.name} is installed.'


def _slower(trial: Trial, other: Trial) -> bool:
    """By the measurement, or where there is none by what is known of them."""
    if trial.speed and other.speed:
        return _window_ms(trial.speed) > CLEARLY_SLOWER * _window_ms(other.speed)
    return trial.runtime == "tflite-runtime"


def _cost(trial: Trial, trials: Sequence[Trial]) -> str:
    """What a window costs with an interpreter, and beside the fastest."""
    reason = "; it never hands int8 to XNNPACK" if trial.runtime == "tflite-runtime" else ""
    if not trial.speed:
        return f"{trial.name} is installed{reason}"
    window = _window_ms(trial.speed)
    found = f"{trial.name}: {window:.2g} ms a window"
    fastest = min((one for one in trials if one.speed), key=lambda one: _window_ms(one.speed))
    if fastest.speed and window > CLEARLY_SLOWER * _window_ms(fastest.speed):
        found += f", {window / _window_ms(fastest.speed):.2g} times as long as {fastest.runtime}{reason}"
    return found


def _window_ms(found: Speed | None) -> float:
    return found.model.hop.least_ms if found else np.inf


def _with_bundle(trial: Trial) -> Iterator[Finding]:
    """Whether the bundle verifies, and whether the device keeps up, with this interpreter."""
    if trial.golden:
        here = f"scores {trial.golden.score:.6g} here with {trial.name}, {trial.golden.expected:.6g} at export"
        if trial.golden.passed:
            agreement = "bit for bit" if trial.golden.exact else "within its tolerance"
            found = f"The bundle verifies: its hashes agree, its golden clip {here} ({agreement})."
            yield Finding(about="bundle", state="ok", found=found)
        else:
            todo = "Don't use this bundle with this interpreter: install another, or train and deploy again."
            yield _problem("bundle", f"The bundle's golden clip {here}.", todo)
    if trial.speed:
        said = f"The device {speed.verdict(trial.speed)}, with {trial.speed.resident_mb:.0f} MB of memory."
        if not trial.speed.keeps_up:
            todo = "End other work on it, see to its cooling and power supply, or take a faster board."
            yield _problem("speed", said, todo)
        elif trial.speed.times_real_time < ENOUGH:
            todo = "End other work on it: while that is busy, samples may be lost."
            yield Finding(about="speed", state="warning", found=said, todo=todo)
        else:
            yield Finding(about="speed", state="ok", found=said)


def _unknown(section: str, bundle: Bundle) -> bool:
    """Whether a daemon that is asked for this section wouldn't know which one to hear."""
    known = bundle.manifest.sections
    return section not in known if section else len(known) > 1


def _tried(runtime: Runtime, bundle: Path | None, section: str) -> Trial:
    try:
        found = version(package_of(runtime))
    except PackageNotFoundError:
        return Trial(runtime=runtime, refusal="it isn't installed")
    try:
        with workers.each(partial(_trial, found, bundle, section), [runtime], 1) as results:
            [trial] = results
    except StorageError:
        refusal = "it takes the process along when it is to work"
        return Trial(runtime=runtime, version=found, refusal=refusal, imports=True)
    return trial


def _trial(found: str, bundle: Path | None, section: str, runtime: Runtime) -> Trial:
    """Try an interpreter, in a process that has nothing to lose."""
    trial = partial(Trial, runtime=runtime, version=found)
    with silenced():
        try:
            installed_runtime(runtime)
        except MissingRequirement as error:
            return trial(refusal=str(error).rpartition("; install")[0])
        if bundle is None:
            return trial(imports=True, refusal=_known_to_fail(runtime))
        try:
            opened = bundles.read(bundle)
            return trial(
                imports=True,
                golden=golden.check(opened, runtime=runtime),
                speed=speed.measure(opened, section, runtime, TRIAL_SECONDS),
            )
        except Exception as error:  # whatever a native library makes of packages that don't fit it
            return trial(imports=True, refusal=_known_to_fail(runtime) or f"{type(error).__name__}: {error}")


def _known_to_fail(runtime: Runtime) -> str:
    if runtime == "tflite-runtime" and int(np.__version__.split(".")[0]) > 1:
        return f"it doesn't work beside NumPy {np.__version__}, only with numpy<2"
    return ""
