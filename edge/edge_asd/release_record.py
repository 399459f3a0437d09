"""Which releases proved themselves, and how a release is called: what `committed.json` holds, as values."""

from __future__ import annotations

import re

import msgspec

MOST_RELEASES = 3  # current, previous and one more: each may hold a whole environment, and cards are small

_ID = re.compile(r"[0-9A-Za-z_-]{1,32}-(?P<bundle>[0-9a-f]{16})(?:\.(?P<runtime>[0-9a-f]{8}))?")


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is committed.

    Attributes:
        releases: their ids, the current one first, then the previous one.
        shadow: the release that is tried beside the current one; None where none is.
    """

    releases: tuple[str, ...] = ()
    shadow: str | None = None

    @property
    def current(self) -> str | None:
        """The release that runs, or None before the first."""
        return self.releases[0] if self.releases else None

    @property
    def previous(self) -> str | None:
        """The release that ran before, or None."""
        return self.releases[1] if len(self.releases) > 1 else None

    def with_current(self, release: str) -> Record:
        """The record after `release` took over: it first, the one that it replaced second, no more than three."""
        others = (other for other in self.releases if other != release)
        return Record((release, *others)[:MOST_RELEASES], self.shadow)

    def with_shadow(self, release: str | None) -> Record:
        """The record with this release as shadow, or with none."""
        return Record(self.releases, release)

    @property
    def named(self) -> tuple[str, ...]:
        """All releases that it knows."""
        return (*self.releases, self.shadow) if self.shadow and self.shadow not in self.releases else self.releases


def release_id(machine: str, bundle: str, runtime: str = "") -> str:
    """The id of a release, and so the name of its folder: whose bundle it is, and on a device in which runtime.

    Args:
        machine: the bundle's machine type.
        bundle: its digest, 16 hexadecimal digits.
        runtime: id of a runtime that travelled to the device; "" for the environment that a stand-in is lent.
    """
    return f"{machine}-{bundle}" + (f".{runtime[:8]}" if runtime else "")


def is_release_id(text: str) -> bool:
    """Whether a text can be a release's id."""
    return _ID.fullmatch(text) is not None


def bundle_of(release: str) -> str:
    """The digest of the bundle of a release with this id; "" where that can't be one."""
    found = _ID.fullmatch(release)
    return found["bundle"] if found else ""
