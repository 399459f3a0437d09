"""Does a release work here? Two checks, both by its own interpreter in a process of its own.

`golden`: it computes what the workstation computed. `health`: its daemon, under the site's settings, scores sound.
"""

from __future__ import annotations

import io
import tomllib
import wave
from pathlib import Path

import msgspec
import tomli_w

from edge_asd import bundle, child, files, status, strict
from edge_asd.errors import BundleError, CheckFailed
from edge_asd.release_tree import Release, Tree

# A clip of 10 s takes a Pi Zero 2 W some seconds, and importing NumPy from a cold SD card some more.
HEALTH_SECONDS_OF_SOUND = 11
GOLDEN_SECONDS = 120.0
HEALTH_SECONDS = 300.0


class _GoldenResult(msgspec.Struct, frozen=True):
    """What matters here of `bundle verify --json`."""

    score: float
    expected: float
    passed: bool
    runtime: str


def golden(release: Release, runtime: str = "", *, seconds: float = GOLDEN_SECONDS, account: str | None = None) -> str:
    """Score the golden clip with a release's own runtime; give the outcome in words.

    Args:
        release: staged or in place.
        runtime: the interpreter that the site's settings ask for, "" for whichever is installed.
        seconds: how long it may take.
        account: as whom, for a network from elsewhere is read there by native code; as ourselves by default.

    Raises:
        CheckFailed: the score is not the one at export, or the release doesn't run here.
    """
    wanted = ("--runtime", runtime) if runtime else ()
    command = _program(release, "bundle", "verify", str(release.bundle.absolute()), "--json", *wanted)
    finished = child.run(command, seconds=seconds, account=account)
    if finished.code:
        raise CheckFailed(f"the golden clip did not pass: {finished.last_line}")
    try:
        result = strict.decoded(finished.output, _GoldenResult)
    except ValueError as error:
        raise CheckFailed(f"the golden clip was not scored: {finished.last_line}") from error
    if not result.passed:
        raise CheckFailed(f"the golden clip scores {result.score:.6g}, at export {result.expected:.6g}")
    return f"the golden clip scores {result.score:.6g} with {result.runtime}, at export {result.expected:.6g}"


def health(tree: Tree, release: Release, *, seconds: float = HEALTH_SECONDS) -> int:
    """Run a release's daemon on its golden clip under the site's settings; give how many scores it gave.

    Microphone and state are not the site's: the check hears a file, as fast as it can, and its events and its status
    are thrown away. Everything else is.

    Raises:
        CheckFailed: the daemon left with an error, took too long, or scored nothing.
    """
    with tree.health_folder() as folder:
        state = folder / "state"
        state.mkdir()
        sound = folder / "golden-repeated.wav"
        files.write_bytes(sound, long_enough(bundle.read(release.bundle)))
        settings = folder / "device.toml"
        site = tomllib.loads(tree.config.read_text())
        files.write_text(settings, tomli_w.dumps(_rehearsal(site, release.bundle, sound, state)))
        finished = child.run(_program(release, "run", "--config", str(settings)), seconds=seconds)
        if finished.code:
            raise CheckFailed(f"the daemon left with code {finished.code}: {finished.last_line}")
        found = status.read(state)
    scores = found.scores if found else 0
    if not scores:
        raise CheckFailed("the daemon ran to the end of the golden clip and scored nothing.")
    return scores


def long_enough(heard: bundle.Bundle) -> bytes:
    """The golden clip, over and over until a stream scores it, as WAV.

    A stream gives its first score after 32 windows; a clip of 10 s without the padding at its ends has 31.

    Raises:
        BundleError: golden.wav isn't WAV with PCM samples.
    """
    file = io.BytesIO()
    try:
        with wave.open(io.BytesIO(heard.golden_wav)) as clip, wave.open(file, "wb") as both:
            both.setparams(clip.getparams())
            repetitions = 2 + HEALTH_SECONDS_OF_SOUND * clip.getframerate() // max(1, clip.getnframes())
            both.writeframes(clip.readframes(clip.getnframes()) * repetitions)
    except (wave.Error, EOFError) as error:
        raise BundleError(f"{heard.source}: golden.wav can't be read ({error}); export the bundle again.") from error
    return file.getvalue()


def _rehearsal(site: dict[str, object], listening_with: Path, sound: Path, state: Path) -> dict[str, object]:
    """The site's settings, but for what they listen to and where they write."""
    return {
        **site,
        "bundle": str(listening_with.absolute()),
        "state": str(state.absolute()),
        "capture": {"wav": str(sound.absolute()), "pace": "fast"},
    }


def _program(release: Release, *arguments: str) -> list[str]:
    """The release's edge-asd. -I: neither the folder we are in nor PYTHON* variables decide which code runs."""
    return [str(release.python.absolute()), "-I", "-m", "edge_asd", *arguments]
