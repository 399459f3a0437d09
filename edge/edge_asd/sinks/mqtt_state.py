"""How things stand, as a broker's subscribers read it: names that stay, whatever becomes of `Status`."""

from __future__ import annotations

import msgspec

from edge_asd.status import Status


def encode(status: Status) -> bytes:
    """A status in little, as JSON; what isn't known yet is null."""
    going_on = status.commissioning
    return msgspec.json.encode(
        {
            "alert": status.alert,
            "score": status.last_score,
            "threshold": status.threshold,
            "microphone_ok": not status.faults,
            "faults": status.faults,
            "sensor": status.sensor,
            "gated": status.gated,
            "level_dbfs": status.level_dbfs,
            "rms_dbfs": status.rms_dbfs,
            "machine": status.machine,
            "section": status.section,
            "bundle": status.bundle,
            "version": status.version,
            "scores": status.scores,
            "heard_seconds": round(status.heard_seconds, 1),
            "lost_samples": status.lost_samples,
            "storage_ok": not status.storage,
            "clock_synchronised": status.synchronised,
            "site": status.site,
            "commissioning": None if going_on is None else {"phase": going_on.phase, "done": round(going_on.done, 3)},
            "updated": status.updated,
        }
    )
