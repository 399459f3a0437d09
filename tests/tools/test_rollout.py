"""A release and a fleet: which devices get it, which of them go back, and who is where at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from common import until
from edge_asd.errors import CheckFailed, DeploymentError, EdgeAsdError, NotAdmitted, Unreachable
from edge_asd.release_record import Record
from edge_asd.transaction import Report
from edge_asd_tools.deploy import fleet_commands, waves
from edge_asd_tools.deploy.device import Order, Outcome
from edge_asd_tools.deploy.rollout import Act, Member, Rollout, State

OLD, NEW = "fan-" + "0" * 16, "fan-" + "1" * 16
ORDER = Order(Path("fan.easd"))


@dataclass
class FakeDevice:
    """A device in memory: what runs there, and what it does when it is asked."""

    name: str
    release: str | None = OLD
    previous: str | None = None
    trouble: Exception | None = None
    trouble_back: Exception | None = None
    work: Callable[[], None] = lambda: None
    tried: str | None = None
    asked: list[str] = field(default_factory=list)

    def record(self) -> Record:
        return Record(tuple(one for one in (self.release, self.previous) if one))

    def plan(self, order: Order) -> list[str]:
        self._ask("plan", self.trouble)
        return [] if self.release == NEW else [f"switch from {self.release} to {NEW}"]

    def deploy(self, order: Order, report: Report) -> Outcome:
        self._ask("deploy", None)
        self.work()
        before = self.release
        if self.trouble:
            raise self.trouble
        if order.shadow:
            had, self.tried = self.tried, NEW
            return Outcome(NEW, changed=had != NEW, before=before)
        if before == NEW:
            report("unchanged", f"{NEW} runs already")
            return Outcome(NEW, changed=False, before=before)
        report("commit", f"{NEW} runs")
        self.release, self.previous = NEW, before
        return Outcome(NEW, changed=True, before=before)

    def rollback(self, order: Order, report: Report) -> Outcome:
        self._ask("rollback", self.trouble_back)
        if self.previous is None:
            raise DeploymentError(f"{self.name}: there is none to go back to.")
        self.release, self.previous = self.previous, self.release
        return Outcome(self.release, changed=True, before=self.previous)

    def promote(self, order: Order, report: Report) -> Outcome:
        raise NotImplementedError

    def drop(self, order: Order, report: Report) -> Outcome:
        self._ask("drop", self.trouble_back)
        self.tried = None
        return Outcome(self.release or "", changed=True, before=self.release)

    def undeploy(self, *, data: bool) -> list[str]:
        self._ask("undeploy, data and all" if data else "undeploy", self.trouble_back)
        self.release = None
        return ["/opt/edge-asd"]

    def _ask(self, what: str, trouble: Exception | None) -> None:
        self.asked.append(what)
        if trouble:
            raise trouble


Said = list[tuple[str, str, str]]


@dataclass
class Plant:
    """A fleet of such devices."""

    devices: list[FakeDevice]
    said: Said = field(default_factory=list)

    def rollout(
        self,
        wave: str | None = None,
        *,
        act: Act = fleet_commands.DEPLOYMENT,
        at_once: int = 4,
        order: Order = ORDER,
    ) -> Rollout:
        members = [Member(device, order) for device in self.devices]
        say = lambda *line: self.said.append(line)  # noqa: E731
        return Rollout(members, waves.sizes(len(members), wave), act, at_once, say)

    def run(self, wave: str | None = None, **more: object) -> Rollout:
        rollout = self.rollout(wave, **more)  # type: ignore[arg-type]
        rollout.run()
        return rollout

    @property
    def running(self) -> list[str | None]:
        return [device.release for device in self.devices]

    @property
    def asked(self) -> list[list[str]]:
        return [device.asked for device in self.devices]


def plant(count: int, **of_one: FakeDevice) -> Plant:
    """So many devices d0, d1 ..., some of them of one's own."""
    return Plant([of_one.get(f"d{number}", FakeDevice(f"d{number}")) for number in range(count)])


def states(rollout: Rollout) -> list[State]:
    return [row.state for row in rollout.rows]


def ending(rollout: Rollout) -> EdgeAsdError | None:
    try:
        fleet_commands._end(rollout)
    except EdgeAsdError as error:
        return error
    return None


def test_all_get_it_wave_by_wave_in_the_files_order() -> None:
    ours = plant(8)
    order: list[str] = []
    for device in ours.devices:
        device.work = lambda name=device.name: order.append(name)  # type: ignore[misc]
    rollout = ours.run("1,2")
    assert ours.running == [NEW] * 8
    assert [row.wave for row in rollout.rows] == [1, 2, 2, 3, 3, 3, 3, 3]
    assert set(states(rollout)) == {State.DONE}
    assert [set(order[:1]), set(order[1:3])] == [{"d0"}, {"d1", "d2"}]
    assert {(row.before, row.after) for row in rollout.rows} == {(OLD, NEW)}
    assert ending(rollout) is None
    assert ("d3", "commit", f"{NEW} runs") in ours.said


def test_so_many_at_a_time_and_no_more() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work() -> None:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.01)
        with lock:
            now -= 1

    ours = plant(12)
    for device in ours.devices:
        device.work = work
    ours.run(at_once=3)
    assert most == 3
    assert ours.running == [NEW] * 12


def test_a_wave_that_fails_goes_back_and_is_the_last() -> None:
    """Exactly what it changed goes back: neither the wave before, nor what ran it already."""
    refused = DeploymentError("d4: fan was refused. Now fan runs as before.")
    ours = plant(7, d3=FakeDevice("d3", NEW, previous=OLD), d4=FakeDevice("d4", trouble=refused))
    rollout = ours.run("1,4", at_once=1)
    assert ours.running == [NEW, OLD, OLD, NEW, OLD, OLD, OLD]
    assert ours.asked[:5] == [["deploy"], ["deploy", "rollback"], ["deploy", "rollback"], ["deploy"], ["deploy"]]
    assert ours.asked[5:] == [[], []]
    back, left = State.ROLLED_BACK, State.NOT_BEGUN
    assert states(rollout) == [State.DONE, back, back, State.UNCHANGED, State.FAILED, left, left]
    failed = rollout.rows[4]
    assert (failed.after, failed.why) == (OLD, "fan was refused. Now fan runs as before.")
    assert rollout.rows[1].after == OLD
    error = ending(rollout)
    assert isinstance(error, DeploymentError)
    assert "wave 2 failed on d4 (fan was refused. Now fan runs as before); not begun: 2 of 7 devices." in str(error)


def test_a_wave_that_has_failed_begins_no_more_devices() -> None:
    ours = plant(5, d1=FakeDevice("d1", trouble=DeploymentError("d1: no")))
    rollout = ours.run(at_once=1)
    assert ours.asked[2:] == [[], [], []]
    assert states(rollout) == [State.ROLLED_BACK, State.FAILED, *[State.NOT_BEGUN] * 3]


def test_those_at_work_when_the_wave_fails_are_waited_for_and_go_back() -> None:
    failed = threading.Event()
    slow = FakeDevice("d0", work=lambda: bool(failed.wait(10)) or None)
    broken = FakeDevice("d1", trouble=DeploymentError("d1: no"))
    ours = plant(2, d0=slow, d1=broken)
    rollout = ours.rollout(at_once=2)
    thread = threading.Thread(target=rollout.run)
    thread.start()
    until(lambda: rollout.rows[1].state is State.FAILED)
    failed.set()
    thread.join(10)
    assert states(rollout) == [State.ROLLED_BACK, State.FAILED]
    assert slow.release == OLD


def test_a_first_deployment_is_removed_and_its_data_kept() -> None:
    ours = plant(2, d0=FakeDevice("d0", None), d1=FakeDevice("d1", trouble=DeploymentError("d1: no")))
    rollout = ours.run(at_once=1)
    assert ours.asked[0] == ["deploy", "undeploy"]
    assert (rollout.rows[0].state, rollout.rows[0].before, rollout.rows[0].after) == (State.ROLLED_BACK, None, None)
    assert "none ran before" in rollout.rows[0].why


def test_what_was_only_made_whole_again_does_not_go_further_back() -> None:
    """A damaged release is laid anew: its previous one is older than what ran before this command."""
    mended = FakeDevice("d0", previous=OLD)
    mended.deploy = lambda order, report: Outcome(NEW, changed=True, before=NEW)  # type: ignore[method-assign]
    ours = plant(2, d0=mended, d1=FakeDevice("d1", trouble=DeploymentError("d1: no")))
    assert states(ours.run(at_once=1)) == [State.DONE, State.FAILED]
    assert mended.asked == []


def test_a_trial_that_failed_is_ended_and_nothing_is_rolled_back() -> None:
    broken = FakeDevice("d2", trouble=DeploymentError("d2: no"))
    ours = plant(3, d1=FakeDevice("d1", tried=NEW), d2=broken)
    rollout = ours.run(at_once=1, order=replace(ORDER, shadow=True))
    assert ours.asked == [["deploy", "drop"], ["deploy"], ["deploy"]]
    assert [device.tried for device in ours.devices] == [None, NEW, None]
    assert states(rollout) == [State.ROLLED_BACK, State.UNCHANGED, State.FAILED]
    broken.trouble = None
    rollout = ours.run(order=replace(ORDER, shadow=True))
    assert [(row.before, row.after, row.why) for row in rollout.rows] == [
        (OLD, OLD, f"{NEW} is tried"),
        (OLD, OLD, ""),
        (OLD, OLD, f"{NEW} is tried"),
    ]


def test_what_cannot_go_back_is_listed() -> None:
    stuck = FakeDevice("d0", trouble_back=Unreachable("d0: can't be reached"))
    ours = plant(3, d0=stuck, d2=FakeDevice("d2", trouble=DeploymentError("d2: no")))
    rollout = ours.run(at_once=1)
    assert states(rollout) == [State.NOT_ROLLED_BACK, State.ROLLED_BACK, State.FAILED]
    assert (rollout.rows[0].after, rollout.rows[0].why) == (NEW, "can't be reached")
    assert "could not be rolled back: d0" in str(ending(rollout))


def test_the_unreachable_are_listed_and_nobody_waits_for_them() -> None:
    off = FakeDevice("d1", trouble=Unreachable("d1: can't be reached (timed out)"))
    strange = FakeDevice("d3", trouble=NotAdmitted("d3: an unknown host"))
    ours = plant(5, d1=off, d3=strange)
    rollout = ours.run("2,2")
    assert ours.running == [NEW, OLD, NEW, OLD, NEW]
    assert [row.state is State.UNREACHABLE for row in rollout.rows] == [False, True, False, True, False]
    assert (rollout.rows[1].why, rollout.rows[3].why) == ("can't be reached (timed out)", "an unknown host")
    error = ending(rollout)
    assert isinstance(error, CheckFailed)
    assert "2 of 5 devices could not be reached: d1, d3." in str(error)


def test_a_wave_that_nobody_answered_proves_nothing() -> None:
    ours = plant(4, d0=FakeDevice("d0", trouble=Unreachable("d0: can't be reached")))
    rollout = ours.run("1")
    assert ours.asked[1:] == [[], [], []]
    error = ending(rollout)
    assert isinstance(error, DeploymentError)
    assert "no device of wave 1 could be reached, which proves nothing" in str(error)
    assert "not begun: 3 of 4 devices" in str(error)
    alone = plant(1, d0=ours.devices[0]).run("1")
    assert isinstance(ending(alone), CheckFailed)  # the last wave has no next one


def test_the_same_command_again_goes_on_where_it_stopped() -> None:
    broken = FakeDevice("d2", trouble=DeploymentError("d2: no"))
    ours = plant(6, d2=broken)
    ours.run("1,2")
    assert ours.running == [NEW, OLD, OLD, OLD, OLD, OLD]
    broken.trouble = None
    rollout = ours.run("1,2")
    assert ours.running == [NEW] * 6
    assert states(rollout) == [State.UNCHANGED, *[State.DONE] * 5]
    assert set(states(ours.run("1,2"))) == {State.UNCHANGED}


def test_a_fault_of_ours_in_one_device_does_not_lose_the_others() -> None:
    fault = ZeroDivisionError("d1: of all things")
    ours = plant(3, d1=FakeDevice("d1", trouble=fault))
    rollout = ours.run("2", at_once=1)
    assert states(rollout) == [State.ROLLED_BACK, State.FAILED, State.NOT_BEGUN]
    assert rollout.rows[1].why == "a fault in this program: ZeroDivisionError: of all things"
    with pytest.raises(ZeroDivisionError):
        fleet_commands._end(rollout)


def ctrl_c() -> None:
    """As from a terminal: the main thread is woken by it."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def press_ctrl_c(rollout: Rollout, at_work: int, then: Sequence[Callable[[], None]]) -> threading.Thread:
    """Beside the main thread: once so many devices are at work, interrupt it, and do the rest."""

    def press() -> None:
        until(lambda: states(rollout).count(State.AT_WORK) == at_work)
        ctrl_c()
        for act in then:
            act()

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    return thread


def test_ctrl_c_begins_no_more_and_waits_for_those_at_work() -> None:
    go_on = threading.Event()
    ours = plant(6)
    for device in ours.devices:
        device.work = lambda: bool(go_on.wait(10)) or None  # type: ignore[assignment]
    rollout = ours.rollout("4", at_once=2)
    thread = press_ctrl_c(rollout, 2, [lambda: until(lambda: rollout.interrupted), go_on.set])
    rollout.run()
    thread.join(10)
    assert states(rollout) == [State.DONE, State.DONE, *[State.NOT_BEGUN] * 4]
    assert ours.asked[2:] == [[]] * 4
    assert any(step == "interrupt" for _, step, _ in ours.said)
    with pytest.raises(KeyboardInterrupt):
        fleet_commands._end(rollout)
    assert set(states(ours.run("4"))) == {State.UNCHANGED, State.DONE}


def test_a_wave_that_failed_goes_back_in_spite_of_ctrl_c() -> None:
    go_on = threading.Event()
    ours = plant(4, d1=FakeDevice("d1", trouble=DeploymentError("d1: no")))
    for device in ours.devices[:2]:
        device.work = lambda: bool(go_on.wait(10)) or None  # type: ignore[assignment]
    rollout = ours.rollout("2", at_once=2)
    thread = press_ctrl_c(rollout, 2, [lambda: until(lambda: rollout.interrupted), go_on.set])
    rollout.run()
    thread.join(10)
    assert states(rollout) == [State.ROLLED_BACK, State.FAILED, State.NOT_BEGUN, State.NOT_BEGUN]


def test_ctrl_c_twice_leaves_at_once() -> None:
    never = threading.Event()
    ours = plant(2, d0=FakeDevice("d0", work=lambda: bool(never.wait(60)) or None))
    rollout = ours.rollout("1", at_once=1)
    thread = press_ctrl_c(rollout, 1, [lambda: until(lambda: rollout.interrupted), ctrl_c])
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        rollout.run()
    assert time.monotonic() - begun < 30
    thread.join(10)
    assert states(rollout) == [State.AT_WORK, State.NOT_BEGUN]
    assert "finishes what it had begun by itself" in rollout.rows[0].why
    never.set()


def test_ctrl_c_a_second_time_while_a_wave_goes_back_leaves_too() -> None:
    go_on, never = threading.Event(), threading.Event()
    ours = plant(2, d1=FakeDevice("d1", trouble=DeploymentError("d1: no")))
    for device in ours.devices:
        device.work = lambda: bool(go_on.wait(10)) or None  # type: ignore[assignment]
    back = ours.devices[0]
    back.rollback = lambda order, report: never.wait(60)  # type: ignore[method-assign, assignment, return-value]
    rollout = ours.rollout(at_once=2)

    def again() -> None:
        until(lambda: any("go back" in outcome for _, _, outcome in ours.said))
        time.sleep(0.1)
        ctrl_c()

    thread = press_ctrl_c(rollout, 2, [lambda: until(lambda: rollout.interrupted), go_on.set, again])
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        rollout.run()
    assert time.monotonic() - begun < 30
    thread.join(10)
    never.set()


def test_who_leaves_waits_for_no_thread() -> None:
    program = (
        "import threading; from edge_asd_tools.deploy.crew import Crew; Crew([threading.Event().wait], 1).begin();"
        "print('left')"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (finished.returncode, finished.stdout) == (0, "left\n")


def test_a_dry_run_asks_all_and_changes_none() -> None:
    off = FakeDevice("d0", trouble=Unreachable("d0: can't be reached"))
    ours = plant(4, d0=off, d1=FakeDevice("d1", trouble=DeploymentError("d1: no")), d2=FakeDevice("d2", NEW))
    rollout = ours.run("1,1", act=fleet_commands.PLAN)
    assert ours.asked == [["plan"]] * 4
    assert states(rollout) == [State.UNREACHABLE, State.FAILED, State.UNCHANGED, State.WOULD_CHANGE]
    assert ("d3", "would", f"switch from {OLD} to {NEW}") in ours.said


def test_a_bundle_is_taken_back_where_it_runs_and_only_once() -> None:
    """A rollback twice goes forward again, so it is said whence."""
    there = [FakeDevice(f"d{number}", NEW, previous=OLD) for number in range(3)]
    ours = plant(5, d0=there[0], d1=there[1], d2=FakeDevice("d2", None), d3=there[2])
    act = fleet_commands._taking_back("1" * 16)
    rollout = ours.run(act=act)
    assert ours.running == [OLD, OLD, None, OLD, OLD]
    assert states(rollout) == [State.DONE, State.DONE, State.UNCHANGED, State.DONE, State.UNCHANGED]
    assert (rollout.rows[0].before, rollout.rows[0].after) == (NEW, OLD)
    assert set(states(ours.run(act=act))) == {State.UNCHANGED}
    assert ours.running == [OLD, OLD, None, OLD, OLD]


def test_taking_back_goes_on_with_its_wave_and_takes_nothing_forward() -> None:
    first = FakeDevice("d0", NEW)  # which has none to go back to
    same = FakeDevice("d1", f"{NEW}.00000002", previous=f"{NEW}.00000001")
    ours = plant(4, d0=first, d1=same, **{name: FakeDevice(name, NEW, previous=OLD) for name in ("d2", "d3")})
    rollout = ours.run("3", act=fleet_commands._taking_back("1" * 16), at_once=1)
    assert ours.running == [NEW, f"{NEW}.00000002", OLD, NEW]
    assert states(rollout) == [State.FAILED, State.FAILED, State.DONE, State.NOT_BEGUN]
    assert "the same bundle in another environment" in rollout.rows[1].why
    assert isinstance(ending(rollout), DeploymentError)


def test_the_table_says_who_is_where() -> None:
    ours = plant(3, d1=FakeDevice("d1", None), d2=FakeDevice("d2", trouble=Unreachable("d2: is off")))
    assert fleet_commands.table(ours.run("1").rows) == [
        "device  wave  before                after                 state",
        f"d0      1     {OLD}  {NEW}  done",
        f"d1      2     -                     {NEW}  done",
        "d2      2     -                     -                     unreachable: is off",
    ]


def test_many_names_are_cut_short() -> None:
    ours = plant(9, **{f"d{n}": FakeDevice(f"d{n}", trouble=Unreachable(f"d{n}: is off")) for n in range(1, 9)})
    assert "8 of 9 devices could not be reached: d1, d2, d3, d4, d5 and 3 more." in str(ending(ours.run()))
