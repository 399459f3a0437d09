"""What `edge-asd doctor` looks at beside the program: microphone and level, clock, disk, power."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from edge_asd import child, status
from edge_asd.capture import arecord, source_of
from edge_asd.clock import SystemClock
from edge_asd.errors import CheckFailed, EdgeAsdError
from edge_asd.finding import Finding
from edge_asd.sensor import Sensor, rule_of
from edge_asd.settings import CaptureSettings, DeviceConfig, SensorSettings

LISTEN_SECONDS = 3.0
PATIENCE_SECONDS = 8.0  # until a microphone gives its first sample
LEAST_FREE_MB, LITTLE_FREE_MB = 20, 200
LOUDEST_DBFS = -3.0  # of a peak; above it the next louder moment clips
QUIET_DBFS = -60.0  # of RMS; a machine beside a microphone is louder
HOT_CELSIUS = 80.0  # from here on a Pi slows itself down

_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_TEMPERATURE = Path("/sys/class/thermal/thermal_zone0/temp")
_MODEL = Path("/proc/device-tree/model")
_NOW, _SINCE_START = 0, 16  # the first bit of what is, and of what was
_WORDS = ("under-voltage", "a capped clock", "throttling", "a soft limit of temperature")


def microphone(config: DeviceConfig) -> Iterator[Finding]:
    """Whether there is sound: as the daemon hears it, which has the microphone, or by listening for some seconds."""
    found = status.read(config.state) if status.alive(config.state) else None
    if found:
        if found.faults:
            yield Finding(about="microphone", state="problem", found=f"The daemon says: {found.sensor}")
        else:
            yield Finding(about="microphone", state="ok", found="The daemon hears it.")
        if found.rms_dbfs is not None and found.peak_dbfs is not None:
            yield _level(found.rms_dbfs, found.peak_dbfs)
        return
    if config.capture.wav:
        yield Finding(about="microphone", state="ok", found=f"In its place {config.capture.wav} is heard.")
        return
    if lacking := _lacking(config.capture.device):
        yield lacking
        return
    yield from _listened(config.capture, config.sensor)


def clock(synchronised: bool | None = None) -> Finding:
    """Whether the wall clock is known to be right."""
    if SystemClock().synchronised() if synchronised is None else synchronised:
        return Finding(about="clock", state="ok", found="The clock is set by the network, or by another clock.")
    return Finding(
        about="clock",
        state="warning",
        found="Nobody has set the clock since the start, as far as can be seen: events will say so.",
        todo="Give the device a time server (timedatectl set-ntp true) or a clock with a battery; durations and order "
        "are right without one.",
    )


def disk(state: Path) -> Finding:
    """Whether events and sounds can be kept."""
    folder = next(each for each in (state, *state.parents) if each.exists())
    free = shutil.disk_usage(folder).free / 1e6
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        todo = "A card that turns read-only is dying: save what is on it and replace it. The daemon goes on meanwhile."
        return Finding(about="disk", state="problem", found=f"{folder} is read-only.", todo=todo)
    found = f"{free:,.0f} MB are free in {folder}."
    todo = "Free some, or set [clips] keep_mb and [events] keep_mb lower in device.toml."
    if free < LEAST_FREE_MB:
        return Finding(about="disk", state="problem", found=found, todo=todo)
    if free < LITTLE_FREE_MB:
        return Finding(about="disk", state="warning", found=found, todo=todo)
    return Finding(about="disk", state="ok", found=found)


def power() -> Iterator[Finding]:
    """Of a Raspberry Pi, whether its supply and its cooling suffice; of other boards, how hot it is."""
    celsius = _celsius()
    if celsius is not None:
        found = f"The processor has {celsius:.0f} degrees Celsius."
        hot = celsius >= HOT_CELSIUS
        todo = "Cool it, or it slows itself down." if hot else ""
        yield Finding(about="temperature", state="warning" if hot else "ok", found=found, todo=todo)
    if not _text(_MODEL).startswith("Raspberry Pi"):
        return
    bits = _throttled()
    if bits is None:
        found = "Whether the power supply suffices can't be seen: neither the kernel nor vcgencmd says."
        yield Finding(about="power", state="warning", found=found, todo="Install libraspberrypi-bin.")
        return
    yield throttling(bits)


def throttling(bits: int) -> Finding:
    """What the firmware says of its power, see `vcgencmd get_throttled`."""
    now = [word for bit, word in enumerate(_WORDS) if bits >> (_NOW + bit) & 1]
    before = [word for bit, word in enumerate(_WORDS) if bits >> (_SINCE_START + bit) & 1]
    todo = "Use the board's own power supply and a short cable, and see to its cooling; then start it anew."
    if now:
        return Finding(about="power", state="problem", found=f"The board suffers {', '.join(now)} now.", todo=todo)
    if before:
        found = f"Since its start the board has suffered {', '.join(before)}."
        return Finding(about="power", state="warning", found=found, todo=todo)
    return Finding(about="power", state="ok", found="Power and cooling have sufficed since the start.")


def _lacking(device: str) -> Finding | None:
    """The sound card that a device names and that isn't there."""
    named = re.search(r"CARD=([^,]+)", device)
    known = [card.id for card in arecord.cards()]
    if not named or named[1] in known:
        return None
    there = f"there are {', '.join(known)}" if known else "there is none at all"
    return Finding(
        about="microphone",
        state="problem",
        found=f"There is no sound card {named[1]!r}; {there}.",
        todo="Plug the microphone in, or write the id of yours into [capture] device; `arecord -L` lists them.",
    )


def _listened(capture: CaptureSettings, settings: SensorSettings) -> Iterator[Finding]:
    """What some seconds of it say."""
    sensor, seconds, waited, peak, clipped = Sensor(rule_of(settings, None), 16000), 0.0, 0.0, -200.0, 0
    try:
        with source_of(capture, 16000) as source:
            for block in source:
                if block.absent:
                    raise CheckFailed(block.absent)
                waited += 0.0 if len(block.samples) else 0.5
                if waited >= PATIENCE_SECONDS:
                    raise CheckFailed(f"it gives no sample for {PATIENCE_SECONDS:g} s")
                seconds += len(block.samples) / 16000
                sensor.take(block, seconds)
                peak, clipped = max(peak, sensor.peak_dbfs), clipped + block.clipped
                if seconds >= LISTEN_SECONDS:
                    break
    except EdgeAsdError as error:
        todo = "See that it is plugged in, that no other program has it, and that the daemon's user is in group audio."
        yield Finding(about="microphone", state="problem", found=f"It can't be heard: {error}", todo=todo)
        return
    if "stuck" in sensor.faults or sensor.rms_dbfs < settings.silence_dbfs:
        todo = "Unmute it and turn its gain up (alsamixer, F4), and look at its cable."
        yield Finding(about="microphone", state="problem", found="It gives samples without any sound.", todo=todo)
        return
    yield Finding(about="microphone", state="ok", found=f"It gave {seconds:.1f} s of sound.")
    yield _level(sensor.rms_dbfs, peak, clipped)


def _level(rms: float, peak: float, clipped: int = 0) -> Finding:
    said = f"The level is {rms:.0f} dBFS, with peaks of {peak:.0f} dBFS"
    if clipped or peak > LOUDEST_DBFS:
        todo = "Turn the microphone's gain down (alsamixer, F4): above 0 dBFS there is nothing but distortion."
        return Finding(about="level", state="warning", found=f"{said}: too loud.", todo=todo)
    if rms < QUIET_DBFS:
        todo = "Turn its gain up, or put it nearer to the machine; while that stands still, this is nothing."
        return Finding(about="level", state="warning", found=f"{said}: hardly anything.", todo=todo)
    return Finding(about="level", state="ok", found=f"{said}.")


def _throttled() -> int | None:
    text = _text(_THROTTLED)
    if not text and shutil.which("vcgencmd"):
        try:
            text = child.run(["vcgencmd", "get_throttled"], seconds=5).output.partition("=")[2]
        except CheckFailed:
            return None
    try:
        return int(text.strip(), 16)
    except ValueError:
        return None


def _celsius() -> float | None:
    text = _text(_TEMPERATURE).strip()
    return int(text) / 1000 if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:200]
    except OSError:
        return ""
