"""A network of tokens and their mask as ONNX, and the rows that its tap must have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

N_TOKENS, WIDTH = 6, 5
LENGTHS = np.array([3, 6, 1, 4, 5, 2, 6])
COUNTS = np.arange(N_TOKENS) < LENGTHS[:, None]
RANDOM = np.random.default_rng(3)
IDS = RANDOM.integers(0, 9, COUNTS.shape)
TABLE = RANDOM.normal(size=(9, WIDTH)).astype(np.float32)
KINDS = [
    ("tokens", "int64", 0), ("tokens", "bool", 0), ("tokens", "float32", 2),
    ("padding", "bool", 0), ("padding", "int32", 1), ("padding", "float32", 0),
    ("additive", "float32", 0), ("additive", "float32", 2), ("additive", "float16", 0),
    ("lengths", "int64", 0), ("lengths", "int32", 1),
]  # fmt: skip


def said(meaning: str, dtype: str, ones: int) -> np.ndarray:
    """COUNTS, said so."""
    values = {
        "tokens": COUNTS, "padding": ~COUNTS, "lengths": LENGTHS,
        "additive": np.where(COUNTS, 0, -np.inf),
    }[meaning]  # fmt: skip
    return values.reshape(len(values), *[1] * ones, *values.shape[1:]).astype(dtype)


def saved(
    path: Path, meaning: str, dtype: str, ones: int, name: str = "m", *, reads: bool = True
) -> Path:
    """Tokens, averaged by the mask, then two layers; without ``reads`` by none."""
    from onnx import TensorProto, helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes: list[Any] = []

    def node(operator: str, inputs: str, output: str, **options: Any) -> None:
        nodes.append(helper.make_node(operator, inputs.split(), [output], output, **options))

    node("Gather", "table ids", "tokens")
    node("MatMul", "tokens up", "hidden")
    if meaning == "lengths":
        node("Reshape", f"{name} column", "length")
        node("Cast", "length", "long", to=TensorProto.INT64)
        node("Less", "order long", "counting")
    elif meaning == "additive":
        node("Cast", name, "number", to=TensorProto.FLOAT)
        node("Flatten", "number", "flat")
        node("Greater", "flat least", "counting")
    else:
        node("Cast", name, "marked", to=TensorProto.BOOL)
        node("Not", "marked", "not")
        node("Flatten", "marked" if meaning == "tokens" else "not", "counting")
    node("Cast", "counting" if reads else "all", "weight", to=TensorProto.FLOAT)
    node("Reshape", "weight row", "weights")
    node("MatMul", "weights hidden", "sum")
    node("Flatten", "sum", "pooled")
    node("Relu", "pooled", "active")
    node("MatMul", "active head", "y")
    constants = {
        "table": TABLE, "up": RANDOM.normal(size=(WIDTH, 4)).astype(np.float32),
        "head": RANDOM.normal(size=(4, 3)).astype(np.float32), "order": np.arange(N_TOKENS)[None],
        "column": np.array([-1, 1]), "row": np.array([0, 1, -1]),
        "least": np.array(-1, np.float32), "all": np.ones((1, N_TOKENS), bool),
    }  # fmt: skip
    shape = ["n", *[1] * ones] + ([] if meaning == "lengths" else [N_TOKENS])
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", N_TOKENS]),
            helper.make_tensor_value_info(name, kind, shape),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    path.write_bytes(model.SerializeToString())
    return path


def rows() -> np.ndarray:
    """The tap of the tokens: the mean of those that count, then the first."""
    tokens = TABLE[IDS].astype(np.float64)
    mean = (tokens * COUNTS[:, :, None]).sum(axis=1) / COUNTS.sum(axis=1, keepdims=True)
    return np.concatenate([mean, tokens[:, 0]], axis=1)
