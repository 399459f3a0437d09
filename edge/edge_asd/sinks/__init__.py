"""Who is told of what happened, besides the database: a file, a broker, a web address.

    events.Message --courier--> json_lines_file | mqtt | webhook

Each has a `Courier` of its own, so that one which is down keeps nothing from the others. A sink's needs are loaded
where its table stands in device.toml.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_asd.settings import SinkSettings
from edge_asd.sinks.courier import Courier, Log, Refused, Sink, SinkDown
from edge_asd.status import Status

__all__ = ["Courier", "Log", "Refused", "Sink", "SinkDown", "open_sinks"]


def open_sinks(settings: SinkSettings, device: str, state: Callable[[], Status]) -> list[Sink]:
    """The sinks that are configured: the file, the broker, the web address. Each wants `close`.

    Args:
        settings: the tables `sinks.*`.
        device: its name, a part of a broker's topics.
        state: how things stand now; asked from other threads, several times a second.

    Raises:
        ConfigError: a password, a token or a certificate can't be read.
        MissingRequirement: a sink is configured whose package isn't installed.
    """
    sinks: list[Sink] = []
    try:
        if settings.json_lines is not None:
            from edge_asd.sinks.json_lines_file import JsonLinesFile

            sinks.append(JsonLinesFile(settings.json_lines))
        if settings.mqtt is not None:
            from edge_asd.sinks.mqtt import Mqtt

            sinks.append(Mqtt(settings.mqtt, device, state))
        if settings.webhook is not None:
            from edge_asd.sinks.webhook import Webhook

            sinks.append(Webhook(settings.webhook))
    except BaseException:
        for sink in sinks:
            sink.close()
        raise
    return sinks
