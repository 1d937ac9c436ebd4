"""Where the logits of a LiteRT graph are, what stands behind them, and what then is predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")

from ai_edge_litert.interpreter import Interpreter

import skip2lora as s2
import tflite_models as files
from closed_ends import learns_new_outputs_alone
from skip2lora.backbones.ends import End
from skip2lora.backbones.litert.ends import end_of
from skip2lora.backbones.litert.file import Operator

Refused = Callable[..., str]
WEIGHT, BIAS = 90, 91
CONSTANTS = {WEIGHT, BIAS}
LAYER = Operator("FULLY_CONNECTED", (0, WEIGHT), (1,))


def end(*behind: str | Operator, layer: Operator = LAYER, beta: float = 1.0) -> End:
    """The end of a layer that makes tensor 1, with operators in a row behind it."""
    operators = [layer]
    for at, each in enumerate(behind, start=1):
        inputs = (at, WEIGHT) if each in ("RESHAPE", "ARG_MAX", "MUL") else (at,)
        name = isinstance(each, str)
        operators.append(Operator(each, inputs, (at + 1,), beta) if name else each)
    makers = {index: each for each in operators for index in each.outputs}
    return end_of(len(operators), makers, CONSTANTS, {1})


@pytest.mark.parametrize(
    ("behind", "logits", "ending"),
    [
        ((), 1, "logits"),
        (("SOFTMAX",), 1, "softmax"),
        (("LOG_SOFTMAX",), 1, "softmax"),
        (("LOGISTIC",), 1, "sigmoid"),
        (("ARG_MAX",), 1, "softmax"),
        (("SOFTMAX", "ARG_MAX"), 1, "softmax"),
        (("DEQUANTIZE", "SOFTMAX", "RESHAPE", "QUANTIZE"), 2, "softmax"),
        (("SQUEEZE",), 2, "logits"),
        (("LOGISTIC", "SOFTMAX"), 2, "softmax"),  # the last activation alone is left out
        (("SOFTMAX", "MUL"), 3, "probabilities"),  # by a constant that is not known
        (("TANH",), 2, "unknown"),
    ],
    ids=str,
)
def test_the_last_activation_is_what_ends_it(
    behind: tuple[str, ...], logits: int, ending: str
) -> None:
    walked = end(*behind)
    assert (walked.logits, walked.ending, walked.factor) == (logits, ending, 1.0)


def test_beta_is_that_of_the_softmax() -> None:
    walked = end("SOFTMAX", beta=2.0)
    assert (walked.logits, walked.ending, walked.factor) == (1, "softmax", 2.0)
    assert end("TANH", beta=2.0).factor == 1.0


@pytest.mark.parametrize(
    ("add", "ending"),
    [
        (Operator("ADD", (1, BIAS), (2,)), "logits"),
        (Operator("ADD", (BIAS, 1), (2,)), "logits"),
        (Operator("ADD", (1, BIAS), (2,), activated=True), "unknown"),
        (Operator("ADD", (1, 0), (2,)), "unknown"),  # a residual
        (Operator("MUL", (1, BIAS), (2,)), "unknown"),
    ],
    ids=["bias", "bias first", "with RELU", "residual", "factor"],
)
def test_a_layer_may_have_its_bias_behind_it(add: Operator, ending: str) -> None:
    assert (end(add).logits, end(add).ending) == (2, ending)


@pytest.mark.parametrize(
    "layer",
    [
        Operator("FULLY_CONNECTED", (0, WEIGHT), (1,), activated=True),
        Operator("BATCH_MATMUL", (0, 7), (1,)),
    ],
    ids=["with RELU", "of two activations"],
)
def test_what_is_no_layer_of_logits(layer: Operator) -> None:
    assert end(layer=layer).ending == "unknown"
    assert end("SOFTMAX", layer=layer).ending == "softmax"


def test_an_input_of_the_graph_is_no_layer() -> None:
    walked = end_of(0, {}, CONSTANTS, {1})
    assert (walked.logits, walked.ending) == (0, "unknown")


X = np.random.default_rng(4).normal(size=(24, 6)).astype(np.float32)


class Tail:
    """Operators behind logits ``z``, (1, width), of a network of two layers, float or integers."""

    def __init__(self, width: int, integers: str | None) -> None:
        self.file, self.width, self.integers = files.File(), width, integers
        self.network = files.mlp([6, 8, width], integers=integers)
        x = at = np.random.default_rng(5).normal(size=(200, 6))
        self.x = self.z = self.network.activation(self.file, "x", x, None)
        for number, layer in enumerate(self.network.layers):
            at = layer.real(at)
            to = self.network.activation(self.file, f"layer{number}", at, None)
            self.network.put(self.file, layer, number, self.z, to, at.shape)
            self.z = to
        self.count = 0

    def __call__(self, kind: str, *inputs: Any, dtype: str = "", **options: Any) -> int:
        """A tensor; arrays and numbers are constants. By default what is made is in -1 to 1."""
        integers = self.integers or "float32"
        shape = options.pop("shape", (1, self.width))
        how = {
            "scale": options.pop("scale", 1 / 256),
            "zero_point": options.pop("zero_point", -128 if integers == "int8" else 0),
        }
        how = {} if integers == "float32" or dtype else how
        made = self.file.tensor(f"{kind.lower()}{self.count}", shape, dtype or integers, **how)
        self.count += 1
        self.file.operator(kind, [self.constant(of) for of in inputs], [made], **options)
        return made

    def constant(self, of: Any) -> int:
        if isinstance(of, int):
            return of
        values = np.asarray(of)
        values = values.astype(np.float32 if values.dtype.kind == "f" else values.dtype)
        self.count += 1
        if values.dtype == np.float32 and self.integers:
            scale = float(np.abs(values).max()) / 127
            whole = np.rint(values / scale).astype(np.int8)
            if self.integers == "uint8":
                whole = (whole.astype(np.int32) + 128).astype(np.uint8)
            zero = 128 if self.integers == "uint8" else 0
            return self.file.constant(f"constant{self.count}", whole, scale=scale, zero_point=zero)
        return self.file.constant(f"constant{self.count}", values)

    def save(self, output: int, path: Path) -> Path:
        path.write_bytes(self.file.pack([self.x], [output]))
        return path


def softmax(t: Tail, z: int | None = None, beta: float = 1.0) -> int:
    return t("SOFTMAX", t.z if z is None else z, beta=beta)


def sigmoid(t: Tail) -> int:
    return t("LOGISTIC", t.z)


def turned(t: Tail, p: int) -> int:
    return t("SUB", 1.0, p)


def side_by_side(t: Tail, one: int, other: int) -> int:
    return t("CONCATENATION", one, other, shape=(1, 2 * t.width), axis=1)


def largest(t: Tail, of: int) -> int:
    axis = np.array(1, np.int32)
    return t("ARG_MAX", of, axis, shape=(1,), dtype="int64", outputType=files.TYPES["int64"])


def real(t: Tail, of: int, **options: Any) -> int:
    return t("DEQUANTIZE", of, dtype="float32", **options)


def pair(t: Tail) -> int:
    p = sigmoid(t)
    return side_by_side(t, turned(t, p), p)


FLOAT, ALL = (None,), (None, "int8", "uint8")
INTEGERS = ("int8", "uint8")
Build = Callable[[Tail], int]
#: name: logits, types, what makes the output, what the output is of what is predicted.
KEPT: dict[str, tuple[int, tuple[str | None, ...], Build, Callable[[Any], Any]]] = {
    "softmax": (3, ALL, softmax, lambda s: s[0]),
    "softmax of beta 2": (3, ALL, lambda t: softmax(t, beta=2.0), lambda s: s[0]),
    "log": (3, FLOAT, lambda t: t("LOG_SOFTMAX", t.z), lambda s: np.log(s[0])),
    "log of softmax": (3, FLOAT, lambda t: t("LOG", softmax(t)), lambda s: np.log(s[0])),
    "percent": (3, FLOAT, lambda t: t("MUL", softmax(t), 100.0), lambda s: 100 * s[0]),
    "percent by division": (3, FLOAT, lambda t: t("DIV", softmax(t), 0.01), lambda s: 100 * s[0]),
    "clamped": (
        3, FLOAT, lambda t: t("MINIMUM", t("MAXIMUM", softmax(t), 1e-6), 1 - 1e-6),
        lambda s: s[0],
    ),
    "clamped to 0 and 1": (3, FLOAT, lambda t: t("RELU_0_TO_1", softmax(t)), lambda s: s[0]),
    "temperature": (3, FLOAT, lambda t: softmax(t, t("DIV", t.z, 2.5)), lambda s: s[0]),
    "reshaped": (
        3, ALL,
        lambda t: t("RESHAPE", softmax(t), np.array([1, 1, 3], np.int32), shape=(1, 1, 3)),
        lambda s: s[0][:, None],
    ),
    "squeezed": (
        1, ALL, lambda t: t("SQUEEZE", sigmoid(t), shape=(1,), squeezeDims=[1]),
        lambda s: s[0][:, 0],
    ),
    "one axis more": (
        3, FLOAT,
        lambda t: t("EXPAND_DIMS", softmax(t), np.array(1, np.int32), shape=(1, 1, 3)),
        lambda s: s[0][:, None],
    ),
    "real numbers": (3, INTEGERS, lambda t: real(t, softmax(t)), lambda s: s[0]),
    "softmax of real numbers": (
        3, INTEGERS, lambda t: t("SOFTMAX", real(t, t.z), dtype="float32", beta=1.0),
        lambda s: s[0],
    ),
    "other integers": (
        3, INTEGERS,
        lambda t: t("QUANTIZE", t("SOFTMAX", real(t, t.z), dtype="float32", beta=1.0)),
        lambda s: s[0],
    ),
    "sigmoid": (3, ALL, sigmoid, lambda s: s[0]),
    "one sigmoid": (1, ALL, sigmoid, lambda s: s[0]),
    "real numbers of sigmoids": (3, INTEGERS, lambda t: real(t, sigmoid(t)), lambda s: s[0]),
    "turned": (2, FLOAT, lambda t: turned(t, sigmoid(t)), lambda s: s[0]),
    "1 - p, p": (1, FLOAT, pair, lambda s: s[0]),
    "p, 1 - p": (
        1, FLOAT, lambda t: side_by_side(t, p := sigmoid(t), turned(t, p)), lambda s: s[0],
    ),
    "1 - p, p of several": (
        3, FLOAT, pair, lambda s: np.concatenate([1 - s[0], s[0]], axis=1),
    ),
    "1 - p, p on an axis of their own": (
        1, FLOAT,
        lambda t: t("PACK", turned(t, p := sigmoid(t)), p, shape=(1, 2, 1), axis=1, valuesCount=2),
        lambda s: s[0][:, :, None],
    ),
    "label": (3, ALL, lambda t: largest(t, t.z), lambda s: s[1]),
    "label of softmax": (3, ALL, lambda t: largest(t, softmax(t)), lambda s: s[1]),
    "label of percent": (
        3, FLOAT, lambda t: largest(t, t("MUL", softmax(t), 100.0)), lambda s: s[1],
    ),
    "label of a pair": (1, FLOAT, lambda t: largest(t, pair(t)), lambda s: s[1]),
    "threshold": (
        3, FLOAT, lambda t: t("GREATER", sigmoid(t), 0.5, dtype="bool"), lambda s: s[1] == 1,
    ),
    "threshold of logits": (
        3, FLOAT, lambda t: t("CAST", t("GREATER", t.z, 0.0, dtype="bool"), dtype="int32"),
        lambda s: s[1],
    ),
    "rounded": (3, FLOAT, lambda t: t("ROUND", sigmoid(t)), lambda s: s[1]),
}  # fmt: skip


def stock(path: Path) -> np.ndarray:
    """What LiteRT says of ``X``, sample by sample, as real numbers."""
    runtime = Interpreter(str(path))
    runtime.allocate_tensors()
    [given], [made] = runtime.get_input_details(), runtime.get_output_details()
    rows = []
    for sample in X:
        scale, zero = given["quantization"]
        if scale:
            limits = np.iinfo(given["dtype"])
            sample = np.clip(np.rint(sample / scale) + zero, limits.min, limits.max)
        runtime.set_tensor(given["index"], sample[None].astype(given["dtype"]))
        runtime.invoke()
        row = runtime.get_tensor(made["index"])
        scale, zero = made["quantization"]
        rows.append((row.astype(np.float32) - zero) * scale if scale else row)
    return np.concatenate(rows)


def cases(named: dict[str, Any]) -> list[Any]:
    return [pytest.param(name, kind, id=f"{name}, {kind}") for name, (_, kinds, *_) in
            named.items() for kind in kinds]  # fmt: skip


@pytest.mark.parametrize(("name", "integers"), cases(KEPT))
def test_what_is_kept_is_predicted(name: str, integers: str | None, tmp_path: Path) -> None:
    width, _, build, of = KEPT[name]
    tail = Tail(width, integers)
    path = tail.save(build(tail), tmp_path / "m.tflite")
    model = s2.load(path)
    want, got = stock(path), of((model.predict_proba(X), model.predict(X)))
    assert got.shape == want.shape
    if want.dtype.kind == "f" and not name.startswith("rounded"):
        assert np.ptp(want) > 0.2
        near = 0.012 if integers else 1e-5 * max(1, float(np.abs(want).max()))
        np.testing.assert_allclose(got, want, atol=near)
    else:
        assert len(np.unique(want)) > 1
        assert got.tolist() == want.tolist()


CLOSED: dict[str, tuple[int, tuple[str | None, ...], Build]] = {
    "mean of two": (
        3, FLOAT,
        lambda t: t("MUL", t("ADD", softmax(t), softmax(t, t("MUL", t.z, 2.0))), 0.5),
    ),
    "mean of two integers": (
        3, INTEGERS, lambda t: t("ADD", softmax(t), softmax(t, beta=2.0), scale=1 / 128),
    ),
    "clamped from 0.1": (3, FLOAT, lambda t: t("MAXIMUM", softmax(t), 0.1)),
    "product": (3, FLOAT, lambda t: t("MUL", p := softmax(t), p)),
    "softened": (3, FLOAT, lambda t: t("ADD", t("MUL", softmax(t), 0.9), 0.03)),
    "weighted": (3, FLOAT, lambda t: t("MUL", softmax(t), np.array([0.5, 1.0, 2.0]))),
    "threshold elsewhere": (3, FLOAT, lambda t: t("GREATER", sigmoid(t), 0.7, dtype="bool")),
    "threshold of logits elsewhere": (3, FLOAT, lambda t: t("GREATER", t.z, 0.7, dtype="bool")),
    "cut off": (3, FLOAT, lambda t: t("CAST", softmax(t), dtype="int32")),
    "rounded softmax of percent": (3, FLOAT, lambda t: t("ROUND", t("MUL", softmax(t), 100.0))),
    "turned softmax": (3, FLOAT, lambda t: turned(t, softmax(t))),
    "hard swish": (3, FLOAT, lambda t: t("HARD_SWISH", softmax(t))),
    "label of a mean": (3, FLOAT, lambda t: largest(t, t("ADD", softmax(t), sigmoid(t)))),
    "p, p": (1, FLOAT, lambda t: side_by_side(t, p := sigmoid(t), p)),
    "p, half of 1 - p": (
        1, FLOAT, lambda t: side_by_side(t, p := sigmoid(t), t("MUL", turned(t, p), 0.5)),
    ),
    "the largest": (
        3, FLOAT, lambda t: t("REDUCE_MAX", softmax(t), np.array([1], np.int32), shape=(1,)),
    ),
    "classes in another order": (
        3, FLOAT, lambda t: t("GATHER", softmax(t), np.array([2, 0, 1], np.int32), axis=1),
    ),
    "over another axis": (
        3, FLOAT,
        lambda t: t(
            "RESHAPE",
            t("SOFTMAX", t("RESHAPE", t.z, np.array([1, 3, 1], np.int32), shape=(1, 3, 1)),
              shape=(1, 3, 1), beta=1.0),
            np.array([1, 3], np.int32),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "integers"), cases(CLOSED))
def test_what_cannot_be_undone_is_refused_but_for_new_outputs(
    name: str, integers: str | None, tmp_path: Path, refused: Refused
) -> None:
    width, _, build = CLOSED[name]
    tail = Tail(width, integers)
    path = tail.save(build(tail), tmp_path / "m.tflite")
    stock(path)  # it runs
    learns_new_outputs_alone(path, X, refused)
