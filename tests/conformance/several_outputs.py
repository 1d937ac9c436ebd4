"""One network with three outputs, age, gender and emotion, in every runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2

NAMES = {"age": 1, "gender": 2, "emotion": 5}
N_FEATURES, WIDTH = 6, 8
Answers = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Several:
    """``load(**options)`` gives the backbone, ``answers`` what the runtime itself computes."""

    load: Callable[..., Any]
    answers: Answers
    names: tuple[str, ...] = tuple(NAMES)


def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"hidden": (N_FEATURES, WIDTH), **{name: (WIDTH, n) for name, n in NAMES.items()}}
    return {name: random.normal(size=of).astype(np.float32) for name, of in shapes.items()}


def onnx_file(path: Path, *, softmax: bool = True) -> Path:
    """age, gender and emotion as ``path``; without ``softmax`` nothing says which classifies."""
    pytest.importorskip("onnx", reason="needs the package onnx")
    import onnx_models as nets

    net = nets.Net()
    given = {name: net.constant(f"w.{name}", values) for name, values in weights().items()}
    hidden = net.node("Relu", [net.node("MatMul", ["x", given["hidden"]], "fc")], "hidden")
    for name in NAMES:
        ends = softmax and name == "emotion"
        made = net.node("MatMul", [hidden, given[name]], f"{name}.logits" if ends else name)
        if ends:
            net.node("Softmax", [made], name, axis=1)
    outputs = [nets.value(name, ["n", n]) for name, n in NAMES.items()]
    return nets.save(net.model([nets.value("x", ["n", N_FEATURES])], outputs), path)


def embedding_file(path: Path) -> Path:
    """An embedding, and logits made of it."""
    import onnx_models as nets

    net, given = nets.Net(), weights()
    made = net.node("MatMul", ["x", net.constant("w", given["hidden"])], "embedding")
    net.node("MatMul", [made, net.constant("v", given["emotion"])], "logits")
    outputs = [nets.value("embedding", ["n", WIDTH]), nets.value("logits", ["n", 5])]
    return nets.save(net.model([nets.value("x", ["n", N_FEATURES])], outputs), path)


def onnx(folder: Path) -> Several:
    ort = pytest.importorskip("onnxruntime", reason="needs the package onnxruntime")
    path = onnx_file(folder / "m.onnx")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return Several(partial(s2.load, path), lambda x: session.run(None, {"x": x}))


def litert(folder: Path) -> Several:
    interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT")
    from tflite_models import RELU, File

    file, given = File(), weights()
    x, hidden = file.tensor("x", (1, N_FEATURES)), file.tensor("hidden", (1, WIDTH))

    def layer(name: str, source: int, made: int, **options: Any) -> None:
        weight = file.constant(f"w.{name}", np.ascontiguousarray(given[name].T))
        file.operator("FULLY_CONNECTED", [source, weight, -1], [made], **options)

    layer("hidden", x, hidden, fusedActivationFunction=RELU)
    outputs = []
    for name, n_outputs in NAMES.items():
        outputs.append(file.tensor(name, (1, n_outputs)))
        if name != "emotion":
            layer(name, hidden, outputs[-1])
            continue
        logits = file.tensor("emotion.logits", (1, n_outputs))
        layer(name, hidden, logits)
        file.operator("SOFTMAX", [logits], [outputs[-1]], beta=1.0)
    path = folder / "m.tflite"
    path.write_bytes(file.pack([x], outputs))
    interpreter = interpreters.Interpreter(str(path))
    interpreter.allocate_tensors()

    def answers(samples: np.ndarray) -> list[np.ndarray]:
        rows: list[list[np.ndarray]] = [[] for _ in outputs]
        for sample in samples:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
            interpreter.invoke()
            for kept, about in zip(rows, interpreter.get_output_details(), strict=True):
                kept.append(interpreter.get_tensor(about["index"]))
        return [np.concatenate(each) for each in rows]

    return Several(lambda **options: s2.load(path, **options), answers)


def openvino(folder: Path) -> Several:
    import openvino_models as nets

    net, given = nets.Net(), weights()
    x = net.input("x", [-1, N_FEATURES])

    def layer(name: str, source: Any) -> Any:
        return nets.op.matmul(source, nets.constant(given[name]), False, False, name=name)

    hidden = nets.named(nets.op.relu(layer("hidden", x)), "hidden")
    ends = {name: layer(name, hidden) for name in NAMES}
    ends["emotion"] = nets.op.softmax(ends["emotion"], 1)
    model = net.model(*(nets.named(node, name) for name, node in ends.items()))
    path = nets.save(model, folder / "m.xml")
    compiled = nets.core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def answers(samples: np.ndarray) -> list[np.ndarray]:
        made = compiled(samples)
        return [made[number] for number in range(len(NAMES))]

    return Several(lambda **options: s2.load(path, **options), answers)


def torch_module(kind: str) -> Any:
    """A module that returns a tuple, a dict or an object."""
    from types import SimpleNamespace

    import torch
    from torch import nn

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, values in weights().items():
                linear = nn.Linear(*values.shape, bias=False)
                linear.weight.data = torch.from_numpy(values.T.copy())
                setattr(self, name, linear)
            self.softmax = nn.Softmax(1)

        def forward(self, x: Any) -> Any:
            hidden = torch.relu(self.hidden(x))
            emotion = self.softmax(self.emotion(hidden))
            ends = dict(zip(NAMES, (self.age(hidden), self.gender(hidden), emotion), strict=True))
            return {"tuple": tuple(ends.values()), "dict": ends}.get(kind, SimpleNamespace(**ends))

    return Heads().eval()


def torch(_: Path, kind: str = "tuple") -> Several:
    library = pytest.importorskip("torch", reason="PyTorch is not installed (extra torch)")
    module = torch_module(kind)
    example = np.zeros((1, N_FEATURES), np.float32)

    def answers(samples: np.ndarray) -> list[np.ndarray]:
        with library.no_grad():
            made = module(library.from_numpy(samples))
        parts = made if kind == "tuple" else (made if kind == "dict" else vars(made)).values()
        return [part.numpy() for part in parts]

    def load(**options: Any) -> Any:
        return s2.TorchBackbone(module, example=example, **options)

    return Several(load, answers, ("0", "1", "2") if kind == "tuple" else tuple(NAMES))


RUNTIMES: dict[str, Callable[[Path], Several]] = {
    "ONNX": onnx,
    "LiteRT": litert,
    "OpenVINO": openvino,
    "PyTorch, tuple": torch,
    "PyTorch, dict": lambda folder: torch(folder, "dict"),
    "PyTorch, object": lambda folder: torch(folder, "object"),
}
