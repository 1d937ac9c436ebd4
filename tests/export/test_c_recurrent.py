"""GRU and LSTM in C against ONNX Runtime: every tap and every logit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx

import onnx_models as nets
import skip2lora as s2
from chain_models import sequences
from device_rows import off_by
from skip2lora.errors import ModelError
from skip2lora.export.c_layers import GRU, LSTM
from skip2lora.export.c_network import network_of


@pytest.mark.parametrize("last", ["state", "gather", "slice", "step", "rest", "mean"])
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_random_sequences(kind: str, last: str, tmp_path: Path) -> None:
    """One layer or two, a GRU's reset before and after its product, and each way to the end."""
    for seed in range(4):
        proto, shape = sequences(seed=seed, kind=kind, last=last)
        model = s2.load(nets.save(proto, tmp_path / f"{seed}.onnx"))
        assert off_by(model, shape) < 1e-5
        layers = network_of(model).layers
        assert layers[0].kind == (GRU if kind == "GRU" else LSTM)
        assert layers[0].tap_width == 2 * shape[1]


def changed(path: Path, change: Any) -> s2.Backbone:
    """A GRU whose node ``change`` has altered."""
    proto, _ = sequences(seed=0, last="gather")
    node = next(node for node in proto.graph.node if node.op_type == "GRU")
    change(proto, node)
    return s2.load(nets.save(proto, path))


def backwards(proto: Any, node: Any) -> None:
    node.attribute.append(onnx.helper.make_attribute("direction", "reverse"))


def relu(proto: Any, node: Any) -> None:
    node.attribute.append(onnx.helper.make_attribute("activations", ["Sigmoid", "Relu"]))


def begins(proto: Any, node: Any) -> None:
    hidden = next(each.i for each in node.attribute if each.name == "hidden_size")
    state = np.full((1, 1, hidden), 0.5, np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(state, "begin"))
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    node.input.extend(["", "begin"])


@pytest.mark.parametrize("change", [backwards, relu, begins])
def test_what_c_lacks_is_named(change: Any, tmp_path: Path, refused) -> None:
    model = changed(tmp_path / "m.onnx", change)
    message = refused(ModelError, network_of, model)
    assert "node rnn0 (GRU) has no counterpart in C with what it is given" in message


def test_another_step_than_the_last(tmp_path: Path, refused) -> None:
    def earlier(proto: Any, node: Any) -> None:
        for each in proto.graph.initializer:
            if each.name == "end":
                each.CopyFrom(onnx.numpy_helper.from_array(np.array(1), "end"))

    message = refused(ModelError, network_of, changed(tmp_path / "m.onnx", earlier))
    assert "(Gather) has no counterpart in C but of the last step" in message


@pytest.mark.parametrize(("begin", "end"), [(0, 1), (1, 2), (-2, -1)])
def test_other_steps_are_refused(begin: int, end: int, tmp_path: Path, refused) -> None:
    proto, shape = sequences(seed=0, last="slice")
    assert shape[0] > 3
    for each in proto.graph.initializer:
        if each.name in ("from", "to"):
            value = np.array([begin if each.name == "from" else end])
            each.CopyFrom(onnx.numpy_helper.from_array(value, each.name))
    model = s2.load(nets.save(proto, tmp_path / "m.onnx"))
    assert "of the last step" in refused(ModelError, network_of, model)


@pytest.mark.filterwarnings("ignore")  # of the exporter: what it writes is what counts here
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_what_pytorch_exports(kind: str, tmp_path: Path) -> None:
    """Its states of zeros are computed from the number of samples."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")

    class Words(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.front = torch.nn.Sequential(
                torch.nn.Conv1d(5, 8, 3, padding=1), torch.nn.BatchNorm1d(8), torch.nn.ReLU(),
                torch.nn.MaxPool1d(2),
            )  # fmt: skip
            self.rnn = getattr(torch.nn, kind)(8, 6, num_layers=2, batch_first=True)
            self.fc = torch.nn.Linear(6, 4)

        def forward(self, x: Any) -> Any:
            return self.fc(self.rnn(self.front(x).transpose(1, 2))[0][:, -1])

    torch.manual_seed(0)
    path = tmp_path / "m.onnx"
    torch.onnx.export(
        Words().eval(), (torch.zeros(2, 5, 12),), path, dynamo=False, opset_version=17,
        input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
    )  # fmt: skip
    assert off_by(s2.load(path), (5, 12)) < 1e-5
