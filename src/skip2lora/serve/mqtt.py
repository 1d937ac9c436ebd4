"""The service over MQTT: samples in, answers out, and what Home Assistant shows of it.

Topics below ``skip2lora/ID``: ``sample`` (in: a JSON list of numbers, or an object with ``x`` and,
to know the answer again, ``ref``), ``prediction`` (out), ``label/set`` (in: ``id`` and ``label``),
``learn/set``, ``reference/set``, ``adapter/set`` (in), ``availability``, ``state`` and ``adapter``
(out, retained). What is wrong with a message that came is said at ``error``.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from skip2lora.errors import DataError, MissingExtraError, ParameterError, Skip2LoraError, brief
from skip2lora.serve import home_assistant, inference
from skip2lora.serve.backlog import Backlog

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

    from skip2lora.serve.service import Service

#: Where the password may stand, so that no list of processes shows it.
PASSWORD = "SKIP2LORA_MQTT_PASSWORD"  # noqa: S105, a name
#: Messages that wait at most, and their bytes together; the oldest are given up.
MOST_WAITING, MOST_WAITING_BYTES = 1000, 1 << 24
#: Bytes of one message, and characters of what is to come back with an answer, as JSON.
MOST_BYTES, MOST_REF = 1 << 22, 1000
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_STATE_S = 1.0  # between looks at what changed
_KEEPALIVE_S, _LONGEST_WAIT_S = 30, 60


@dataclass(frozen=True)
class Broker:
    """Where a broker is: ``mqtt://USER:PASSWORD@HOST:PORT``, or ``mqtts`` with TLS."""

    host: str
    port: int
    tls: bool
    user: str | None = None
    password: str | None = None

    @classmethod
    def of(cls, url: str) -> Broker:
        """That of an URL.

        Raises:
            ParameterError: it is none of a broker.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            parts, port = urlsplit(""), 0
        if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            shown = re.sub(r":[^:@/]*@", ":...@", url)
            raise ParameterError(
                f"mqtt is {shown}, expected mqtt://HOST, with USER@ and :PORT if needed, or "
                "mqtts: correct it"
            )
        password = os.environ.get(PASSWORD) if parts.password is None else unquote(parts.password)
        return cls(
            parts.hostname, port, parts.scheme == "mqtts",
            None if parts.username is None else unquote(parts.username),
            password,
        )  # fmt: skip


class Bridge:
    """Joins a service and a broker while it is open. A broker that leaves is waited for.

    Messages that come faster than they are answered wait, within limits; ``n_dropped`` were more.

    Raises:
        MissingExtraError: the extra ``mqtt`` is not installed.
    """

    def __init__(self, service: Service, broker: Broker) -> None:
        self._service = service
        self.id = re.sub(r"[^A-Za-z0-9_-]", "_", service.name)
        self.prefix = f"skip2lora/{self.id}"
        self._waiting = Backlog(MOST_WAITING, MOST_WAITING_BYTES)
        self._stopped, self._again = threading.Event(), threading.Event()
        self._answer: dict[str, Any] = {"answer": None, "confidence": None}
        self._takes: dict[str, Callable[[Any], None]] = {
            "sample": self._take_sample, "label/set": self._take_label,
            "learn/set": lambda _: self._learn(),
            "reference/set": lambda _: self._service.new_reference(),
            "adapter/set": lambda _: self._adopt(),
        }  # fmt: skip
        self._client = self._connected(broker)
        self._threads = [threading.Thread(target=work, daemon=True, name=f"mqtt-{work.__name__}")
                         for work in (self._work, self._tell)]  # fmt: skip

    @property
    def n_dropped(self) -> int:
        """Messages that were given up, as too many waited."""
        return self._waiting.n_dropped

    def _connected(self, broker: Broker) -> Client:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise MissingExtraError(
                "MQTT needs paho-mqtt, which is not installed: install skip2lora[mqtt]"
            ) from error
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"skip2lora-{self.id}")
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            client.tls_set_context(ssl.create_default_context())
        client.will_set(f"{self.prefix}/availability", "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, _LONGEST_WAIT_S)
        client.max_queued_messages_set(MOST_WAITING)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.connect_async(broker.host, broker.port, keepalive=_KEEPALIVE_S)
        return client

    def __enter__(self) -> Bridge:
        self._client.loop_start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._again.set()
        for thread in self._threads:
            thread.join()
        gone = self._publish("availability", "offline", retain=True)
        if self._client.is_connected():
            gone.wait_for_publish(2.0)
        self._client.disconnect()
        self._client.loop_stop()

    # --- what the network thread does: no more than to take and to hand on ---

    def _on_connect(self, client: Client, _data: object, _flags: object, *about: Any) -> None:
        if about[0].is_failure:
            return
        topics = [f"{self.prefix}/{topic}" for topic in self._takes]
        client.subscribe([(topic, 1) for topic in (*topics, home_assistant.STATUS_TOPIC)])
        self._announce()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        if message.topic == home_assistant.STATUS_TOPIC:
            if message.payload == home_assistant.ONLINE.encode():
                self._announce()
            return
        if len(message.payload) > MOST_BYTES:
            self._say_wrong(message.topic, DataError(
                f"the message has {len(message.payload):,} bytes, expected at most "
                f"{MOST_BYTES:,}: split it"
            ))  # fmt: skip
            return
        self._waiting.put(message.topic, message.payload)

    def _announce(self) -> None:
        """Say who is here: to Home Assistant, and that the service answers."""
        about = home_assistant.discovery(
            self.id, self._service.name, self.prefix, self._service.class_names
        )
        self._client.publish(
            home_assistant.discovery_topic(self.id), json.dumps(about), qos=1, retain=True
        )
        self._publish("availability", "online", retain=True)
        self._again.set()

    def _publish(self, topic: str, value: object, *, retain: bool = False) -> Any:
        text = value if isinstance(value, str) else json.dumps(value)
        return self._client.publish(f"{self.prefix}/{topic}", text, qos=1, retain=retain)

    # --- what the worker does ---

    def _work(self) -> None:
        while not self._stopped.is_set():
            message = self._waiting.take(0.2)
            if message is None:
                continue
            topic, payload = message
            try:
                self._takes[topic.removeprefix(f"{self.prefix}/")](payload)
            except Skip2LoraError as error:
                self._say_wrong(topic, error)

    def _say_wrong(self, topic: str, error: Skip2LoraError) -> None:
        self._publish("error", {"topic": topic, "error": str(error)})

    def _take_sample(self, payload: bytes) -> None:
        asked = inference.parse(payload if payload.lstrip()[:1] == b"{" else b'{"x":%b}' % payload)
        row = asked.get("x")
        if not isinstance(row, list):
            raise DataError(f"x is {brief(row)}, expected a list of numbers: correct it")
        ref = {"ref": asked["ref"]} if "ref" in asked else {}
        if len(json.dumps(ref)) > MOST_REF:
            raise DataError(
                f"ref has more than {MOST_REF:,} characters, expected fewer: pass a short name"
            )
        served = self._service.predict(inference.numbers([row]), source="mqtt")
        about: dict[str, Any] = {"id": served.ids[0]}
        if served.numbers is not None:
            self._answer = {"answer": float(served.numbers[0])}
            about |= self._answer
        else:
            share = float(served.probabilities[0].max())
            self._answer = {"answer": served.names[0], "confidence": round(100 * share, 1)}
            about |= {"answer": served.names[0], "probability": share}
        self._publish("prediction", {**about, "version": served.version, **ref})
        self._again.set()

    def _take_label(self, payload: bytes) -> None:
        asked = inference.parse(payload)
        id, label, new = asked.get("id"), asked.get("label"), asked.get("new", False)
        is_label = isinstance(label, str) or type(label) in (int, float)
        if type(id) is not int or label is None or not is_label or not isinstance(new, bool):
            raise DataError(
                f"a label is {brief(asked)}, expected a number id and a text label: correct it"
            )
        self._service.label(id, label, new=new, source="mqtt")

    def _learn(self) -> None:
        verdict = self._service.learn()
        self._publish("verdict", {"adopt": verdict.adopt, "reason": verdict.reason})

    def _adopt(self) -> None:
        ready = self._ready()
        if ready is None:
            raise DataError("no version waits, expected one that is ready: wait for it")
        self._service.adopt(ready)

    # --- what the teller does ---

    def _ready(self) -> int | None:
        """The newest version that waits to be adopted."""
        return max(self._service.status()["waiting_versions"], default=None)

    def _tell(self) -> None:
        before: dict[str, dict[str, Any]] = {}
        while not self._stopped.is_set():
            now = {"state": self._state(), "adapter": self._adapter()}
            announced = self._again.is_set()
            self._again.clear()
            for topic, value in now.items():
                if announced or before.get(topic) != value:
                    self._publish(topic, value, retain=True)
            before = now
            self._stopped.wait(_STATE_S)

    def _state(self) -> dict[str, Any]:
        status = self._service.status()
        changed = "ON" if status["drift"]["phase"] == "changed" else "OFF"
        return {
            **self._answer, "changed": changed, "severity": status["drift"]["severity"],
            "wanted": status["n_asked"], "version": status["version"],
        }  # fmt: skip

    def _adapter(self) -> dict[str, Any]:
        version = self._service.status()["version"]
        return {"installed_version": str(version), "latest_version": str(self._ready() or version)}
