"""What a clip's name says: section, domain, split, label, attributes.

The names are those of DCASE Task 2. Section and domain come from the name of the file, never from its folder.

    2021-2025   section_00_source_train_normal_0000_<attributes>.wav
    2022 eval   section_03_0000.wav, section_03_test_0000.wav    (no domain, no label)
    2020        normal_id_00_00000000.wav, anomaly_id_00_00000000.wav
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from edge_asd.errors import ClipNameError

Domain = Literal["source", "target"]
Label = Literal["normal", "anomaly"]

_LABELLED = re.compile(
    r"section_(?P<section>\d{2})_(?P<domain>source|target)_(?P<split>train|test)_(?P<label>normal|anomaly)"
    r"_(?P<number>\d+)(?:_(?P<attributes>.+))?"
)
_UNLABELLED = re.compile(r"section_(?P<section>\d{2})_(?:test_)?(?P<number>\d+)")
_OF_2020 = re.compile(r"(?P<label>normal|anomaly)_id_(?P<section>\d{2})_(?P<number>\d+)")


_SECTION = re.compile(r"(?:section_|normal_id_|anomaly_id_)(\d{2})_")


@dataclass(frozen=True)
class ClipName:
    """What a name says; None where it doesn't.

    Attributes:
        section: two digits, one unit or one kind of domain shift of a machine type.
        domain: "source" or "target".
        label: "normal" or "anomaly".
        attributes: whatever stands behind the number, such as "vel_21_loc_A".
    """

    section: str
    domain: Domain | None
    label: Label | None
    attributes: str = ""


def parse_clip_name(name: str) -> ClipName:
    """Read the name of a file, with or without its ending.

    Raises:
        ClipNameError: it is none of the forms above.
    """
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    for form in (_LABELLED, _UNLABELLED, _OF_2020) if stem.isprintable() else ():  # a bundle repeats it everywhere
        if match := form.fullmatch(stem):
            parts = match.groupdict()
            domain = "source" if form is _OF_2020 else parts.get("domain")
            return ClipName(
                section=parts["section"],
                domain=cast("Domain | None", domain),
                label=cast("Label | None", parts.get("label")),
                attributes=parts.get("attributes") or "",
            )
    raise ClipNameError(
        f"{name}: its name doesn't say what it is; expected the form section_00_source_train_normal_0000.wav "
        "(section, domain, split, label, number), so rename it like that."
    )


def section_named(name: str) -> str | None:
    """The section that the name of a file begins with, whatever follows; None where it says none."""
    found = _SECTION.match(name)
    return found[1] if found else None
