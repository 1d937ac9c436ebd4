"""Any graph of the kinds that exporters write: its export gives what the adapted model gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx
import onnxruntime

import onnx_models as nets
import skip2lora as s2
from onnx_exports import activated, session_of
from skip2lora.export.onnx import export_onnx, export_onnx_adapter

CLASSES = 3
SHAPES: dict[str, tuple[int, ...]] = {"table": (9,), "image": (3, 8, 6), "sequence": (5, 7)}


class Maker:
    """A network drawn layer by layer: layers with weights, residual sums, activations."""

    def __init__(self, draw: Any, kind: str, opset: int) -> None:
        self.draw, self.net, self.kind, self.count = draw, nets.Net(opset=opset), kind, 0

    def name(self, word: str) -> str:
        self.count += 1
        return f"{word}{self.count}"

    def layer(self, tensor: str, width: int, out: int) -> str:
        net, name = self.net, self.name("layer")
        if self.kind == "image":
            depthwise = width == out and self.draw(st.booleans())
            size = self.draw(st.sampled_from((1, 3)))
            weight = net.weight(f"{name}.w", out, 1 if depthwise else width, size, size)
            operands = [tensor, weight, net.vector(f"{name}.b", out)]
            group, pads = width if depthwise else 1, [size // 2] * 4
            return net.node("Conv", operands, name, group=group, pads=pads)
        weight = net.weight(f"{name}.w", width, out)
        if self.kind == "table" and self.draw(st.booleans()):
            return net.node("Gemm", [tensor, weight, net.vector(f"{name}.b", out)], name)
        made = net.node("MatMul", [tensor, weight], name)
        if self.draw(st.booleans()):
            return made
        return net.node("Add", [made, net.vector(f"{name}.b", out)], f"{name}.sum")

    def body(self, tensor: str, width: int) -> tuple[str, int]:
        for _ in range(self.draw(st.integers(0, 3))):
            out = self.draw(st.sampled_from((width, 4, 11)))
            made = self.layer(tensor, width, out)
            made = self.net.node(self.draw(st.sampled_from(("Relu", "Tanh"))), [made], f"{made}.a")
            if out == width and self.draw(st.booleans()):
                made = self.net.node("Add", [made, tensor], f"{made}.residual")
            tensor, width = made, out
        return tensor, width

    def tail(self, tensor: str, width: int) -> tuple[str, int]:
        """From a map or a sequence to one row."""
        if self.kind == "image":
            pooled = self.net.node("GlobalAveragePool", [tensor], "pooled")
            return self.net.node("Flatten", [pooled], "flat"), width
        if self.kind == "sequence":
            place = self.net.constant("first", np.int64(0))
            return self.net.node("Gather", [tensor, place], "taken", axis=1), width
        return tensor, width


@st.composite
def networks(draw: Any) -> tuple[Any, int]:
    """A model, and a number of samples that suits its batch."""
    kind = draw(st.sampled_from(sorted(SHAPES)))
    opset = draw(st.sampled_from((9, 11, 13, 17, 21)))
    maker = Maker(draw, kind, opset)
    batch = draw(st.sampled_from(("n", 1, 3)))
    shape = SHAPES[kind]
    names = ["x", "second"] if draw(st.booleans()) else ["x"]
    tensor = "x"
    if len(names) > 1:
        tensor = maker.net.node("Add", names, "both")
    tensor, width = maker.body(tensor, shape[0] if kind == "image" else shape[-1])
    tensor, width = maker.tail(tensor, width)
    maker.kind = "table"
    tensor = maker.layer(tensor, width, CLASSES)
    end = draw(st.sampled_from((None, "Softmax", "Sigmoid")))
    if end is not None:
        options = {} if end == "Sigmoid" else {"axis": 1}
        tensor = maker.net.node(end, [tensor], "probabilities", **options)
    inputs = [nets.value(name, [batch, *shape]) for name in names]
    model = maker.net.model(inputs, [nets.value(tensor, [batch, CLASSES])])
    return model, batch if isinstance(batch, int) else draw(st.integers(1, 6))


def samples_for(model: Any, count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(count)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]]
        for value in model.graph.input
    }
    return {
        name: random.normal(size=(count, *shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def adapted_to(backbone: Any, feed: dict[str, np.ndarray], task: str, new: bool) -> Any:
    count = len(feed["x"])
    y: Any = np.arange(count) % (CLASSES + 2 if new else CLASSES)
    if task == "multi-label":
        y = np.arange(count * CLASSES).reshape(count, CLASSES) % 2
    if task == "regression":
        y = np.linspace(-2, 2, count * CLASSES).reshape(count, CLASSES)
    return s2.adapt(
        backbone, feed, y, task=task, new_classes=new, epochs=2, rank=2, learning_rate=0.05
    )


@given(networks(), st.booleans(), st.booleans(), st.booleans())
def test_exports(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: tuple[Any, int],
    new: bool,
    external: bool,
    whole: bool,
) -> None:
    model, feed = drawn[0], samples_for(*drawn)
    folder = tmp_path_factory.mktemp("export")
    path = nets.save(model, folder / "m.onnx", external=external)
    last = model.graph.node[-1].op_type
    task = "multi-label" if last == "Sigmoid" else "classification"
    if last not in ("Sigmoid", "Softmax") and not new:
        task = "regression"
    new = new and task == "classification"
    backbone = s2.load(path, taps=None if whole else 1)
    check_exports(backbone, adapted_to(backbone, feed, task, new), model, feed, folder)


def check_exports(
    backbone: Any, adapted: Any, model: Any, feed: dict[str, np.ndarray], folder: Path
) -> None:
    want = activated(model, adapted.logits(feed))
    base = session_of(backbone.path)
    export_onnx(backbone, adapted.adapters, folder / "e.onnx")
    onnx.checker.check_model(str(folder / "e.onnx"))
    beside = export_onnx_adapter(backbone, adapted.adapters, folder / "s.onnx")
    loaded, options = onnxruntime.LoraAdapter(), onnxruntime.RunOptions()
    loaded.Load(str(beside))
    options.add_active_adapter(loaded)
    for name, chosen in (("e.onnx", None), ("s.onnx", options)):
        session = session_of(folder / name)
        for side in ("get_inputs", "get_outputs"):
            ours, theirs = getattr(session, side)(), getattr(base, side)()
            assert [(v.name, v.type) for v in ours] == [(v.name, v.type) for v in theirs]
        [made] = session.run(None, feed, chosen)
        np.testing.assert_allclose(made, want, rtol=1e-5, atol=1e-5)
        facts = session.get_modelmeta().custom_metadata_map
        assert facts["skip2lora.base_fingerprint"] == backbone.fingerprint
    plain = session_of(folder / "s.onnx").run(None, feed)[0]
    old = base.run(None, feed)[0]
    if plain.shape == old.shape:
        np.testing.assert_allclose(plain, old, rtol=1e-5, atol=1e-5)
