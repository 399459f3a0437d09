"""When a run's bundle counts as made: an input like any other, so that the same inputs give the same bytes.

It is what SOURCE_DATE_EPOCH says, as reproducible builds have it, else the moment at which the run was begun. The run's
folder keeps it for as long as clips, numbers and program are the same: a run that goes on, or is repeated, ends with
the same bundle, and one that was trained anew is the newer one to a device that takes none that is older.
"""

from __future__ import annotations

import os
import re
import time

import msgspec

from edge_asd import manifest
from edge_asd.errors import ConfigError
from edge_asd_trainer.run_folder import Made, RunFolder, write_json

VARIABLE = "SOURCE_DATE_EPOCH"


def stated() -> int | None:
    """What SOURCE_DATE_EPOCH says; None where it isn't set. Raises: ConfigError where it is no such moment."""
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    try:
        if not re.fullmatch("[0-9]{1,12}", text):  # int() takes signs, blanks, underscores and other digits, too
            raise ValueError(text)
        return msgspec.convert(int(text), manifest.Moment)
    except ValueError as error:
        raise ConfigError(
            f"{VARIABLE}={text[:40]!r} in the environment is no moment; expected whole seconds since 1970 UTC, such as "
            "1700000000, or unset it."
        ) from error


def moment(folder: RunFolder, inputs: str, stated: int | None) -> int:
    """When the bundle that is made from these inputs counts as made; the folder keeps it.

    Args:
        folder: of the run.
        inputs: fingerprint of all that the bundle is made from.
        stated: what SOURCE_DATE_EPOCH says, see `stated`.

    Raises:
        ConfigError: what the folder keeps is damaged.
        StorageError: the folder can't be written.
    """
    kept = folder.read_made()
    if stated is None:
        stated = kept.seconds if kept and kept.inputs == inputs else int(time.time())
    made = Made(inputs, stated)
    if made != kept:
        write_json(folder.made, made)
    return made.seconds
