"""Who is told of what happened, besides the database: a file, a broker, a web address.

    events.Message --courier--> json_lines_file | mqtt | webhook

Each has a `Courier` of its own, so that one which is down keeps nothing from the others. A sink's needs are loaded
where its table stands in device.toml.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_asd.settings import JsonLinesSettings, MqttSettings, WebhookSettings
from edge_asd.sinks.courier import Courier, Log, Refused, Sink, SinkDown
from edge_asd.status import Status

__all__ = ["Courier", "Log", "Refused", "Sink", "SinkDown", "SinkTable", "open_sink"]

SinkTable = JsonLinesSettings | MqttSettings | WebhookSettings


def open_sink(settings: SinkTable, device: str, state: Callable[[], Status]) -> Sink:
    """The sink of a table: the file, the broker or the web address. It wants `close`.

    Args:
        settings: the table.
        device: its name, a part of a broker's topics.
        state: how things stand now; asked from other threads, several times a second.

    Raises:
        ConfigError: a password, a token or a certificate can't be read.
        MissingRequirement: the package that it needs isn't installed.
    """
    match settings:
        case JsonLinesSettings():
            from edge_asd.sinks.json_lines_file import JsonLinesFile

            return JsonLinesFile(settings)
        case MqttSettings():
            from edge_asd.sinks.mqtt import Mqtt

            return Mqtt(settings, device, state)
        case WebhookSettings():
            from edge_asd.sinks.webhook import Webhook

            return Webhook(settings)
