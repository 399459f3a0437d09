"""The time: of the wall for people, and one that only ever goes forward for intervals.

A Pi has no battery for its clock: after a power cut it begins with the time of its last shutdown, and jumps when the
network tells it better. Whatever is to last is therefore stamped with both clocks, the boot that the second one counts
from, and whether the first one had been set by then.
"""

from __future__ import annotations

import ctypes
import time
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNCD = Path("/run/systemd/timesync/synchronized")
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
_TIMEX_BYTES = 512  # more than any kernel's `struct timex`; its first word is 0, so that it only reads


class Clock(Protocol):
    """What tells the time; a test brings its own."""

    @property
    def boot_id(self) -> str:
        """Another one after every start of the machine."""
        ...

    def utc_now(self) -> datetime:
        """The wall clock's, aware of its zone (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment of this boot; never goes back."""
        ...

    def synchronised(self) -> bool:
        """Whether the wall clock is known to have been set by the network or another clock since the machine began."""
        ...


class SystemClock:
    """The clock of this machine."""

    @cached_property
    def boot_id(self) -> str:
        try:
            return _BOOT_ID.read_text().strip()
        except OSError:
            return ""

    def utc_now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def synchronised(self) -> bool:
        """As systemd-timesyncd says, or the kernel, which chrony and ntpd tell; where nobody may ask that, it isn't."""
        buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
        try:
            if _TIMESYNCD.exists():
                return True
            state: int = ctypes.CDLL(None).adjtimex(buffer)
        except (OSError, AttributeError):
            return False
        return 0 <= state < _UNSYNCHRONISED


def iso(moment: datetime) -> str:
    """A moment as `2026-11-22T11:40:01.123Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
