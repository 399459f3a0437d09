"""A page on the device: what it hears at this moment, what it heard, how it is. Offline, for a desk or a phone."""

from __future__ import annotations

from edge_asd.page.server import EventLog, PageServer

__all__ = ["EventLog", "PageServer"]
