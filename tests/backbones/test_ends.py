"""The one rule by which ends are walked back, on operators of no runtime."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest

from skip2lora.backbones import ends
from skip2lora.backbones.ends import End, Op, end_of
from skip2lora.tasks.task import softmax

Z = np.random.default_rng(0).normal(size=(5, 3)) * 3


def each(function: Any, of: str) -> Op:
    return Op(ends.EACH, (of,), "each", function)


def walk(*made: Op, output: str = "t") -> End:
    """Operators in a row: the first reads ``z``, which a layer makes, each later the one before."""
    graph: dict[Any, Op] = {"z": Op(ends.LAYER, ("x",), "layer")}
    for at, op in enumerate(made):
        name = output if at == len(made) - 1 else f"t{at}"
        graph[name] = op
    return end_of(output, graph.get)


SOFTMAX = Op(ends.SOFTMAX, ("z",), "softmax")
SIGMOID = Op(ends.SIGMOID, ("z",), "sigmoid")


@pytest.mark.parametrize(
    ("function", "kept"),
    [
        (lambda p: 100 * p, True), (np.log, True), (lambda p: p.clip(1e-7, 1), True),
        (lambda p: p > 0.5, True), (np.round, True), (lambda p: np.log(p + 1e-9), True),
        (lambda p: p + 0.01, False), (lambda p: p**2, False), (lambda p: p > 0.4, False),
        (lambda p: 0 * p, False), (lambda p: p.clip(0.1, 1), False), (np.trunc, False),
        (lambda p: -p, False), (lambda p: np.where(p > 0.9, np.inf, p), False),
    ],
)  # fmt: skip
def test_functions_of_probabilities(function: Any, kept: bool) -> None:
    for activation in (SOFTMAX, SIGMOID):
        end = walk(activation, each(function, "t0"))
        assert (end.logits == "z") == kept
        assert (end.ending == "probabilities") != kept
        assert bool(end.reason) != kept


def test_a_sigmoid_may_be_turned_but_no_softmax() -> None:
    end = walk(SIGMOID, each(lambda p: 1 - p, "t0"))
    assert (end.logits, end.sign) == ("z", -1)
    np.testing.assert_array_equal(end.rows(Z.astype(np.float32)), -Z.astype(np.float32))
    assert walk(SOFTMAX, each(lambda p: 1 - p, "t0")).reason


def test_what_a_label_is_of() -> None:
    of_softmax = walk(SOFTMAX, each(np.square, "t0"), Op(ends.LARGEST, ("t1",), "largest"))
    assert (of_softmax.logits, of_softmax.ending) == ("z", "softmax")
    assert walk(SOFTMAX, each(np.negative, "t0"), Op(ends.LARGEST, ("t1",), "largest")).reason
    plain = walk(Op(ends.LARGEST, ("z",), "largest"))
    assert (plain.logits, plain.ending) == ("z", "softmax")
    names = np.array(["c", "a", "b"])
    assert plain.agrees(Z, names[Z.argmax(axis=1)])
    assert not plain.agrees(Z, Z.argmin(axis=1))
    assert walk(each(lambda z: z > 0, "z")).ending == "sigmoid"
    assert walk(each(lambda z: z > 1, "z")).ending == "labels"
    assert walk(each(lambda z: z / 3, "z")).ending == "logits"
    assert walk(each(np.tanh, "z")).ending == "unknown"


def pair(one: Any, other: Any) -> End:
    graph = {
        "z": Op(ends.LAYER, ("x",), "layer"), "p": SIGMOID, "a": each(one, "p"),
        "b": each(other, "p"), "t": Op(ends.JOIN, ("a", "b"), "join"),
    }  # fmt: skip
    return end_of("t", graph.get)


def test_a_pair() -> None:
    end = pair(lambda p: 1 - p, lambda p: p)
    logit = Z[:, :1].astype(np.float32)
    for turned in (end, pair(lambda p: p, lambda p: 1 - p)):
        p = softmax(turned.rows(logit))
        assert turned.agrees(logit, p)
        np.testing.assert_allclose(logit @ turned.columns(1), turned.rows(logit))
        assert turned.columns(3) is None
    sigmoid = 1 / (1 + np.exp(-Z))
    assert end.agrees(Z, np.concatenate([1 - sigmoid, sigmoid], axis=1))
    assert pair(lambda p: p, lambda p: p).reason
    assert pair(lambda p: 1 - p, lambda p: p / 2).reason


def test_what_a_pair_says_is_both() -> None:
    logit = Z[:, :1]
    sigmoid = 1 / (1 + np.exp(-logit))
    graph = {
        "z": Op(ends.LAYER, ("x",), "layer"), "p": SIGMOID, "rest": each(lambda p: 1 - p, "p"),
        "t": Op(ends.JOIN, ("rest", "p"), "join"), "percent": each(lambda p: 100 * p, "t"),
    }  # fmt: skip
    both = np.concatenate([1 - sigmoid, sigmoid], axis=1)
    for name, factor in (("t", 1), ("percent", 100)):
        says = end_of(name, graph.get).says
        assert says is not None
        np.testing.assert_allclose(says(logit), factor * both)


def test_what_is_no_pair() -> None:
    """Of two different numbers, or with a function behind that is not undone."""
    graph = {
        "z": Op(ends.LAYER, ("x",), "layer"), "w": Op(ends.LAYER, ("x",), "layer"), "p": SIGMOID,
        "q": Op(ends.SIGMOID, ("w",), "sigmoid"), "again": SIGMOID,
        "minus": each(lambda p: -p, "p"), "rest": each(lambda p: p + 1, "minus"),
        "one": Op(ends.JOIN, ("rest", "again"), "join"),
        "two": Op(ends.JOIN, ("rest", "q"), "join"), "square": each(np.square, "one"),
    }  # fmt: skip
    assert (end_of("one", graph.get).logits, end_of("one", graph.get).pair) == ("z", True)
    assert end_of("two", graph.get).reason
    assert end_of("square", graph.get).reason


def test_a_factor_of_a_pair() -> None:
    wide = End("z", "pair", pair=True, factor=2.0)
    numbers = Z.astype(np.float32)
    np.testing.assert_array_equal(wide.rows(numbers), 2 * numbers)
    np.testing.assert_array_equal(numbers @ wide.columns(3), 2 * numbers)


def test_a_label_alone_is_bare() -> None:
    largest = Op(ends.LARGEST, ("t0",), "largest")
    assert walk(Op(ends.LARGEST, ("z",), "largest")).bare
    assert not walk(SOFTMAX, largest).bare
    assert not walk(SOFTMAX).bare


def test_shares_that_something_unknown_made_are_no_logits() -> None:
    unknown, layer = End("z", "unknown"), End("z", "logits")
    shares = np.square(Z) / np.square(Z).sum(axis=1, keepdims=True)
    assert not unknown.agrees(shares, shares)
    assert unknown.refuted().reason == "shares of no logits"
    for others in (Z, shares - 0.1, 2 * shares, shares[:, :1], shares[0]):
        assert unknown.agrees(others, others)
    assert layer.agrees(shares, shares)


@pytest.mark.parametrize("near", [True, False])
def test_samples_may_refute_it(near: bool) -> None:
    end = walk(SOFTMAX)
    assert end.agrees(Z, softmax(Z) + (1e-4 if near else 1e-2)) == near
    assert not end.agrees(Z, softmax(Z)[:, :2])
    assert end.refuted().reason == "not what follows from its softmax"
    rounded = walk(SOFTMAX, Op(ends.SAME, ("t0",), "quantize", rounds=True))
    assert rounded.agrees(Z, softmax(Z) + 1e-2)
    assert not rounded.agrees(Z, softmax(Z) + 0.1)
    assert walk(SIGMOID).agrees(Z, 1 / (1 + np.exp(-Z)))
    assert not walk(SIGMOID).agrees(Z, softmax(Z))
    threshold = walk(SIGMOID, each(lambda p: p > 0.5, "t0"))
    assert threshold.agrees(Z, Z > 0)
    assert not threshold.agrees(Z, Z < 0)


def test_nothing_follows_from_logits_that_are_no_numbers() -> None:
    end, z = walk(SOFTMAX), Z.copy()
    z[0, 0] = np.inf
    assert end.agrees(z, softmax(Z))
    assert not end.agrees(z, 1 - softmax(Z))
    assert end.agrees(np.full_like(Z, np.nan), softmax(Z))


def test_a_softmax_may_have_a_factor() -> None:
    end = walk(Op(ends.SOFTMAX, ("z",), "softmax", factor=2.0))
    assert end.agrees(Z, softmax(2 * Z))
    numbers = Z.astype(np.float32)
    np.testing.assert_array_equal(end.rows(numbers), 2 * numbers)
    np.testing.assert_allclose(numbers @ end.columns(3), 2 * numbers, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "others", "made"),
    [
        (ends.OTHER, ("p", "q"), True), (ends.OTHER, ("p", "z"), False),
        (ends.OTHER, ("p",), True), (ends.JOIN, ("p", "z"), True), (ends.OTHER, ("z",), False),
        (ends.CLOSED, ("z",), True), (ends.LAYER, ("p",), False),
    ],
)  # fmt: skip
def test_what_is_made_of_probabilities(kind: int, others: tuple[str, ...], made: bool) -> None:
    graph = {
        "z": Op(ends.LAYER, ("x",), "layer"), "p": SOFTMAX, "q": SIGMOID,
        "t": Op(kind, others, "node n"),
    }  # fmt: skip
    end = end_of("t", graph.get)
    assert (end.reason == "made of probabilities by node n, which cannot be undone") == made


def test_an_end_can_be_pickled() -> None:
    end = walk(SOFTMAX)
    copied = pickle.loads(pickle.dumps(end))  # noqa: S301
    assert (copied.logits, copied.ending, copied.ops, copied.says) == ("z", "softmax", (), None)
    assert copied.agrees(Z, Z)  # it was compared when it was loaded


PAIRS = np.array([[-0.5, 0.5]])  # of one sigmoid: the logits of its two classes


@pytest.mark.parametrize(
    ("pair", "sign", "factor", "width", "columns"),
    [
        (False, 1, 1.0, 3, None), (False, 1, 0.5, 3, 0.5 * np.eye(3)),
        (False, -1, 1.0, 2, -np.eye(2)),
        (False, 1, 2.0, 1, [[2]]), (False, -1, 0.5, 1, [[-0.5]]), (True, 1, 1.0, 1, PAIRS),
        (True, -1, 2.0, 1, -2 * PAIRS), (True, -1, 1.0, 3, None), (True, -1, 2.0, 3, 2 * np.eye(3)),
    ],
)  # fmt: skip
def test_logits_are_numbers_times_columns(
    pair: bool, sign: int, factor: float, width: int, columns: Any
) -> None:
    """Of a pair that is turned each sigmoid's own number is the logit."""
    end = End("z", "sigmoid", pair=pair, sign=sign, factor=factor)
    given, numbers = end.columns(width), Z[:, :width].astype(np.float32)
    if columns is None:
        assert given is None
        np.testing.assert_array_equal(end.rows(numbers), numbers)
    else:
        np.testing.assert_allclose(given, columns)
        np.testing.assert_allclose(end.rows(numbers), numbers @ np.asarray(columns), rtol=1e-6)


ONE: dict[str, Any] = {
    "Log": math.log, "exp": math.exp, "NEG": lambda x: -x, "Negative": lambda x: -x,
    "Round": round, "floor": math.floor, "Ceil": math.ceil, "Ceiling": math.ceil, "Abs": abs,
    "sqrt": math.sqrt, "Reciprocal": lambda x: 1 / x, "tanh": math.tanh,
    "Sign": lambda x: (x > 0) - (x < 0), "logical_not": lambda x: not x, "Not": lambda x: not x,
    "Relu": lambda x: max(x, 0), "RELU6": lambda x: min(max(x, 0), 6),
    "RELU_0_TO_1": lambda x: min(max(x, 0), 1),
}  # fmt: skip
TWO: dict[str, Any] = {
    "Add": lambda a, b: a + b, "SUB": lambda a, b: a - b, "Subtract": lambda a, b: a - b,
    "mul": lambda a, b: a * b, "Multiply": lambda a, b: a * b, "DIV": lambda a, b: a / b,
    "Divide": lambda a, b: a / b, "Pow": lambda a, b: a**b, "Power": lambda a, b: a**b,
    "Max": max, "MAXIMUM": max, "Min": min, "minimum": min, "Greater": lambda a, b: a > b,
    "gt": lambda a, b: a > b, "Less": lambda a, b: a < b, "lt": lambda a, b: a < b,
    "GreaterOrEqual": lambda a, b: a >= b, "GREATER_EQUAL": lambda a, b: a >= b,
    "ge": lambda a, b: a >= b, "Equal": lambda a, b: a == b, "eq": lambda a, b: a == b,
    "LessOrEqual": lambda a, b: a <= b, "LESS_EQUAL": lambda a, b: a <= b,
    "le": lambda a, b: a <= b, "rsub": lambda a, b: b - a,
}  # fmt: skip
SOME = [-7.5, -1.0, -0.25, 0.25, 1.0, 2.0, 5.5, 6.5]


@pytest.mark.parametrize("name", ONE)
def test_functions_of_one_number(name: str) -> None:
    numbers = [x for x in SOME if x > 0 or name not in ("Log", "sqrt")]
    op = ends.of_one(name, SOFTMAX)
    assert op is not None
    assert (op.kind, op.inputs, op.title) == (ends.EACH, ("z",), "softmax")
    assert op.apply is not None
    np.testing.assert_allclose(op.apply(np.array(numbers)), [ONE[name](x) for x in numbers])
    assert not ends.takes_two(name)


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("at", [0, 1])
def test_functions_of_two_numbers(name: str, at: int) -> None:
    """Of which one is a constant: the second, or the first."""
    numbers = [x for x in SOME if x > 0 or name not in ("Pow", "Power")]
    op = ends.of_two(name, SOFTMAX, 2.0, at)
    assert (op.kind, op.inputs, ends.takes_two(name)) == (ends.EACH, ("z",), True)
    assert op.apply is not None
    want = [TWO[name](2.0, x) if at else TWO[name](x, 2.0) for x in numbers]
    np.testing.assert_allclose(op.apply(np.array(numbers)), want)
    assert ends.of_one(name, SOFTMAX) is None


@pytest.mark.parametrize(
    ("name", "kind", "logarithm"),
    [
        ("Softmax", ends.SOFTMAX, False), ("LOG_SOFTMAX", ends.SOFTMAX, True),
        ("sigmoid", ends.SIGMOID, False), ("LOGISTIC", ends.SIGMOID, False),
        ("log_sigmoid_forward", ends.SIGMOID, True),
    ],
)  # fmt: skip
def test_activations(name: str, kind: int, logarithm: bool) -> None:
    op = ends.of_one(name, each(np.square, "z"))
    assert op is not None
    assert (op.kind, op.apply) == (kind, np.log if logarithm else None)


def test_changes_of_type() -> None:
    values = np.array([-1.5, 0.0, 0.5, 2.5])
    truth = ends.cast(SOFTMAX, to_truth=True, to_whole=True)
    whole = ends.cast(SOFTMAX, to_truth=False, to_whole=True)
    assert truth.apply is not None
    assert whole.apply is not None
    assert (truth.kind, truth.apply(values).tolist()) == (ends.EACH, [True, False, True, True])
    assert (whole.kind, whole.apply(values).tolist()) == (ends.EACH, [-1, 0, 0, 2])
    assert ends.cast(SOFTMAX, to_truth=False, to_whole=False).kind == ends.SAME


@pytest.mark.parametrize("steps", [62, 63, 64, 65])
def test_walks_end(steps: int) -> None:
    """Of whatever length a file may be: 64 operators are looked at, the activation among them."""
    rows = [Op(ends.SAME, (f"t{at}",), "reshape") for at in range(steps)]
    assert walk(SOFTMAX, *rows).ending == ("softmax" if steps < 64 else "probabilities")
