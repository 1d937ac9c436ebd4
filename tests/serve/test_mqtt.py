import json
import queue
import shutil
import socket
import subprocess
import time

import pytest

from desk import NAMES
from serve.place import field, model, service, teach
from skip2lora.errors import ParameterError
from skip2lora.serve.mqtt import (
    MOST_BYTES,
    MOST_REF,
    MOST_WAITING,
    MOST_WAITING_BYTES,
    Bridge,
    Broker,
)

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto")


class Server:
    """A broker of its own on loopback."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Listener:
    """A client that keeps what is said."""

    def __init__(self, port):
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.heard, self.aside = queue.Queue(), []
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda *words: self.heard.put(words[2])
        topics = [("skip2lora/#", 1), ("homeassistant/#", 1)]
        self.client.on_connect = lambda client, *_: client.subscribe(topics)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def say(self, topic, payload):
        text = payload if isinstance(payload, str | bytes) else json.dumps(payload)
        self.client.publish(topic, text, qos=1).wait_for_publish(10)

    def hear(self, topic, wanted=lambda value: True):
        """The next message of a topic that is so; those of other topics are heard later."""
        deadline, aside = time.monotonic() + 20, self.aside
        self.aside = []
        while True:
            if aside:
                message = aside.pop(0)
            else:
                message = self.heard.get(timeout=max(0.0, deadline - time.monotonic()))
            if message.topic != topic:
                self.aside.append(message)
                continue
            text = message.payload.decode()
            value = json.loads(text) if text[:1] in "[{" else text
            if wanted(value):
                self.aside += aside
                return value

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path):
    pytest.importorskip("paho.mqtt.client")
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def served(tmp_path):
    with service(tmp_path / "store", name="fan 1") as served:
        yield served


@pytest.fixture
def bridge(broker, served):
    with Bridge(served, Broker.of(f"mqtt://127.0.0.1:{broker.port}")) as bridge:
        yield bridge


@pytest.fixture
def listener(broker, bridge):
    listener = Listener(broker.port)
    listener.hear("skip2lora/fan_1/availability", lambda value: value == "online")
    yield listener
    listener.close()


@needs_broker
def test_samples_in_answers_out_and_labels(served, listener):
    x = field(n_samples=2)[0]
    listener.say("skip2lora/fan_1/sample", {"x": x[0].tolist(), "ref": "a"})
    answer = listener.hear("skip2lora/fan_1/prediction")
    assert (answer["id"], answer["ref"], answer["version"]) == (1, "a", 0)
    assert answer["answer"] == model().predict(x[:1])[0]
    assert answer["probability"] == pytest.approx(model().predict_proba(x[:1]).max(), rel=1e-4)
    listener.say("skip2lora/fan_1/sample", x[1].tolist())  # a list alone
    assert listener.hear("skip2lora/fan_1/prediction")["id"] == 2
    state = listener.hear("skip2lora/fan_1/state", lambda of: of["answer"] is not None)
    assert state["changed"] == "OFF"
    listener.say("skip2lora/fan_1/label/set", {"id": 2, "label": NAMES[1]})
    assert served.wait(0, 10)
    for _ in range(100):
        if served.labels():
            break
        time.sleep(0.05)
    assert [(of["sample"], of["answer"], of["source"]) for of in served.labels()] == [
        (2, NAMES[1], "mqtt")
    ]


@needs_broker
@pytest.mark.parametrize(("topic", "payload"), [
    ("sample", "{"), ("sample", "[1, 2]"), ("sample", "3"), ("sample", {"x": "a"}),
    ("sample", b"\xff"), ("sample", ""), ("sample", {"x": [None] * 12}),
    ("label/set", {"id": 99, "label": NAMES[0]}),
    ("label/set", {"id": "1", "label": NAMES[0]}), ("label/set", "[]"), ("adapter/set", "{}"),
    ("sample", b" " * (MOST_BYTES + 1)), ("sample", {"x": [0.5] * 12, "ref": "a" * MOST_REF}),
])  # fmt: skip
def test_what_is_wrong_with_a_message_is_said_and_the_next_is_taken(listener, topic, payload):
    listener.say(f"skip2lora/fan_1/{topic}", payload)
    error = listener.hear("skip2lora/fan_1/error")
    assert error["topic"] == f"skip2lora/fan_1/{topic}"
    assert error["error"]
    listener.say("skip2lora/fan_1/sample", field(n_samples=1)[0][0].tolist())
    assert listener.hear("skip2lora/fan_1/prediction")["id"] >= 1


def test_what_waits_is_bounded_in_messages_and_bytes(served):
    pytest.importorskip("paho.mqtt.client")

    class Message:
        topic, payload = "skip2lora/fan_1/sample", b"1"

    bridge = Bridge(served, Broker.of("mqtt://127.0.0.1"))  # which is not open: nothing is taken
    for _ in range(MOST_WAITING + 3):
        bridge._on_message(None, None, Message())
    assert bridge.n_dropped == 3
    Message.payload = b"1" * MOST_BYTES
    for _ in range(MOST_WAITING_BYTES // MOST_BYTES):
        bridge._on_message(None, None, Message())
    # All small ones have gone, and one of the large ones, as topics count too.
    assert bridge.n_dropped == 3 + MOST_WAITING + 1


@needs_broker
def test_home_assistant_finds_it_again_when_it_starts(listener):
    about = listener.hear("homeassistant/device/skip2lora_fan_1/config")
    assert about["cmps"]["answer"]["options"] == list(NAMES)
    listener.say("homeassistant/status", "online")
    assert listener.hear("homeassistant/device/skip2lora_fan_1/config") == about


@needs_broker
def test_a_version_that_waits_is_an_update(tmp_path, broker):
    with service(tmp_path / "other", name="fan", approve=True) as served:
        teach(served, 60)
        with Bridge(served, Broker.of(f"mqtt://127.0.0.1:{broker.port}")):
            listener = Listener(broker.port)
            try:
                listener.hear("skip2lora/fan/availability", lambda value: value == "online")
                listener.say("skip2lora/fan/learn/set", "{}")
                assert listener.hear("skip2lora/fan/verdict")["adopt"] is True
                waiting = {"installed_version": "0", "latest_version": "1"}
                assert listener.hear("skip2lora/fan/adapter", lambda of: of == waiting)
                listener.say("skip2lora/fan/adapter/set", "{}")
                done = {"installed_version": "1", "latest_version": "1"}
                assert listener.hear("skip2lora/fan/adapter", lambda of: of == done)
            finally:
                listener.close()


@needs_broker
def test_a_broker_that_comes_back_finds_it_online(broker, served):
    with Bridge(served, Broker.of(f"mqtt://127.0.0.1:{broker.port}")):
        for _ in range(2):
            listener = Listener(broker.port)
            listener.hear("skip2lora/fan_1/availability", lambda value: value == "online")
            listener.close()
            broker.stop()
            broker.start()


@needs_broker
def test_it_says_when_it_goes(broker, served):
    with Bridge(served, Broker.of(f"mqtt://127.0.0.1:{broker.port}")):
        listener = Listener(broker.port)
        listener.hear("skip2lora/fan_1/availability", lambda value: value == "online")
    assert listener.hear("skip2lora/fan_1/availability") == "offline"
    listener.close()


def test_a_missing_broker_does_not_hinder_the_service(served):
    pytest.importorskip("paho.mqtt.client")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Bridge(served, Broker.of(f"mqtt://127.0.0.1:{port}")):
        assert served.predict(field(n_samples=1)[0]).ids == (1,)


@pytest.mark.parametrize(("url", "expected"), [
    ("mqtt://host", Broker("host", 1883, False)), ("mqtts://host", Broker("host", 8883, True)),
    ("mqtt://a%40b:c%2Fd@host:99/", Broker("host", 99, False, "a@b", "c/d")),
    ("mqtt://[::1]:5", Broker("::1", 5, False)),
])  # fmt: skip
def test_where_a_broker_is(url, expected, monkeypatch):
    monkeypatch.delenv("SKIP2LORA_MQTT_PASSWORD", raising=False)
    assert Broker.of(url) == expected


def test_the_password_may_stand_in_the_environment(monkeypatch):
    monkeypatch.setenv("SKIP2LORA_MQTT_PASSWORD", "secret%41")
    assert Broker.of("mqtt://me@host").password == "secret%41"  # noqa: S105


@pytest.mark.parametrize("url", [
    "host", "http://host", "mqtt://", "mqtt://host:x", "mqtt://host:99999", "mqtt://host/topic",
    "mqtt://u:secret@", "mqtt://host?x", "",
])  # fmt: skip
def test_other_urls_are_refused_without_their_password(url):
    with pytest.raises(ParameterError, match="expected mqtt://") as error:
        Broker.of(url)
    assert "secret" not in str(error.value)
