"""A small .tflite file with variables, built field by field, as microWakeWord's are."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tflite_models import RELU, File

STEP, WIDTH, HIDDEN = 3, 4, 6
FIRST = 0.5  # of the frames before the first call


def variable(
    file: File, name: str, shape: tuple[int, ...], *, assigned: int | None = None
) -> tuple[int, int]:
    """A variable that is read, after something was ``assigned``: its handle, and what is read."""
    handle = file.tensor(f"{name}.handle", ())
    file.graph.tensors[handle].type = schema.TensorType.RESOURCE
    file.operator("VAR_HANDLE", [], [handle], sharedName=name)
    if assigned is not None:
        file.operator("ASSIGN_VARIABLE", [handle, assigned], [])
    value = file.tensor(f"{name}.value", shape)
    file.operator("READ_VARIABLE", [handle], [value])
    return handle, value


def beginning(file: File, values: dict[str, np.ndarray]) -> None:
    """The graph that CALL_ONCE runs, which assigns the first values."""
    main, file.graph = file.graph, schema.SubGraphT()
    file.graph.tensors, file.graph.operators = [], []
    file.graph.inputs, file.graph.outputs = [], []
    for name, value in values.items():
        handle = file.tensor(f"{name}.handle", ())
        file.graph.tensors[handle].type = schema.TensorType.RESOURCE
        file.operator("VAR_HANDLE", [], [handle], sharedName=name)
        file.operator("ASSIGN_VARIABLE", [handle, file.constant(name, value)], [])
    file.model.subgraphs.append(file.graph)
    file.graph = main


def streaming(
    *, classes: int = 4, end: str = "SOFTMAX", late: bool = False, twice: bool = False,
    fed: bool = False, seed: int = 0,
) -> bytes:  # fmt: skip
    """Three frames of four a call, beside two from before; a sum of what was seen; classes.

    A file that is ``late`` reads a variable after it was assigned, or reads one ``twice``; the
    logits of one that is ``fed`` are what is summed.
    """
    random, file = np.random.default_rng(seed), File()

    def weight(name: str, *shape: int) -> int:
        values = random.normal(size=shape) / np.sqrt(shape[-1])
        return file.constant(name, values.astype(np.float32))

    x = file.tensor("x", (1, STEP, WIDTH))
    file.operator("CALL_ONCE", [], [], initSubgraphIndex=1)
    frames_of, before = variable(file, "frames", (1, 2, WIDTH))
    frames = file.tensor("all", (1, 2 + STEP, WIDTH))
    file.operator("CONCATENATION", [before, x], [frames], axis=1)
    begin, stop, by = (
        file.constant(name, np.array(at, np.int32))
        for name, at in (("from", [0, STEP, 0]), ("to", [1, STEP + 2, WIDTH]), ("by", [1, 1, 1]))
    )
    last = file.tensor("last", (1, 2, WIDTH))
    file.operator("STRIDED_SLICE", [frames, begin, stop, by], [last])
    file.operator("ASSIGN_VARIABLE", [frames_of, last], [])
    row = file.tensor("row", (1, (2 + STEP) * WIDTH))
    shape = file.constant("shape", np.array([1, (2 + STEP) * WIDTH], np.int32))
    file.operator("RESHAPE", [frames, shape], [row])
    hidden = file.tensor("hidden", (1, HIDDEN))
    zeros = file.constant("zeros", np.zeros(HIDDEN, np.float32))
    first = weight("w", HIDDEN, (2 + STEP) * WIDTH)
    file.operator("FULLY_CONNECTED", [row, first, zeros], [hidden], fusedActivationFunction=RELU)
    size = classes if fed else HIDDEN
    sums_of, sums = variable(file, "sums", (1, size), assigned=hidden if late else None)
    if twice:
        file.operator("READ_VARIABLE", [sums_of], [file.tensor("again", (1, size))])
    logits = file.tensor("logits", (1, classes))
    bias = file.constant("b", np.zeros(classes, np.float32))
    total = file.tensor("total", (1, size))
    if fed:
        file.operator("FULLY_CONNECTED", [hidden, weight("v", classes, HIDDEN), bias], [logits])
        file.operator("ADD", [sums, logits], [total])
    else:
        file.operator("ADD", [sums, hidden], [total])
        file.operator("FULLY_CONNECTED", [total, weight("v", classes, HIDDEN), bias], [logits])
    if not late:
        file.operator("ASSIGN_VARIABLE", [sums_of, total], [])
    output = file.tensor("y", (1, classes))
    file.operator(end, [logits], [output], **({"beta": 1.0} if end == "SOFTMAX" else {}))
    firsts = {"frames": np.full((1, 2, WIDTH), FIRST, np.float32)}
    beginning(file, {**firsts, "sums": np.zeros((1, size), np.float32)})
    return file.pack([x], [output])


def answers(content: bytes, x: np.ndarray) -> list[np.ndarray]:
    """What a new interpreter gives of the last call of each sample, an array an output."""
    rows: list[list[Any]] = []
    for sample in x:
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        (given,) = interpreter.get_input_details()
        for call in sample:
            interpreter.set_tensor(given["index"], call[None])
            interpreter.invoke()
        outputs = interpreter.get_output_details()
        rows.append([interpreter.get_tensor(each["index"])[0] for each in outputs])
    return [np.stack(each) for each in zip(*rows, strict=True)]


def samples(n_samples: int = 12, n_calls: int = 4, *, seed: int = 1) -> np.ndarray:
    """Samples of several calls."""
    random = np.random.default_rng(seed)
    return random.normal(size=(n_samples, n_calls, STEP, WIDTH)).astype(np.float32)
