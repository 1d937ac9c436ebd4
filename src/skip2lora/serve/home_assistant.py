"""How Home Assistant finds the service by itself: its device discovery over MQTT.

One retained message describes the device and its entities (Home Assistant 2024.11 and newer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import skip2lora

#: Where Home Assistant says that it starts, and where it looks for devices.
STATUS_TOPIC, ONLINE = "homeassistant/status", "online"
_TAKE = "{{{{ value_json.{} }}}}"


def discovery_topic(id: str) -> str:
    """Where the description of a device lies."""
    return f"homeassistant/device/skip2lora_{id}/config"


def discovery(id: str, name: str, prefix: str, class_names: Sequence[str]) -> dict[str, Any]:
    """The description of the service ``name``, whose topics begin with ``prefix``."""
    return {
        "dev": {
            "ids": [f"skip2lora_{id}"], "name": name, "mf": "skip2lora", "mdl": "Skip2-LoRA",
            "sw": skip2lora.__version__,
        },
        "o": {"name": "skip2lora", "sw": skip2lora.__version__},
        "availability_topic": f"{prefix}/availability",
        "state_topic": f"{prefix}/state",
        "qos": 1,
        "cmps": {key: {"unique_id": f"skip2lora_{id}_{key}", **about}
                 for key, about in _entities(prefix, class_names).items()},
    }  # fmt: skip


def _answers(class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of a model of classes; where there are none, of one of numbers."""
    if not class_names:
        number = {"state_class": "measurement", "value_template": _TAKE.format("answer")}
        return {"answer": {"p": "sensor", "name": "Answer", **number}}
    return {
        "answer": {
            "p": "sensor", "name": "Answer", "device_class": "enum",
            "options": list(class_names), "value_template": _TAKE.format("answer"),
        },
        "confidence": {
            "p": "sensor", "name": "Confidence", "unit_of_measurement": "%",
            "state_class": "measurement", "suggested_display_precision": 0,
            "value_template": _TAKE.format("confidence"),
        },
    }  # fmt: skip


def _entities(prefix: str, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    return _answers(class_names) | {
        "changed": {
            "p": "binary_sensor", "name": "Data changed", "device_class": "problem",
            "value_template": _TAKE.format("changed"), "payload_on": "ON", "payload_off": "OFF",
        },
        "wanted": {
            "p": "sensor", "name": "Labels wanted", "state_class": "measurement",
            "value_template": _TAKE.format("wanted"),
        },
        "learn": {
            "p": "button", "name": "Learn now", "command_topic": f"{prefix}/learn/set",
            "payload_press": "{}",
        },
        "reference": {
            "p": "button", "name": "Learn what is normal", "payload_press": "{}",
            "command_topic": f"{prefix}/reference/set", "entity_category": "config",
        },
        "adapter": {
            "p": "update", "name": "Adapter", "state_topic": f"{prefix}/adapter",
            "command_topic": f"{prefix}/adapter/set", "payload_install": "{}",
        },
    }  # fmt: skip
