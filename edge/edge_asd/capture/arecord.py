"""ALSA's recorder: its command line, what it says of samples that were lost, and which sound cards there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CARDS = Path("/proc/asound/cards")
BUFFER_SECONDS = 2.0  # of ALSA's own, for a disk or a CPU that is busy; hardware that can't grants what it can
PERIOD_SECONDS = 0.1  # arecord writes so much at once; its default, a quarter of the buffer, would come in bursts

_MOST_CARDS = 64 << 10  # bytes; the kernel knows 32 cards, of some 150 bytes each
_MOST_LINE = 256  # bytes of a line that has no end yet
_CARD = re.compile(r"^ *(\d{1,4}) \[([^\]\s]+) *\]: *(?:.*? - )?(.+?) *$", re.MULTILINE)
# A driver without a clock says "overrun !!!" and no length; one whose clock is wrong a negative one.
_OVERRUN = re.compile(rb"overrun ?!!!(?: \(at least (-?\d{1,15}(?:[.,]\d{1,9})?) ms long\))?")


@dataclass(frozen=True)
class Card:
    """A sound card, as the kernel lists it.

    Attributes:
        number: counted from 0, dealt anew at every start.
        id: by which ALSA finds it whatever its number: `plughw:CARD=<id>,DEV=0`.
        name: for people.
    """

    number: int
    id: str
    name: str


def command_line(device: str, rate: int, channels: int) -> list[str]:
    """The program and arguments that record a device, `rate` Hz and `channels` samples a frame, as raw S16_LE."""
    return [
        *("arecord", "-q", "-D", device, "-f", "S16_LE", "-r", str(rate), "-c", str(channels), "-t", "raw"),
        f"--buffer-time={BUFFER_SECONDS * 1e6:.0f}",
        f"--period-time={PERIOD_SECONDS * 1e6:.0f}",
    ]


def cards(path: Path = CARDS) -> list[Card]:
    """The sound cards of this machine; none where the kernel knows no sound."""
    try:
        with path.open("rb") as file:
            return parse_cards(file.read(_MOST_CARDS).decode(errors="replace"))
    except OSError:
        return []


def parse_cards(text: str) -> list[Card]:
    """What `/proc/asound/cards` holds: a line with number, id, driver and name of each, and a longer name below it."""
    return [Card(int(number), identity, name) for number, identity, name in _CARD.findall(text)]


class Overruns:
    """Finds what arecord says when it lost samples, whatever the pieces in which it is read."""

    def __init__(self) -> None:
        self._line = b""

    def take(self, some: bytes) -> list[float]:
        """The lengths in ms of the gaps that this piece tells of; 0 for one whose length isn't known."""
        whole, newline, rest = (self._line + some).rpartition(b"\n")
        self._line = rest[-_MOST_LINE:]
        lengths = [match.group(1) for match in _OVERRUN.finditer(whole)] if newline else []
        return [max(0.0, float(length.replace(b",", b"."))) if length else 0.0 for length in lengths]
