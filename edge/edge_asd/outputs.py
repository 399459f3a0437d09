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
from edge_asd.settings import DeviceConfig, Settings, SinkSettings
from edge_asd.sinks import open_sinks
from edge_asd.sinks.courier import Courier
from edge_asd.status import SinkStatus, Status

PATIENCE_SECONDS = 5.0


class Outputs:
    """The couriers of the sinks that are configured at present."""

    def __init__(self, config: DeviceConfig, log: Keeper, state: Callable[[], Status]) -> None:
        """Begin with those of a configuration; `state` is asked by a sink that tells how things stand."""
        self._config = config
        self._log = log
        self._state = state
        self._couriers: dict[str, tuple[Settings, Courier]] = {}
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        """Raises: ConfigError, MissingRequirement."""
        try:
            self._set(self._config.sinks)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._turn:
            self._close()

    def status(self) -> Sequence[SinkStatus]:
        """How each of them fares."""
        return [courier.status for _, courier in list(self._couriers.values())]

    def change(self, settings: SinkSettings) -> None:
        """Go over to other settings, beside the listening; what can't be had of them is said."""

        def work() -> None:
            try:
                with self._turn:
                    self._set(settings)
            except EdgeAsdError as error:
                progress.say(f"edge-asd: {error}")

        threading.Thread(target=work, name="outputs", daemon=True).start()

    def _set(self, settings: SinkSettings) -> None:
        wanted = {name: one for name, one in msgspec.structs.asdict(settings).items() if one is not None}
        for name in [name for name, (known, _) in self._couriers.items() if wanted.get(name) != known]:
            self._couriers.pop(name)[1].close(PATIENCE_SECONDS)
        self._log.forget_other_sinks(list(wanted))
        for name, one in wanted.items():
            if name not in self._couriers:
                [sink] = open_sinks(SinkSettings(**{name: one}), self._config.device, self._state)
                self._couriers[name] = one, Courier(sink, self._log)

    def _close(self) -> None:
        with ExitStack() as stack:
            for _, courier in self._couriers.values():
                stack.callback(courier.close, PATIENCE_SECONDS)
        self._couriers.clear()
