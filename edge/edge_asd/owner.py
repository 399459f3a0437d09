"""Whom the state folder belongs to: root that works there becomes them first.

What root wrote there its owner couldn't write any more; and an owner who was broken into could lay links for root to
write through.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def act_as_owner(state: Path) -> None:
    """Become the owner of the folder, with their groups, where root calls and the folder is somebody else's."""
    if os.geteuid() != 0 or not state.exists():
        return
    owner = state.stat()
    if owner.st_uid == 0:
        return
    try:
        groups = os.getgrouplist(pwd.getpwuid(owner.st_uid).pw_name, owner.st_gid)  # audio, too, for the microphone
    except KeyError:  # an account that is gone
        groups = [owner.st_gid]
    os.setgroups(groups)
    os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
    os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)  # for good: what listens to the world can't come back
