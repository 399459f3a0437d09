"""What a device has, what it would be given, and what that would change; from what it says of itself."""

from __future__ import annotations

from collections.abc import Sequence

from edge_asd import strict
from edge_asd.errors import DeploymentError
from edge_asd.release_record import Record, is_release_id
from edge_asd_tools.deploy.device import Order
from edge_asd_tools.deploy.luggage import Item, Luggage
from edge_asd_tools.deploy.visit import Facts

MEGABYTE = 1e6
UNPACKED = 4  # times its size a wheel needs on the disk


def committed(facts: Facts) -> Record:
    """The device's record. Raises: DeploymentError."""
    try:
        record = strict.decoded(facts.record, Record) if facts.record else Record()
    except ValueError as error:
        raise DeploymentError(f"{facts.host}: its committed.json can't be understood ({error}).") from error
    if not all(map(is_release_id, record.named)):
        raise DeploymentError(f"{facts.host}: its committed.json names what can't be a release.")
    return record


def needed(facts: Facts, packed: Luggage, order: Order) -> tuple[Item, ...]:
    """What the device needs of it: of a runtime that it has, and of one for a shadow, nothing."""
    return packed.parcel.items if order.shadow or packed.runtime_id in facts.runtimes else packed.items


def changes(
    facts: Facts, packed: Luggage, items: Sequence[Item], here: dict[str, int], written: str | None
) -> list[str]:
    """What is different between what is there and what would be."""
    record = committed(facts)
    after = record.with_current(packed.release)
    found = []
    if wheels := [item for item in items if item.kind == "wheel"]:
        found.append(f"send {megabytes(missing(wheels, here))} MB of wheels")
        found.append(f"make the environment {packed.runtime_id}, {len(wheels)} packages")
    if lacking := missing(packed.parcel.items, here):
        found.append(f"send the bundle, {megabytes(lacking)} MB")
    if written is not None:
        found.append("write /etc/edge-asd/device.toml, the site's own from then on")
    if record.current is None:
        found.append("make the account edge-asd, and enable edge-asd.service")
    if record.current and not facts.serves:
        found.append("start edge-asd.service, which doesn't run")
    if after.current != record.current:
        found.append(f"switch from {record.current or 'nothing'} to {after.current}, and start it")
    return found + [f"remove {old}" for old in record.named if old not in after.named]


def missing(items: Sequence[Item], here: dict[str, int]) -> int:
    """Bytes of these that aren't there."""
    return sum(item.size - here[item.sha256] for item in items)


def room(items: Sequence[Item]) -> int:
    """Bytes that these need beside themselves when they are unpacked."""
    return UNPACKED * sum(item.size for item in items if item.kind == "wheel")


def megabytes(size: int) -> str:
    """A size in bytes, for people."""
    return f"{size / MEGABYTE:.1f}"
