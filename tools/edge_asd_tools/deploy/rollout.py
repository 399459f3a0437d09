"""A release goes to a fleet, wave by wave; the first wave that fails is taken back, and is the last.

Nothing is kept here: the devices know what they run, so the same command goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import msgspec

from edge_asd.errors import EdgeAsdError, Unreachable
from edge_asd.transaction import Report
from edge_asd_tools.deploy.crew import Crew
from edge_asd_tools.deploy.device import Device, Order, Outcome

Say = Callable[[str, str, str], None]  # which device, step, outcome


class State(StrEnum):
    """What became of a device."""

    NOT_BEGUN = "not begun"
    AT_WORK = "at work"
    DONE = "done"
    WOULD_CHANGE = "would change"
    UNCHANGED = "unchanged"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"
    NOT_ROLLED_BACK = "not rolled back"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One device in the table.

    Attributes:
        device: its name.
        wave: which it belongs to, from 1.
        state: what became of it.
        before, after: the releases that ran and run, where that is known.
        why: it didn't do what it should; or what else there is to say.
    """

    device: str
    wave: int
    state: State = State.NOT_BEGUN
    before: str | None = None
    after: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Member:
    """A device of the fleet, and what is asked of it."""

    device: Device
    order: Order


@dataclass(frozen=True)
class Act:
    """What every device is to do.

    Attributes:
        do: has one do it.
        undo: takes that back, where a wave fails; gives what runs then. None where it isn't taken back: then the whole
            wave has its turn, though it failed.
        changed: what became of a device that it changed something on.
        cautious: a wave that fails, or of which no device answers, is the last.
    """

    do: Callable[[Member, Report], Outcome]
    undo: Callable[[Member, Outcome, Report], str | None] | None = None
    changed: State = State.DONE
    cautious: bool = True


class Rollout:
    """A fleet, and what has become of each device so far.

    Attributes:
        rows: the table, in the fleet's order.
        interrupted: Ctrl-C was pressed.
        fault: the first exception that is a fault of this program.
    """

    def __init__(self, fleet: Sequence[Member], sizes: Sequence[int], act: Act, at_once: int, say: Say) -> None:
        """Nothing is begun yet.

        Args:
            fleet: the devices, in the order of the waves.
            sizes: of the waves, together as many.
            act: what they are to do.
            at_once: so many at a time.
            say: is told each step of each device.
        """
        self._fleet, self._act, self._at_once, self._say = fleet, act, at_once, say
        ends = list(itertools.accumulate(sizes))
        self.waves = [range(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        self.rows = [
            Row(device=fleet[index].device.name, wave=number)
            for number, wave in enumerate(self.waves, 1)
            for index in wave
        ]
        self.interrupted = False
        self.fault: Exception | None = None
        self._outcomes: dict[int, Outcome] = {}

    def run(self) -> None:
        """Wave by wave, to the end or to the first that fails.

        The first Ctrl-C begins no more devices, waits for those at work, and still takes back a wave that failed; a
        second one leaves at once.

        Raises:
            KeyboardInterrupt: the second.
        """
        for number, wave in enumerate(self.waves, 1):
            self._say("", "wave", f"{number} of {len(self.waves)}, devices: {len(wave)}")
            crew = Crew([partial(self._attend, index) for index in wave], self._at_once)
            self._see_through(crew, "no more devices are begun, and those at work finish", dismissed=True)
            states = {self.rows[index].state for index in wave}
            if self._act.undo and State.FAILED in states:
                self._take_back(wave)
            if self.interrupted or (self._act.cautious and (State.FAILED in states or states == {State.UNREACHABLE})):
                return

    def _see_through(self, crew: Crew, said: str, *, dismissed: bool) -> None:
        """Wait for a crew; what the first Ctrl-C says, and whether it dismisses the crew."""
        try:
            crew.begin()
            crew.wait()
        except KeyboardInterrupt:
            if self.interrupted:
                raise
            self.interrupted = True
            if dismissed:
                crew.dismiss()
            self._say("", "interrupt", f"{said}; Ctrl-C again leaves them to themselves")
            crew.begin()
            crew.wait()

    def _attend(self, index: int) -> bool:
        """Have one device do it; whether the next one may begin."""
        member, name = self._fleet[index], self.rows[index].device
        self._enter(index, State.AT_WORK, why="not known: it finishes what it had begun by itself")
        try:
            outcome = self._act.do(member, partial(self._say, name))
        except Unreachable as error:
            self._trouble(index, State.UNREACHABLE, error)
        except Exception as error:
            self._trouble(index, State.FAILED, error)
            return self._act.undo is None
        else:
            self._outcomes[index] = outcome
            runs, why = outcome.release, ""
            if member.order.shadow:
                runs, why = outcome.before or "", f"{outcome.release} is tried" if outcome.changed else ""
            state = self._act.changed if outcome.changed else State.UNCHANGED
            self._enter(index, state, before=outcome.before, after=runs, why=why)
        return True

    def _take_back(self, wave: range) -> None:
        """Have the devices of a wave go back, where it changed something on them; and see what the failed ones run."""
        done = [index for index in wave if self.rows[index].state is State.DONE]
        changed = [index for index in done if self._outcomes[index].release != self._outcomes[index].before]
        self._say("", "wave", f"failed; devices that go back: {len(changed)}")
        failed = [index for index in wave if self.rows[index].state is State.FAILED]
        jobs = [*(partial(self._undo, index) for index in changed), *(partial(self._look, index) for index in failed)]
        crew = Crew(jobs, self._at_once)
        self._see_through(crew, "what a wave that failed has changed is still taken back", dismissed=False)

    def _undo(self, index: int) -> bool:
        member, row, outcome = self._fleet[index], self.rows[index], self._outcomes[index]
        assert self._act.undo  # noqa: S101 - for the type checker: asked before
        try:
            runs = self._act.undo(member, outcome, partial(self._say, row.device))
        except Exception as error:
            self._trouble(index, State.NOT_ROLLED_BACK, error)
        else:
            self._enter(index, State.ROLLED_BACK, after=runs, why="" if runs else "none ran before, and none runs now")
        return True

    def _look(self, index: int) -> bool:
        with contextlib.suppress(Exception):  # its trouble itself is what counts
            runs = self._fleet[index].device.record().current
            self.rows[index] = msgspec.structs.replace(self.rows[index], after=runs)
        return True

    def _trouble(self, index: int, state: State, error: Exception) -> None:
        row = self.rows[index]
        why = " ".join(str(error).split()).removeprefix(f"{row.device}: ")
        if not isinstance(error, EdgeAsdError):
            self.fault = self.fault or error
            why = f"a fault in this program: {type(error).__name__}: {why}"
        self._enter(index, state, why=why)
        self._say(row.device, str(state), why)

    def _enter(self, index: int, state: State, **more: str | None) -> None:
        self.rows[index] = msgspec.structs.replace(self.rows[index], **{"state": state, "why": "", **more})
