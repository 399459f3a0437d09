"""A microphone's program: S16_LE on its standard output, as fast as it is told to, and broken as it is told to be.

    python microphone.py FOLDER SPEED RATE BUFFER

Every 0.1 s of its sound it reads FOLDER/asked, one word of `ASKED`. As arecord does, it keeps BUFFER s of sound for a
reader that is slow, then throws all of that away and says so on standard error. In FOLDER/given stands how many samples
it made and how many of them it threw away, once a second of sound.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ASKED = ("quiet", "strange", "zeros", "loud", "twice", "frozen", "gone", "episodes")
TICK = 0.1  # s of sound
EPISODE, SILENCE = 20, 3  # s: "episodes" are strange for so long, then nothing but zeros for so long

Sound = Callable[[float], np.ndarray]


def sounds(rate: int) -> dict[str, Sound]:
    """What it gives at a second of its time, so many samples as a tick has."""
    random, count = np.random.default_rng(0), round(rate * TICK)

    def noise(level: float) -> np.ndarray:
        return level * random.standard_normal(count)

    def hum(second: float) -> np.ndarray:
        axis = second + np.arange(count) / rate
        return sum((0.05 * np.sin(2 * np.pi * 200 * k * axis) for k in range(1, 20)), noise(0.1))

    zeros = np.zeros(count)
    return {
        "quiet": lambda _: noise(0.01),
        "strange": hum,
        "zeros": lambda _: zeros,
        "loud": lambda _: noise(2.0),
        "twice": lambda _: np.concatenate([noise(0.01), noise(0.01)]),
        "episodes": lambda second: noise(0.05) if second % (EPISODE + SILENCE) < EPISODE else zeros,
    }


def main(folder: str, speed: str, rate: str, buffer: str) -> None:
    asked, given = Path(folder, "asked"), Path(folder, "given")
    known, out, waiting = sounds(int(rate)), sys.stdout.fileno(), b""
    os.set_blocking(out, False)
    began, second, made, thrown = time.monotonic(), 0.0, 0, 0
    while True:
        word = asked.read_text().strip() or "quiet"
        if word == "gone":
            sys.stderr.write("microphone: main:850: audio open error: No such device\n")
            sys.exit(1)
        if word == "frozen":
            time.sleep(TICK / float(speed))
            began += TICK / float(speed)
            continue
        sound = known[word](second)
        waiting += (sound.clip(-1, 0.99997) * 32768).astype("<i2").tobytes()
        made, second = made + len(sound), second + TICK
        waiting = waiting[written(out, waiting) :]
        if len(waiting) > 2 * float(buffer) * int(rate):
            sys.stderr.write(f"overrun!!! (at least {1000 * len(waiting) / 2 / int(rate):.3f} ms long)\n")
            sys.stderr.flush()
            thrown, waiting = thrown + len(waiting) // 2, b""
        if round(second / TICK) % round(1 / TICK) == 0:
            beside = given.with_suffix(".new")
            beside.write_text(f"{made} {thrown}\n")
            beside.replace(given)
        time.sleep(max(0.0, began + second / float(speed) - time.monotonic()))


def written(out: int, some: bytes) -> int:
    try:
        return os.write(out, some)
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
