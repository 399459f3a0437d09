"""The systems that `edge-asd train --system` knows."""

from __future__ import annotations

from collections.abc import Mapping

from edge_asd import systems
from edge_asd_trainer.baselines import autoencoder, mobilenetv2
from edge_asd_trainer.recipe import System
from edge_asd_trainer.system1 import SYSTEM as SYSTEM1

SYSTEMS: Mapping[systems.System, System] = {
    "system1": SYSTEM1,
    "autoencoder": autoencoder.SYSTEM,
    "mobilenetv2": mobilenetv2.SYSTEM,
}
