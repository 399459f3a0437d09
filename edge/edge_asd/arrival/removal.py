"""Everything that deployments brought goes again, in an order that leaves nothing half of which looks whole."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from edge_asd.arrival.places import Places, Refused, exit_code_of
from edge_asd.arrival.runtimes import UNIT

ACCOUNT = "edge-asd"
UNIT_LINK = Path("/etc/systemd/system") / UNIT


def remove(places: Places, *, data: bool) -> list[str]:
    """Remove what was deployed, the folder by which deployments find their way last; what was removed.

    Args:
        places: of the device, or of a folder that stands for one.
        data: the site's settings and events go, too.

    Raises:
        Refused: another deployment is at work, or the daemon doesn't stop.
    """
    gone = [*([places.etc, places.state] if data else []), places.home]
    gone = [folder for folder in gone if folder.is_dir()]
    if not gone:
        return []
    with places.alone():
        if places.root == Path("/"):
            _withdraw(data=data)
        for folder in (places.runtimes, places.releases):
            if folder.is_dir():  # half of one would be taken for whole
                folder.rename(folder.with_name(f".gone-{folder.name}"))
        for folder in dict.fromkeys([*gone, places.home]):  # the lock made that one, if it wasn't there
            shutil.rmtree(folder)
    return [str(folder) for folder in gone]


def _withdraw(*, data: bool) -> None:
    """Stop the daemon for good; with the data its account goes. Raises: Refused where it goes on."""
    exit_code_of("systemctl", "disable", "--quiet", "--now", UNIT)
    if exit_code_of("systemctl", "is-active", "--quiet", UNIT) == 0:
        raise Refused(f"{UNIT} doesn't stop; see `systemctl status {UNIT}` there.")
    with suppress(FileNotFoundError):
        UNIT_LINK.unlink()
    exit_code_of("systemctl", "daemon-reload")
    shutil.rmtree("/run/edge-asd", ignore_errors=True)
    if data:
        exit_code_of("userdel", ACCOUNT)
