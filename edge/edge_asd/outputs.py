"""Everybody who is told or looks: the sinks, each with its courier, and the page. They come and go while it listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import msgspec

from edge_asd import progress
from edge_asd.errors import EdgeAsdError
from edge_asd.keeper import Keeper
from edge_asd.settings import DeviceConfig, SinkSettings
from edge_asd.sinks import SinkTable, open_sink
from edge_asd.sinks.courier import Courier
from edge_asd.status import SinkStatus, Status

PATIENCE_SECONDS = 5.0


class Outputs:
    """The couriers of the sinks that are configured at present."""

    def __init__(self, config: DeviceConfig, log: Keeper, state: Callable[[], Status]) -> None:
        """Begin with those of a configuration; `state` is asked by a sink that tells how things stand."""
        self._device = config.device
        self._wanted = config.sinks
        self._log = log
        self._state = state
        self._couriers: dict[str, tuple[SinkTable, Courier]] = {}
        self._failed: dict[str, str] = {}  # why a sink couldn't be opened
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        self._set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.settle()  # or a courier finds nothing that waits, and goes before the last word is there
        with self._turn:
            self._close()

    def status(self) -> Sequence[SinkStatus]:
        """How each of them fares, those included that couldn't be opened."""
        open_ones = [courier.status for _, courier in list(self._couriers.values())]
        return [*open_ones, *(SinkStatus(name=name, trouble=why) for name, why in list(self._failed.items()))]

    def change(self, settings: SinkSettings) -> None:
        """Go over to other settings, beside the listening: one that is closed may take seconds."""
        self._wanted = settings
        threading.Thread(target=self._set, name="outputs", daemon=True).start()

    def _set(self) -> None:
        """Close and open what the newest settings ask for. One that can't be had is said, and the others are told."""
        with self._turn:
            wanted = {name: one for name, one in msgspec.structs.asdict(self._wanted).items() if one is not None}
            for name in [name for name, (known, _) in self._couriers.items() if wanted.get(name) != known]:
                self._couriers.pop(name)[1].close(PATIENCE_SECONDS)
            self._log.forget_other_sinks(list(wanted))
            self._failed = {}
            for name, one in wanted.items():
                if name in self._couriers:
                    continue
                try:
                    self._couriers[name] = one, Courier(open_sink(one, self._device, self._state), self._log)
                except EdgeAsdError as error:
                    self._failed[name] = str(error)
                    progress.say(f"edge-asd: {name} isn't told: {error}")

    def _close(self) -> None:
        with ExitStack() as stack:
            for _, courier in self._couriers.values():
                stack.callback(courier.close, PATIENCE_SECONDS)
        self._couriers.clear()
