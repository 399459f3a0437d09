"""A device on the network. The host copies and asks; the transaction is the device's own (`edge_asd.release`)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from edge_asd import config, progress, release_steps
from edge_asd.errors import DeploymentError, NotAdmitted, SignatureError, Unreachable
from edge_asd.release_record import Record
from edge_asd.release_tree import Tree
from edge_asd.transaction import Report
from edge_asd_tools.deploy import boards, first_config, lock, remote_plan
from edge_asd_tools.deploy.device import Order, Outcome
from edge_asd_tools.deploy.luggage import Item, Luggage, Packer
from edge_asd_tools.deploy.ssh import Transport
from edge_asd_tools.deploy.visit import Broken, Facts, Visit, visit

AGAIN_SECONDS = 3.0  # between two looks at a device that goes on alone
ALONE_SECONDS = 420.0  # in which it has proved its release, or taken it back
RECONNECT_SECONDS = (1.0, 2.0, 4.0, 8.0)  # after an upload broke off


@dataclass(frozen=True)
class RemoteDevice:
    """A device and the way to it.

    Attributes:
        transport: the way.
        packer: what it gets, which a fleet shares.
        quiet: it is one of many: it draws no bar, and its board was stated for all times.
    """

    transport: Transport
    packer: Packer = field(default_factory=Packer)
    quiet: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return self.transport.name

    def record(self) -> Record:
        """What is committed there. Raises: Unreachable, DeploymentError."""
        with visit(self.transport) as there:
            return remote_plan.committed(there.look())

    def plan(self, order: Order) -> list[str]:
        """What `deploy` would change, a line each. Nothing is sent and nothing changed.

        Raises:
            Unreachable, BundleError, UsageError, ConfigError, StorageError: as `deploy` raises them before it begins.
        """
        with visit(self.transport) as there:
            facts = self._look(there)
            packed, written = self._packed(facts, order)
            items = remote_plan.needed(facts, packed, order)
            here = there.expect([item.expected for item in items], remote_plan.room(items), dry=True)
        if order.shadow:
            return [
                f"send {remote_plan.megabytes(remote_plan.missing(items, here))} MB",
                "try the bundle beside the one that runs",
            ]
        return remote_plan.changes(facts, packed, items, here, written)

    def deploy(self, order: Order, report: Report) -> Outcome:
        """Install or update the device, or give it a bundle to try; an upload that breaks off is gone on with.

        Raises:
            Unreachable: the device can't be reached, or the connection broke before the device's own part.
            BundleError, UsageError, ConfigError, StorageError: before anything was changed.
            DeploymentError: the device refused or took it back, or broke the connection meanwhile and isn't heard of.
        """
        with self._supplied(order, report) as supplied:
            try:
                return _carried_out(supplied, order, report)
            except Broken as error:
                if order.shadow:
                    raise
                report("reconnect", str(error))
        return self._came_of(supplied, report)

    def rollback(self, order: Order, report: Report) -> Outcome:
        """Go back to the release before. Raises: Unreachable, DeploymentError."""
        return self._step("rollback", order, report)

    def promote(self, order: Order, report: Report) -> Outcome:
        """Let the bundle that is tried take over. Raises: Unreachable, DeploymentError."""
        return self._step("promote", order, report)

    def drop(self, order: Order, report: Report) -> Outcome:
        """End the trial of a bundle. Raises: Unreachable, DeploymentError."""
        return self._step("drop", order, report)

    def undeploy(self, *, data: bool) -> list[str]:
        """Remove what was deployed, and what the site keeps where `data` says so. Raises: Unreachable, StorageError."""
        with visit(self.transport) as there:
            return there.remove(data=data)

    def _step(self, step: str, order: Order, report: Report) -> Outcome:
        with visit(self.transport) as there:
            before = self._look(there)
            there.run(step, report, options=_options(order, "--accept-deaf") if step != "drop" else ())
            after = there.look()
        return Outcome(after.current or "", changed=True, before=remote_plan.committed(before).current)

    def _came_of(self, supplied: _Supplied, report: Report) -> Outcome:
        """What came of a release that was taking over when the connection broke: the device finishes it alone.

        Raises:
            DeploymentError: it didn't take over, or the device isn't heard of any more, which may be its doing.
        """
        release = supplied.packed.release
        patience = time.monotonic() + ALONE_SECONDS
        why = ""
        while time.monotonic() < patience:
            time.sleep(AGAIN_SECONDS)
            try:
                with visit(self.transport) as there:
                    facts = there.look()
            except Unreachable as error:
                why = str(error)
                continue
            runs = remote_plan.committed(facts).current
            if runs == release and not facts.busy:
                report("commit", f"{release} runs, as the device says after the connection broke")
                return Outcome(release, changed=True, before=remote_plan.committed(supplied.facts).current)
            if not facts.busy:
                raise DeploymentError(
                    f"{self.name}: the connection broke, and {release} didn't take over; {runs or 'nothing'} runs. "
                    "Run the same command again."
                )
            why = f"{self.name}: is still at work on it"
        raise DeploymentError(f"{why}. Which release it runs isn't known; run the same command again.")

    @contextmanager
    def _supplied(self, order: Order, report: Report) -> Iterator[_Supplied]:
        """A visit in which all is there that it takes; connected to again where the upload broke off."""
        waits: Iterator[float] | None = None  # what can't be reached at all isn't waited for
        while True:
            with ExitStack() as stack:
                try:
                    there = stack.enter_context(visit(self.transport))
                    facts = self._look(there)
                    report("connect", f"{facts.model or facts.machine}, Python {facts.python}, called {facts.host}")
                    packed, written = self._packed(facts, order)
                    waits = waits or iter(RECONNECT_SECONDS)
                    self._send(there, remote_plan.needed(facts, packed, order), report)
                except Unreachable as error:
                    if isinstance(error, NotAdmitted) or (seconds := next(waits or iter(()), None)) is None:
                        raise
                    report("reconnect", f"in {seconds:g} s: {error}")
                    time.sleep(seconds)
                    continue
                yield _Supplied(there, facts, packed, written)
                return

    def _look(self, there: Visit) -> Facts:
        facts = there.look()
        if not facts.systemd and self.transport.root == "/":
            raise DeploymentError(f"{self.name}: has no systemd, which starts the daemon there; use a system that has.")
        return facts

    def _packed(self, facts: Facts, order: Order) -> tuple[Luggage, str | None]:
        """What it gets, and the text of its first settings where it has none."""
        board = boards.read(order.board or boards.of_model(facts.model, facts.machine))
        one = self.packer.parcel(order.bundle)
        if facts.signers and not one.signature:
            raise SignatureError(
                f"{order.bundle}: not signed, and {self.name} takes signed bundles alone; sign it: "
                f"edge-asd bundle sign {order.bundle} --key ~/.ssh/id_ed25519"
            )
        needed = lock.read(facts.machine, facts.python).glibc
        if _numbers(facts.glibc) < _numbers(needed):
            raise DeploymentError(
                f"{self.name}: has glibc {facts.glibc}, what listens needs {needed}; use a later system."
            )
        written = self._first_config(facts, order, board, sorted(one.bundle.manifest.sections))
        return self.packer.pack(one, board, facts.machine, facts.python), written

    def _first_config(self, facts: Facts, order: Order, board: boards.Board, sections: Sequence[str]) -> str | None:
        if facts.config is None:
            return first_config.compose(board, order.wishes, sections)
        path = Tree(Path(self.transport.root)).config
        stated = None if self.quiet else order.board
        site = config.parse(facts.config, path)
        first_config.hold_against(site, order.wishes, stated, path)
        release_steps.check_section(path, site.section, sections)
        return None

    def _send(self, there: Visit, items: Sequence[Item], report: Report) -> None:
        here = there.expect([item.expected for item in items], remote_plan.room(items))
        missing, total = remote_plan.missing(items, here), sum(item.size for item in items)
        if not missing:
            report("send", f"nothing: all {remote_plan.megabytes(total)} MB are there")
            return
        begun = any(0 < here[item.sha256] < item.size for item in items)
        with nullcontext() if self.quiet else progress.bar(f"{self.name}, kB", missing // 1000) as bar:
            sent = 0

            def advance(piece: int) -> None:
                nonlocal sent
                if bar:
                    bar.advance((sent + piece) // 1000 - sent // 1000)
                sent += piece

            for item in items:
                if here[item.sha256] < item.size:
                    with item.opened() as content:
                        there.take(item.expected, here[item.sha256], content, advance)
        rest = ", on from where an upload broke off" if begun else ""
        report("send", f"{remote_plan.megabytes(missing)} MB of {remote_plan.megabytes(total)}{rest}")


@dataclass(frozen=True)
class _Supplied:
    """A visit to a device that has all it takes, and the text of its first settings where it has none."""

    there: Visit
    facts: Facts
    packed: Luggage
    written: str | None


def _carried_out(supplied: _Supplied, order: Order, report: Report) -> Outcome:
    """The device's own part."""
    there, packed = supplied.there, supplied.packed
    steps: set[str] = set()

    def passed_on(step: str, outcome: str) -> None:
        steps.add(step)
        report(step, outcome)

    one = packed.parcel
    parcel = {"name": one.name, "bundle": one.sha256, "signature": one.signature}
    release: str | None = packed.release
    if order.shadow:
        there.run("shadow", passed_on, **parcel, options=_options(order, "--allow-older"))
        release = remote_plan.committed(there.look()).shadow  # in the runtime that is there
    else:
        there.build(packed.runtime, passed_on)
        options = _options(order, "--accept-deaf", "--allow-older")
        runtime = packed.runtime_id
        there.run("activate", passed_on, runtime=runtime, first_config=supplied.written, options=options, **parcel)
    return Outcome(release or packed.release, "unchanged" not in steps, remote_plan.committed(supplied.facts).current)


def _options(order: Order, *known: str) -> list[str]:
    wanted = {"--accept-deaf": order.accept_deaf, "--allow-older": order.allow_older}
    return [option for option in known if wanted[option]]


def _numbers(version: str) -> tuple[int, ...]:
    """Of a version such as "2.36"; none where it isn't one."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())
