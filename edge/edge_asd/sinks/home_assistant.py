"""How Home Assistant finds the device by itself: one retained description of it and its entities (MQTT discovery).

The description goes to `PREFIX/device/ID/config` (Home Assistant 2024.11 or later; the abbreviations `dev`, `o`,
`cmps`, `p` are its own). It is retained, and sent again when Home Assistant says that it has started.

Whoever sets `discovery = ""` later, or renames the device, leaves the old description with the broker, since a device
doesn't know what it once sent. An empty retained message to the topic removes it, and the entities with it:

    mosquitto_pub -h BROKER -t homeassistant/device/edge_asd_NAME/config -r -n
"""

from __future__ import annotations

import re
from typing import get_args

import msgspec

from edge_asd.events import Transition

ONLINE, OFFLINE = "online", "offline"


def discovery(
    device: str,
    machine: str,
    section: str,
    version: str,
    *,
    prefix: str,
    availability: str,
    state: str,
    event: str,
) -> dict[str, bytes]:
    """What to publish, retained: topic and JSON.

    Args:
        device: its name; the unique ids are made of it, so that they outlive an update and another bundle.
        machine, section: what it listens to.
        version: of edge-asd.
        prefix: of Home Assistant's discovery, such as "homeassistant".
        availability, state, event: topics of the device.
    """
    identity = identifier(device)
    listens_to = f"{machine} {section}".strip()
    entities: dict[str, dict[str, object]] = {
        "anomaly": {
            "p": "binary_sensor",
            "name": "Machine sounds strange",
            "device_class": "problem",
            "value_template": "{{ 'ON' if value_json.alert else 'OFF' }}",
        },
        "microphone": {
            "p": "binary_sensor",
            "name": "Microphone",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "value_template": "{{ 'OFF' if value_json.microphone_ok else 'ON' }}",
        },
        "score": {
            "p": "sensor",
            "name": "Anomaly score",
            "state_class": "measurement",
            "suggested_display_precision": 3,
            "value_template": "{{ value_json.score }}",  # None, before the first, is "unknown" there
        },
        "threshold": {
            "p": "sensor",
            "name": "Threshold",
            "entity_category": "diagnostic",
            "suggested_display_precision": 3,
            "value_template": "{{ value_json.threshold }}",
        },
        "level": {
            "p": "sensor",
            "name": "Sound level",
            "state_class": "measurement",
            "unit_of_measurement": "dB",
            "entity_category": "diagnostic",
            "suggested_display_precision": 1,
            "value_template": "{{ value_json.level_dbfs }}",
        },
        "event": {
            "p": "event",
            "name": "Alert",
            "state_topic": event,
            "event_types": list(get_args(Transition)),
            "value_template": (
                "{{ {'event_type': value_json.transition, 'sequence': value_json.sequence, "
                "'kind': value_json.event.kind, 'id': value_json.event.id, 'peak': value_json.event.peak, "
                "'fault': value_json.event.fault, 'said': value_json.event.said} | tojson }}"
            ),
        },
    }
    content = {
        "dev": {
            "ids": [identity],
            "name": device,
            "mf": "edge-asd",
            "mdl": f"listens to {listens_to}",
            "sw": version,
        },
        "o": {"name": "edge-asd", "sw": version},
        "cmps": {name: {**entity, "unique_id": f"{identity}_{name}"} for name, entity in entities.items()},
        "state_topic": state,
        "availability_topic": availability,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "qos": 1,
    }
    return {f"{prefix}/device/{identity}/config": msgspec.json.encode(content)}


def identifier(device: str) -> str:
    """The device's name as a topic of Home Assistant may hold it."""
    return "edge_asd_" + re.sub(r"[^0-9A-Za-z_-]", "_", device)
