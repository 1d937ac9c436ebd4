import io
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES
from serve.client import Client
from serve.place import field, model, teach
from skip2lora.data.sound_options import Sound
from skip2lora.serve.api import MOST_LABELS
from skip2lora.serve.http import application
from skip2lora.serve.security import Policy
from skip2lora.serve.service import Service


def test_rows_are_predicted_and_kept(client):
    x = field(n_samples=3)[0]
    answer = client.post("/api/predict", {"rows": x.tolist()}).json()
    assert answer["version"] == 0
    assert [each["id"] for each in answer["samples"]] == [1, 2, 3]
    assert [each["answer"] for each in answer["samples"]] == model().predict(x).tolist()
    kept = client.get("/api/samples").json()["samples"]
    assert [each["id"] for each in kept] == [3, 2, 1]
    assert [each["source"] for each in kept] == ["http"] * 3
    whole = client.get("/api/samples/2").json()
    assert whole["shape"] == [1, 12]
    np.testing.assert_allclose(whole["values"], x[1], rtol=1e-6)
    assert whole["picture"] is False


@pytest.mark.parametrize("body", [
    {}, {"rows": []}, {"rows": 3}, {"rows": [[1, 2], [3]]}, {"rows": [["a"]]}, {"x": [[1]]},
    {"rows": [[None] * 12]}, {"rows": [[True] * 12]}, {"rows": [[1] * 11]}, b"[]", b"",
])  # fmt: skip
def test_other_bodies_are_refused(client, body):
    answer = client.post("/api/predict", body)
    assert answer.status == 400
    assert "expect" in answer.error
    assert client.get("/api/samples").json() == {"samples": []}


def test_labels_are_taken_one_by_one_and_undone(client):
    client.post("/api/predict", {"rows": field(n_samples=3)[0].tolist()})
    labels = [
        {"id": 1, "label": NAMES[0]}, {"id": 2, "label": "unheard of"},
        {"id": 99, "label": NAMES[0]}, {"id": "1", "label": NAMES[0]}, {"id": 3}, 7,
        {"id": 3, "label": 5},
    ]  # fmt: skip
    answer = client.post("/api/labels", {"labels": labels}).json()
    assert answer["labelled"] == [1]
    assert [each["entry"] for each in answer["refused"]] == labels[1:]
    assert "unheard of" in answer["refused"][0]["error"]
    new = {"labels": [{"id": 2, "label": "unheard of"}], "new": True, "source": "me"}
    assert client.post("/api/labels", new).json()["labelled"] == [2]
    kept = client.get("/api/labels").json()["labels"]
    assert [(each["sample"], each["answer"], each["source"]) for each in kept] == [
        (2, "unheard of", "me"), (1, NAMES[0], "http"),
    ]  # fmt: skip
    undone = client.post("/api/labels/undo", {"ids": [2, 3]}).json()
    assert undone["undone"] == [2]
    assert undone["refused"][0]["entry"] == 3
    assert client.get("/api/samples?state=labelled").json()["samples"][0]["id"] == 1


def test_a_label_settles_a_dispute(client):
    client.post("/api/predict", {"rows": field(n_samples=1)[0].tolist()})
    for name in NAMES[:2]:
        client.post("/api/labels", {"labels": [{"id": 1, "label": name}]})
    assert len(client.get("/api/samples?state=contradicting").json()["samples"]) == 1
    client.post("/api/labels", {"labels": [{"id": 1, "label": NAMES[2]}], "settle": True})
    assert client.get("/api/samples?state=contradicting").json()["samples"] == []
    assert client.get(f"/api/samples?label={NAMES[2]}").json()["samples"][0]["label"] == NAMES[2]


@pytest.mark.parametrize(("path", "body"), [
    ("/api/labels", {}), ("/api/labels", {"labels": []}), ("/api/labels", {"labels": "a"}),
    ("/api/labels", {"labels": [{}] * (MOST_LABELS + 1)}),
    ("/api/labels", {"labels": [{"id": 1, "label": "a"}], "new": 1}),
    ("/api/labels", {"labels": [{"id": 1, "label": "a"}], "source": "a" * 81}),
    ("/api/labels", {"labels": [{"id": 1, "label": "a"}], "force": True}),
    ("/api/labels/undo", {}), ("/api/labels/undo", {"ids": [True]}),
    ("/api/labels/undo", {"ids": [1] * (MOST_LABELS + 1)}),
    ("/api/learn", {"x": 1}), ("/api/versions/99/adopt", {}), ("/api/versions/0/reject", {}),
    ("/api/samples/99/skip", {}),
])  # fmt: skip
def test_what_is_not_to_be_done_is_refused(client, path, body):
    answer = client.post(path, body)
    assert answer.status == 400
    assert answer.error


@pytest.mark.parametrize("path", [
    "/api/samples?limit=0", "/api/samples?limit=501", "/api/samples?limit=x", "/api/samples?a=1",
    "/api/samples?state=x", "/api/samples?before=0", "/api/ask?count=0", "/api/events?after=-1",
    "/api/events?wait=26", "/api/events?after=1e3", "/api/samples/99", "/api/samples?limit=²",
    "/api/samples?before=99999999999999999999",
])  # fmt: skip
def test_questions_out_of_range_are_refused(client, path):
    assert client.get(path).status == 400


def test_it_asks_learns_adopts_and_goes_back(served, client):
    teach(served, 60)
    verdict = client.post("/api/learn", {}).json()
    assert verdict["adopt"] is True
    assert verdict["fixed"] > verdict["broke"]
    versions = client.get("/api/versions").json()["versions"]
    assert [(each["number"], each["in_use"]) for each in versions] == [(0, False), (1, True)]
    assert client.get("/api/status").json()["version"] == 1
    back = client.post("/api/versions/0/adopt", {}).json()["versions"]
    assert [each["in_use"] for each in back] == [True, False]
    client.post("/api/versions/1/adopt", {})
    turned = client.post("/api/versions/1/reject", {}).json()["versions"]
    assert [each["in_use"] for each in turned] == [True, False]


def test_questions_are_those_of_the_service(served, client):
    served.predict(field(n_samples=50)[0])
    asked = client.get("/api/ask?count=7").json()["samples"]
    assert [each["id"] for each in asked] == served.ask(7)
    client.post(f"/api/samples/{asked[0]['id']}/skip", {})
    assert asked[0]["id"] not in served.ask(7)
    assert client.get("/api/suspects").json() == {"suspects": []}


def test_change_and_what_is_normal(served, client):
    assert client.get("/api/drift").json()["phase"] == "learning"
    assert client.post("/api/drift/reference", {}).json()["phase"] == "learning"


def test_events_are_waited_for(served, client):
    first = client.get("/api/events").json()["events"]
    assert first[0]["kind"] == "started"
    last = first[-1]["id"]
    assert client.get(f"/api/events?after={last}").json() == {"events": []}
    assert client.get(f"/api/events?after={last}&wait=1").json() == {"events": []}
    served.predict(field(n_samples=30)[0])
    served.ask()
    assert client.get(f"/api/events?after={last}&wait=20").json()["events"][0]["kind"] == "asked"


def picture(size=(8, 8)):
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.fromarray(np.full((*size, 3), 200, np.uint8)).save(stream, "png")
    return stream.getvalue()


@pytest.mark.parametrize("body", [b"not an image", b"\x89PNG cut", b"RIFF\0\0\0\0WAVE"])
def test_uploads_that_are_no_whole_file_are_refused(client, body):
    answer = client.post("/api/predict", body, content_type="image/png")
    assert answer.status == 400
    assert "Traceback" not in answer.error


def test_a_table_model_takes_no_larger_image(client):
    answer = client.post("/api/predict", picture(), content_type="image/png")
    assert answer.status == 400


def test_no_upload_is_left_behind(client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    client.post("/api/predict", picture(), content_type="image/png")
    assert list(Path(tmp_path / "temporary").iterdir()) == []


def asking(model, store, **options):
    """A service of that model, and a client of it."""
    served = Service(model, store, learning=False, lab_set=False, **options)
    return served, Client(application(served, Policy()))


def test_an_image_is_shown_as_a_picture(tmp_path):
    image = pytest.importorskip("PIL.Image")
    onnx_models = pytest.importorskip("onnx_models")
    pytest.importorskip("onnxruntime")
    network = s2.load(onnx_models.save(onnx_models.cnn(), tmp_path / "camera.onnx"))
    served, client = asking(network, tmp_path / "store")
    with served:
        pixels = np.random.default_rng(0).integers(0, 256, (14, 14, 3)).astype(np.uint8)
        pixels[0, 0], pixels[0, 1] = 0, 255
        stream = io.BytesIO()
        image.fromarray(pixels).save(stream, "png")
        client.post("/api/predict", stream.getvalue(), content_type="image/png")
        entry = client.get("/api/samples/1").json()
        assert (entry["picture"], entry["sound"], entry["shape"]) == (True, False, [1, 3, 14, 14])
        answer = client.get("/api/samples/1/picture")
        assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
        np.testing.assert_array_equal(np.asarray(image.open(io.BytesIO(answer.body))), pixels)
        assert client.get("/api/samples/1/sound").status == 404


def test_a_recording_is_sent_stored_and_heard_again(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    sound_models = pytest.importorskip("sound_models")
    pytest.importorskip("onnxruntime")
    ear = s2.load(sound_models.listener(tmp_path / "ear.onnx"))
    file = sound_models.record(tmp_path / "a.wav", sound_models.tone(300, 0.5))
    served, client = asking(ear, tmp_path / "store", sound=Sound(rate=sound_models.RATE))
    with served:
        answer = client.post("/api/predict", file.read_bytes(), content_type="audio/wav")
        assert len(answer.json()["samples"]) == 2
        asked = client.get("/api/ask?count=2").json()["samples"]
        assert [(each["picture"], each["sound"]) for each in asked] == [(False, True)] * 2
        heard = client.get("/api/samples/2/sound")
        assert (heard.status, heard.headers["content-type"]) == (200, "audio/wav")
        assert heard.headers["cross-origin-resource-policy"] == "same-origin"
        played, rate = soundfile.read(io.BytesIO(heard.body), dtype="int16")
        original, _ = soundfile.read(file, dtype="int16")
        assert rate == sound_models.RATE
        np.testing.assert_allclose(played, original[sound_models.WINDOW :], atol=1)
        assert client.get("/api/samples/2/picture").status == 404
        assert client.get("/api/samples/99/sound").status == 400
        tasks = client.get("/api/label-studio/tasks").json()
        assert tasks[0]["data"]["sound"] == "http://localhost/api/samples/1/sound"


def test_numbers_of_a_table_are_no_sound(client):
    client.post("/api/predict", {"rows": field(n_samples=1)[0].tolist()})
    assert client.get("/api/samples/1").json()["sound"] is False
    answer = client.get("/api/samples/1/sound")
    assert answer.status == 404
    assert "ask for its numbers" in answer.error
