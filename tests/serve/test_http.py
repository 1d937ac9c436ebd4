import json
import re

import numpy as np
import pytest

import skip2lora as s2
from serve.client import Client
from serve.place import field, model
from skip2lora.errors import DataError
from skip2lora.serve.http import application, inputs_of
from skip2lora.serve.inference import Asked
from skip2lora.serve.security import Policy, digest

INFER = "/v2/models/fan/infer"


def asked(x, name="X", **more):
    x = np.asarray(x, float)
    tensor = {"name": name, "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return {"inputs": [tensor], **more}


def outputs(answer):
    return {of["name"]: of for of in answer.json()["outputs"]}


def test_predictions_are_those_of_the_model(client):
    x = field(n_samples=5)[0]
    answer = client.post(INFER, asked(x, id="a7"))
    assert answer.status == 200
    by_name = outputs(answer)
    shares = model().predict_proba(x)
    assert by_name["probabilities"]["shape"] == [5, 3]
    np.testing.assert_allclose(
        by_name["probabilities"]["data"], shares.ravel(), rtol=1e-5, atol=1e-7
    )
    assert by_name["answer"]["data"] == model().predict(x).tolist()
    assert by_name["id"]["data"] == [1, 2, 3, 4, 5]
    assert (answer.json()["model_name"], answer.json()["model_version"]) == ("fan", "0")
    assert answer.json()["id"] == "a7"


def test_binary_in_binary_out(client):
    x = field(n_samples=4)[0]
    head = {
        "inputs": [{"name": "X", "shape": [4, 12], "datatype": "FP32",
                    "parameters": {"binary_data_size": x.nbytes}}],
        "parameters": {"binary_data_output": True},
    }  # fmt: skip
    text = json.dumps(head).encode()
    answer = client.post(
        INFER, text + x.astype("<f4").tobytes(), inference_header_content_length=str(len(text))
    )
    assert answer.status == 200
    size = int(answer.headers["inference-header-content-length"])
    head = json.loads(answer.body[:size])
    shares = np.frombuffer(answer.body[size : size + 48], "<f4").reshape(4, 3)
    np.testing.assert_allclose(shares, model().predict_proba(x), rtol=1e-5, atol=1e-7)
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 48}


def test_clients_at_the_same_time_get_their_own_answers(client):
    x = field(n_samples=40)[0]
    answers = client.together(*((INFER, asked(x[at : at + 1])) for at in range(40)))
    expected = model().predict_proba(x)
    ids = set()
    for answer, shares in zip(answers, expected, strict=True):
        by_name = outputs(answer)
        np.testing.assert_allclose(by_name["probabilities"]["data"], shares, rtol=1e-5, atol=1e-7)
        ids |= set(by_name["id"]["data"])
    assert len(ids) == 40


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "no JSON"),
        ({}, "no inputs"),
        (asked(np.zeros((2, 11))), "11"),
        (asked(np.zeros((0, 12))), "one number of samples"),
        (asked(np.full((1, 12), 1e39)), "finite|infinite|inf"),
        (asked(np.zeros((1, 12)), outputs=[{"name": "logits"}]), "'logits' was asked for"),
    ],
)
def test_what_the_model_cannot_take_is_one_line(client, body, says):
    answer = client.post(INFER, body)
    assert answer.status == 400
    assert "\n" not in answer.error
    assert re.search(says, answer.error)


def test_a_length_of_the_head_that_is_no_number_is_refused(client):
    answer = client.post(INFER, b"{}", inference_header_content_length="-1")
    assert (answer.status, "expected a number of bytes" in answer.error) == (400, True)


def test_inputs_are_matched_by_name_where_there_are_several():
    a, b = np.zeros((1, 2)), np.ones((1, 3))
    assert list(inputs_of(["a", "b"], Asked({"b": b, "a": a}))) == ["a", "b"]
    assert inputs_of(["a"], Asked({"other": a}))["a"] is a
    with pytest.raises(DataError, match="the inputs are a, expected a, b"):
        inputs_of(["a", "b"], Asked({"a": a}))


def test_health_and_metadata(client):
    assert client.get("/healthz").json() == {"live": True}
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/fan/ready").json() == {"ready": True}
    assert client.get("/v2").json() == {
        "name": "skip2lora", "version": s2.__version__, "extensions": ["binary_tensor_data"],
    }  # fmt: skip
    assert client.get("/v2/models/fan").json() == {
        "name": "fan", "versions": ["0"], "platform": "skip2lora",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 12]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "answer", "datatype": "BYTES", "shape": [-1]},
            {"name": "id", "datatype": "INT64", "shape": [-1]},
        ],
    }  # fmt: skip


@pytest.mark.parametrize(("path", "method", "status"), [
    ("/v2/models/other", "get", 404), ("/v2/models/other/ready", "get", 404),
    ("/v2/models/other/infer", "post", 404), ("/nothing", "get", 404), ("/page/", "get", 404),
    ("/page/../service.py", "get", 404), ("/page/index.html", "get", 404), (INFER, "get", 404),
    ("/healthz", "post", 405), ("/api/status", "post", 405),
])  # fmt: skip
def test_what_is_not_here(client, path, method, status):
    answer = getattr(client, method)(path)
    assert answer.status == status
    assert answer.error


def _scripts(client):
    """Those of the page that say which others there are."""
    names = ("page.js", "looks.js", "sounds.js")
    return "".join(client.get(f"/page/{name}").body.decode() for name in names)


def test_the_page_and_its_files(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    names = {"page.js", "page.css", *re.findall(r'"\./([a-z.]+)"', _scripts(client))}
    assert {"looks.js", "parts.js", "sounds.js", "talk.js", "words.js"} <= names
    for name in names:
        assert client.get(f"/page/{name}").status == 200
    text = page.body.decode()
    assert "http://" not in text
    assert "https://" not in text
    assert "style=" not in text  # the policy would not let it


def test_a_token_guards_all_but_the_page(served):
    client = Client(application(served, Policy(token=digest("secret"))))
    assert client.get("/").status == client.get("/healthz").status == 200
    assert client.get("/api/status").status == client.post(INFER, asked([[0] * 12])).status == 401
    knows = {"authorization": "Bearer secret"}
    assert client.get("/api/status", **knows).status == 200
    assert client.post(INFER, asked([[0] * 12]), **knows).status == 200
