"""`make soak HOURS=n`: so many hours as they pass, then 24 times as many in simulated time; for docs/reliability.md.

python -m soak PAGE HOURS [MODE]     # MODE: real, simulated, or both
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_asd_trainer.bench import page as pages
from soak import real, simulated
from soak.figures import Soaked, table

SIMULATED = 24  # hours for each real one


def main(page: str, hours: str, mode: str = "both") -> None:
    """Listen; exit code 1 where a window was missed, an event was lost or double, or anything grew."""
    with TemporaryDirectory(prefix="edge-asd-soak.") as name:
        for what in ("simulated", "real") if mode == "both" else (mode,):
            soaked = listened(what, float(hours), Path(name))
            text = table(soaked)
            sys.stdout.write(text)
            pages.write(Path(page), f"soak in {what} time", f"{text}{pages.machine()}.\n", kind="made")
            if soaked.wrong or soaked.missed or soaked.lost or soaked.double:
                sys.exit(1)


def listened(what: str, hours: float, folder: Path) -> Soaked:
    if what == "simulated":
        return simulated.soak(max(1, round(SIMULATED * hours)), folder / "state").soaked
    from soak.listening_bundle import written  # brings PyTorch, which would count as memory of ours

    return real.soak(hours, written(folder / "fan.easd"), folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
