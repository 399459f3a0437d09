"""A site that is learned, learned anew and undone. As a program: all of that in turn.

    python -m faults.learning ROOT      # to be watched; it acknowledges what was asked for, and what is in force

The work is the daemon's and the command's own. What is heard are embeddings that are made up, so that eight minutes of
listening take a moment.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_asd import commission_desk as desk
from edge_asd import left_over, site, status
from edge_asd.bank import Bank
from edge_asd.comparison import Backend, Comparison, Heard
from edge_asd.errors import StorageError
from edge_asd.post import Post
from edge_asd.scoring import Detector, Score
from edge_asd.site_work import SiteWork
from faults.disk import acknowledge
from faults.filling import Fill, Outcome
from faults.running import OF_A_STATE
from listening_post import StreamClock, detector, post
from made_up import some_bundle

# What happens, one after the other: a number is learned, so that each gives a threshold of its own; "undo" undoes.
ACTS: tuple[int | str, ...] = (1, 2, 3, "undo", "undo", 4)
HOP = 0.256
BUNDLE = replace(some_bundle(), digest="0123456789abcdef")


def embeddings(seed: int, count: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (0.2 * seed + 0.3 * random.normal(size=(count, 320))).astype(np.float32)


def known_detector() -> Detector:
    banks = {"embedding": Bank.of(embeddings(0, 30), [f"{number}.wav" for number in range(30)])}
    return replace(detector(), comparisons={"00": Comparison(banks, (Backend(),))})


def listening() -> Post:
    return post(detector=known_detector())


class Daemon:
    """What of a daemon commissions, from its start on."""

    def __init__(self, state: Path) -> None:
        self._post = listening()
        self._state = state
        self._clock = StreamClock()
        left_over.clear(state)
        self.work = SiteWork(state, self._post, lambda: self._post, self._clock, site.fingerprint(state))
        self.work.look(-40.0)

    def hear(self, seed: int, done: Callable[[], bool]) -> None:
        """Listen until it is done; a machine of its own sound a seed."""
        section = self._post.detector
        for number, one in enumerate(embeddings(seed, 2000)):
            self._clock.seconds += HOP
            heard = Heard(one)
            score = Score(section.judge(heard, "00").value, "", HOP * number)
            self.work.take(score, heard, np.full((313, 128), -40.0 + seed, np.float32), f"at {HOP * number:.1f} s")
        for _ in range(100):
            self.work.look(-40.0)
            if done():
                return
            self._clock.seconds += 5.0  # after a disk that failed it pauses
        raise AssertionError("it never was done")


def request(number: int) -> desk.Request:
    return desk.Request(f"{number:02x}", 8.0, 100.0, clips=3)


def act(state: Path, what: int | str, said: Callable[[str], object]) -> None:
    """One of `ACTS`."""
    if isinstance(what, str):
        site.undo(state)
    else:
        daemon, wish = Daemon(state), request(what)
        desk.ask(state, wish)
        said(f"asked {wish.id}")
        daemon.work.look(-40.0)
        daemon.hear(what, lambda: desk.reported(state, wish.id) is not None and not desk.requested(state))
    said(f"in force {in_force(state)}")


def filling(root: Path, fill: Fill, lift: Callable[[], None]) -> Outcome:
    """A site that was learned is learned anew and that undone, on a disk that fills up; what fails is done again."""
    state, outcome = root / "state", Outcome()
    state.mkdir(parents=True)
    act(state, 1, lambda _: None)
    first, wish = in_force(state), request(2)
    daemon = Daemon(state)
    fill()

    def whole(*allowed: str) -> None:
        if trouble := wrong(state):
            outcome.wrong.append(trouble)
        elif (now := in_force(state)) not in allowed:
            outcome.wrong.append(f"{now} is in force")

    for attempt in range(2):
        code = outcome.ended(lambda: desk.ask(state, wish))
        whole(first)
        if code == 0:
            break
        if attempt == 0:
            lift()
    daemon.work.look(-40.0)
    daemon.hear(2, lambda: desk.reported(state, wish.id) is not None and not desk.requested(state))
    second = in_force(state)
    if second == first:
        outcome.wrong.append("nothing was learned")
    for attempt in range(2):
        code = outcome.ended(lambda: site.undo(state))
        whole(first, second)
        if code == 0:
            break
        if attempt == 0:
            lift()
    lift()
    if in_force(state) == second:
        outcome.wrong.append("it wasn't undone")
    with status.alone(state):
        left_over.clear(state)
    outcome.left = left(root)
    return outcome


def in_force(state: Path) -> str:
    """The threshold that is in force, and with it all that goes with it; "none" where the bundle alone is."""
    found = site.read(state)
    if found is None:
        return "none"
    known = site.learned(state, found, BUNDLE, known_detector())
    assert len(known.clips) == len(known.heard)
    return f"{found.threshold:.6g}"


def start_again(root: Path) -> None:
    """Let a daemon do what still is to be done."""
    state = root / "state"
    with status.alone(state):
        daemon = Daemon(state)
        if desk.requested(state):
            daemon.hear(9, lambda: desk.requested(state) is None)


def left(root: Path) -> list[str]:
    """What lies there and is nobody's."""
    state, named = root / "state", {site.FILE, site.PREVIOUS}
    for name in (site.FILE, site.PREVIOUS):
        if (state / site.FOLDER / name).exists():
            record = site._record((state / site.FOLDER / name).read_bytes())
            assert record
            named |= {site._name(record.log_mels, "log_mels"), site._name(record.heard, "heard")}
    learned = (state / site.FOLDER).iterdir() if (state / site.FOLDER).exists() else ()
    found = [path for path in learned if path.name not in named]
    found += [path for path in state.iterdir() if path.name not in {*OF_A_STATE, site.FOLDER, desk.REPORT}]
    return [str(path.relative_to(root)) for path in found]


def wrong(state: Path) -> str:
    """Why what is in force can't be used; "" where it can."""
    try:
        in_force(state)
    except (StorageError, AssertionError) as error:
        return str(error)
    return ""


def main(root: str) -> None:
    state = Path(root) / "state"
    with status.alone(state):
        for what in ACTS:
            act(state, what, acknowledge)


if __name__ == "__main__":
    main(*sys.argv[1:])
