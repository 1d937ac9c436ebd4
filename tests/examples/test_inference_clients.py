"""A stock client of the Open Inference Protocol, over a socket, in JSON and in binary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.place import field, model

http = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("clients")
    model().save(folder / "fan.safetensors")
    words = ["serve", str(folder / "fan.safetensors"), "--store", str(folder / "s"), "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "skip2lora", *words, "--json"], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"].removeprefix("http://")
    client = http.InferenceServerClient(url)
    yield client
    client.close()
    process.kill()
    process.communicate()


def test_it_is_live_and_tells_about_the_model(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fan")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("fan")["inputs"] == [
        {"name": "X", "datatype": "FP32", "shape": [-1, 12]}
    ]


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("outputs", [None, True, False])
def test_predictions_are_those_of_the_model(client: Any, binary_in: bool, outputs: Any) -> None:
    x = field(n_samples=7)[0].astype(np.float32)
    tensor = http.InferInput("X", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x, binary_data=binary_in)
    names = ("answer", "probabilities", "id")
    asked = outputs if outputs is None else [
        http.InferRequestedOutput(name, binary_data=outputs) for name in names
    ]  # fmt: skip
    answer = client.infer("fan", [tensor], outputs=asked, request_id="7")
    shares = model().predict_proba(x)
    np.testing.assert_allclose(answer.as_numpy("probabilities"), shares, rtol=1e-5, atol=1e-7)
    texts = [
        each.decode() if isinstance(each, bytes) else each for each in answer.as_numpy("answer")
    ]
    assert texts == model().predict(x).tolist()
    assert len(set(answer.as_numpy("id").tolist())) == 7
    assert answer.get_response()["id"] == "7"


def test_what_is_wrong_is_said_by_the_client(client: Any) -> None:
    tensor = http.InferInput("X", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 3), np.float32))
    with pytest.raises(http.InferenceServerException, match="3 columns, the model expects 12"):
        client.infer("fan", [tensor])
    with pytest.raises(http.InferenceServerException, match="not here"):
        client.infer("other", [tensor])
