"""Every kind of end of an ONNX graph: what the model says before adapting, and after export."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import onnx_models as nets
import skip2lora as s2
from closed_ends import learns_new_outputs_alone
from onnx_exports import session_of
from skip2lora.backbones.onnx.ends import _limit, _scalar, float_activations, head_of, op_of
from skip2lora.backbones.onnx.graph import Graph
from skip2lora.backbones.onnx.preparing import prepare
from skip2lora.errors import ParameterError
from skip2lora.export.onnx import export_onnx

Refused = Callable[..., str]
X = np.random.default_rng(3).normal(size=(40, 6)).astype(np.float32)
ML = "ai.onnx.ml"


class Said(NamedTuple):
    """What a model predicts: probabilities, labels of the largest or 0 and 1, and logits."""

    proba: np.ndarray
    labels: np.ndarray


class Tail:
    """Nodes behind logits ``z`` of a network of two layers; ``named`` collects the outputs."""

    def __init__(self, width: int) -> None:
        self.net = nets.Net(seed=5)
        self.outputs: list[Any] = []
        hidden = self.net.node("Gemm", ["x", self.net.weight("v", 6, 8)], "hidden")
        hidden = self.net.node("Relu", [hidden], "active")
        bias = self.net.vector("b", width)
        self.z = self.net.node("Gemm", [hidden, self.net.weight("w", 8, width), bias], "z")
        self.count = 0

    def __call__(self, operator: str, *inputs: Any, **options: Any) -> str:
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        self.count += 1
        return self.net.node(operator, names, f"{operator.lower()}{self.count}", **options)

    def constant(self, values: Any) -> str:
        self.count += 1
        values = np.asarray(values)
        values = values.astype(np.float32) if values.dtype.kind == "f" else values
        return self.net.constant(f"constant{self.count}", values)

    def output(self, tensor: str, kind: int = TensorProto.FLOAT) -> None:
        self.outputs.append(nets.value(tensor, None, kind))

    def save(self, path: Path) -> Path:
        graph = helper.make_graph(
            self.net.nodes, "net", [nets.value("x", ["n", 6])], self.outputs, self.net.constants
        )
        imports = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        return nets.save(model, path)


def softmax(t: Tail) -> str:
    return t("Softmax", t.z, axis=1)


def places(t: Tail) -> str:
    """Two places of three numbers each."""
    return t("Reshape", t("Concat", t.z, t("Neg", t.z), axis=1), [0, 2, 3])


def sigmoid(t: Tail) -> str:
    return t("Sigmoid", t.z)


def turned(t: Tail, p: str) -> str:
    return t("Sub", 1.0, p)


LONG, TEXT, BOOL, HALF = (
    TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL, TensorProto.FLOAT16,
)  # fmt: skip
NAMES = np.array(["a", "b", "c"], object)


def zipped(t: Tail) -> None:
    p = softmax(t)
    name = t("ZipMap", p, domain=ML, classlabels_int64s=[0, 1, 2])
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    of = helper.make_sequence_type_proto(helper.make_map_type_proto(LONG, kind))
    t.outputs.append(helper.make_value_info(name, of))


def of_rows(values: Any) -> np.ndarray:
    if isinstance(values, list):
        return np.array([list(row.values()) for row in values])
    return np.asarray(values)


# name: logits, what makes the outputs, what each of them is to be
KEPT: dict[str, tuple[int, Callable[[Tail], Any], list[Callable[[Said], Any]]]] = {
    "softmax": (3, lambda t: t.output(softmax(t)), [lambda s: s.proba]),
    "log": (3, lambda t: t.output(t("LogSoftmax", t.z, axis=1)), [lambda s: np.log(s.proba)]),
    "log of softmax": (3, lambda t: t.output(t("Log", softmax(t))), [lambda s: np.log(s.proba)]),
    "percent": (3, lambda t: t.output(t("Mul", softmax(t), 100.0)), [lambda s: 100 * s.proba]),
    "per mille": (3, lambda t: t.output(t("Div", softmax(t), 0.001)), [lambda s: 1000 * s.proba]),
    "clamped": (
        3, lambda t: t.output(t("Clip", softmax(t), 1e-7, 1 - 1e-7)), [lambda s: s.proba],
    ),
    "clamped in steps": (
        3, lambda t: t.output(t("Min", t("Max", softmax(t), 1e-6), 1 - 1e-6)),
        [lambda s: s.proba],
    ),
    "temperature": (
        3, lambda t: t.output(t("Softmax", t("Div", t.z, 2.5), axis=1)), [lambda s: s.proba],
    ),
    "reshaped": (
        3,
        lambda t: t.output(t("Reshape", t("Unsqueeze", softmax(t), [1, 3]), [0, 1, 1, 3])),
        [lambda s: s.proba[:, None, None]],
    ),
    "sum of one number": (
        3, lambda t: t.output(t("ReduceSum", t("Unsqueeze", softmax(t), [1]), [1], keepdims=0)),
        [lambda s: s.proba],
    ),
    "half": (3, lambda t: t.output(t("Cast", softmax(t), to=HALF), HALF), [lambda s: s.proba]),
    "label": (
        3, lambda t: t.output(t("ArgMax", t.z, axis=1, keepdims=0), LONG), [lambda s: s.labels],
    ),
    "label of percent": (
        3,
        lambda t: t.output(
            t("Cast", t("ArgMax", t("Mul", softmax(t), 100.0), axis=1, keepdims=0), to=1)
        ),
        [lambda s: s.labels],
    ),
    "name": (
        3,
        lambda t: t.output(
            t("ArrayFeatureExtractor", NAMES, t("ArgMax", softmax(t), axis=1), domain=ML), TEXT
        ),
        [lambda s: NAMES[s.labels][None]],
    ),
    "number of a name": (
        3,
        lambda t: t.output(
            t("Gather", np.array([7, 9, 4]), t("ArgMax", t.z, axis=1, keepdims=0)), LONG
        ),
        [lambda s: np.array([7, 9, 4])[s.labels]],
    ),
    "encoded": (
        3,
        lambda t: t.output(
            t(
                "LabelEncoder", t("ArgMax", t.z, axis=1, keepdims=0), domain=ML,
                keys_int64s=[0, 1, 2], values_strings=["a", "b", "c"],
            ),
            TEXT,
        ),
        [lambda s: NAMES[s.labels]],
    ),
    "map": (3, zipped, [lambda s: s.proba]),
    "sigmoid": (3, lambda t: t.output(sigmoid(t)), [lambda s: s.proba]),
    "one sigmoid": (1, lambda t: t.output(sigmoid(t)), [lambda s: s.proba]),
    "one sigmoid a sample": (
        1, lambda t: t.output(t("Squeeze", sigmoid(t), np.array([1]))), [lambda s: s.proba[:, 0]],
    ),
    "turned": (2, lambda t: t.output(turned(t, sigmoid(t))), [lambda s: s.proba]),
    "threshold": (
        3, lambda t: t.output(t("Greater", sigmoid(t), 0.5), BOOL), [lambda s: s.labels == 1],
    ),
    "threshold of logits": (
        3, lambda t: t.output(t("Cast", t("Greater", t.z, 0.0), to=LONG), LONG),
        [lambda s: s.labels],
    ),
    "rounded": (
        3, lambda t: t.output(t("Cast", t("Round", sigmoid(t)), to=LONG), LONG),
        [lambda s: s.labels],
    ),
    "chosen": (
        3,
        lambda t: t.output(t("Where", t("Less", 0.5, sigmoid(t)), np.array(1), np.array(0)), LONG),
        [lambda s: s.labels],
    ),
    "binarised": (
        3, lambda t: t.output(t("Binarizer", sigmoid(t), domain=ML, threshold=0.5)),
        [lambda s: s.labels],
    ),
    "cast like": (
        3,
        lambda t: t.output(
            t("CastLike", t("Greater", sigmoid(t), 0.5), np.array(1, np.int64)), LONG
        ),
        [lambda s: s.labels],
    ),
    "clipped from below": (
        3, lambda t: t.output(t("Clip", softmax(t), 1e-7)), [lambda s: s.proba],
    ),
    "normed logits": (
        3,
        lambda t: t.output(
            t("Softmax", t("BatchNormalization", t.z, *np.array([[1.5, 1, 2], [0, 1, 0],
                           [0, 0.5, 0], [1, 2, 1.0]])), axis=1)
        ),
        [lambda s: s.proba],
    ),
    "1 - p, p": (
        1, lambda t: t.output(t("Concat", turned(t, p := sigmoid(t)), p, axis=1)),
        [lambda s: s.proba],
    ),
    "p, 1 - p": (
        1, lambda t: t.output(t("Concat", p := sigmoid(t), turned(t, p), axis=1)),
        [lambda s: s.proba],
    ),
    "1 - p, p of several": (
        3, lambda t: t.output(t("Concat", turned(t, p := sigmoid(t)), p, axis=1)),
        [lambda s: np.concatenate([1 - s.proba, s.proba], axis=1)],
    ),
    "normalised": (
        1,
        lambda t: t.output(
            t("Normalizer", t("Concat", turned(t, p := sigmoid(t)), p, axis=1), domain=ML,
              norm="L1")
        ),
        [lambda s: s.proba],
    ),
    "label and probabilities": (
        1,
        lambda t: (
            t.output(t("ArgMax", q := t("Concat", turned(t, p := sigmoid(t)), p, axis=1), axis=1,
                       keepdims=0), LONG),
            t.output(q),
        ),
        [lambda s: s.labels, lambda s: s.proba],
    ),
    "linear classifier": (
        4,
        lambda t: (
            t.net.nodes.append(
                helper.make_node(
                    "LinearClassifier", [t("Relu", t.z)], ["chosen", "scores"], domain=ML,
                    name="lc", classlabels_ints=[4, 0, 9], multi_class=1, post_transform="SOFTMAX",
                    intercepts=[0.1, 0.0, -0.2],
                    coefficients=np.linspace(-2, 2, 12).tolist(),
                )
            ),
            t.output("chosen", LONG), t.output(t("Normalizer", "scores", domain=ML, norm="L1")),
        ),
        [lambda s: np.array([4, 0, 9])[s.labels], lambda s: s.proba],
    ),
    "all at once": (
        3,
        lambda t: (
            t.output(p := sigmoid(t)), t.output(t("Greater", p, 0.5), BOOL),
            t.output(t("Mul", p, 100.0)), t.output(t("Greater", p, 0.8), BOOL),
        ),
        [
            lambda s: s.proba, lambda s: s.labels == 1, lambda s: 100 * s.proba,
            lambda s: s.proba > 0.8,
        ],
    ),
}  # fmt: skip


def said_of(model: Any) -> Said:
    named = model.task == "classification" and model.class_names is not None
    return Said(model.predict_proba(X), model.predict_index(X) if named else model.predict(X))


def check(got: list[Any], expected: list[Callable[[Said], Any]], said: Said) -> None:
    assert len(got) == len(expected)
    for values, of in zip(got, expected, strict=True):
        want, rows = of(said), of_rows(values)
        assert rows.shape == want.shape
        if want.dtype.kind == "f":
            near = 2e-3 if rows.dtype == np.float16 else 1e-4 * max(1, float(np.abs(want).max()))
            np.testing.assert_allclose(rows, want, rtol=1e-3, atol=near)
        else:
            assert rows.tolist() == want.tolist()


def kept(name: str, folder: Path) -> tuple[Any, Path]:
    width, build, _ = KEPT[name]
    tail = Tail(width)
    build(tail)
    path = tail.save(folder / "m.onnx")
    return s2.load(path), path


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_says_the_same_before_and_after(name: str, tmp_path: Path) -> None:
    model, path = kept(name, tmp_path)
    expected = KEPT[name][2]
    check(session_of(path).run(None, {"x": X}), expected, said_of(model))
    several = model.task == "multi-label"
    y = X[:, : model.n_outputs] > 0.4 if several else np.arange(len(X)) % model.n_outputs
    if model.class_names is not None:
        y = np.array(model.class_names)[y]
    adapted = s2.adapt(model, X, y, task=model.task, epochs=30, learning_rate=0.02)
    assert np.abs(adapted.predict_proba(X) - model.predict_proba(X)).max() > 0.1
    export_onnx(adapted.backbone, adapted.adapters, tmp_path / "e.onnx", samples=X)
    check(session_of(tmp_path / "e.onnx").run(None, {"x": X}), expected, said_of(adapted))


CLOSED: dict[str, Callable[[Tail], Any]] = {
    "mean of two": lambda t: t.output(
        t("Div", t("Add", softmax(t), t("Softmax", t("Mul", t.z, 2.0), axis=1)), 2.0)
    ),
    "a constant for each output": lambda t: t.output(t("Add", softmax(t), np.array([0.5, 0, 1.0]))),
    "clamped from 0.1": lambda t: t.output(t("Clip", softmax(t), 0.1, 0.9)),
    "product": lambda t: t.output(t("Mul", p := softmax(t), p)),
    "softened": lambda t: t.output(t("Add", t("Mul", softmax(t), 0.9), 0.03)),
    "threshold elsewhere": lambda t: t.output(t("Greater", sigmoid(t), 0.7), BOOL),
    "cut off": lambda t: t.output(t("Cast", softmax(t), to=LONG), LONG),
    "whole percent": lambda t: t.output(t("Cast", t("Mul", softmax(t), 100.0), to=LONG), LONG),
    "one hot": lambda t: t.output(t("Hardmax", t.z, axis=1)),
    "one hot of a label": lambda t: t.output(
        t("OneHot", t("ArgMax", t.z, axis=1, keepdims=0), np.array(3), np.array([0.0, 1.0]))
    ),
    "equal to the largest": lambda t: t.output(
        t("Cast", t("Equal", t.z, t("ReduceMax", t.z, axes=[1])), to=1)
    ),
    "whole numbers": lambda t: t.output(t("Round", t("Mul", t.z, 3.0))),
    "hard sigmoid": lambda t: t.output(t("HardSigmoid", t.z)),
    "weighted": lambda t: t.output(t("Mul", softmax(t), np.array([0.5, 1.0, 2.0]))),
    "the largest": lambda t: t.output(t("ReduceMax", softmax(t), axes=[1], keepdims=1)),
    "mean of places": lambda t: t.output(
        t("ReduceMean", t("Softmax", places(t), axis=2), axes=[1], keepdims=0)
    ),
    "label of a mean": lambda t: t.output(
        t("ArgMax", t("Add", softmax(t), sigmoid(t)), axis=1, keepdims=0), LONG
    ),
    "over another axis": lambda t: t.output(
        t("Reshape", t("Softmax", t("Reshape", t.z, [0, 3, 1]), axis=2), [0, 3])
    ),
    "trees": lambda t: t.output(
        t("TreeEnsembleRegressor", t.z, domain=ML, n_targets=1, nodes_treeids=[0, 0, 0],
          nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_modes=["BRANCH_LEQ", "LEAF",
          "LEAF"], nodes_values=[0.0, 0.0, 0.0], nodes_truenodeids=[1, 0, 0],
          nodes_falsenodeids=[2, 0, 0], target_treeids=[0, 0], target_nodeids=[1, 2],
          target_ids=[0, 0], target_weights=[0.2, 0.8])
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSED)
def test_what_cannot_be_undone_is_refused_but_for_new_outputs(
    name: str, tmp_path: Path, refused: Refused
) -> None:
    tail = Tail(3)
    CLOSED[name](tail)
    path = tail.save(tmp_path / "m.onnx")
    adapted = learns_new_outputs_alone(path, X, refused)
    export_onnx(adapted.backbone, adapted.adapters, tmp_path / "e.onnx", samples=X)
    session = session_of(tmp_path / "e.onnx")
    assert [of.name for of in session.get_outputs()] == ["logits"]  # not what the base says
    assert (session.run(None, {"x": X})[0].argmax(axis=1) == adapted.predict_index(X)).all()


@pytest.mark.parametrize("operator", ["Softplus", "Exp"])
def test_numbers_are_no_logits(operator: str, tmp_path: Path, refused: Refused) -> None:
    tail = Tail(2)
    tail.output(tail(operator, tail.z))
    path = tail.save(tmp_path / "m.onnx")
    model = s2.load(path)
    assert model.task == "regression"
    np.testing.assert_allclose(model.predict(X), session_of(path).run(None, {"x": X})[0], rtol=1e-5)
    said = refused(ParameterError, s2.adapt, model, X, np.arange(40) % 2, task="classification")
    assert f"made by {operator}" in said
    assert "task='regression'" in said


def test_one_number_is_a_number_or_two_classes(tmp_path: Path) -> None:
    """As people export a regression, and a logit without its sigmoid."""
    tail = Tail(1)
    tail.output(tail("Squeeze", tail.z, np.array([1])))
    path = tail.save(tmp_path / "m.onnx")
    model = s2.load(path)
    assert (model.n_outputs, model.task) == (1, "regression")
    [stock] = session_of(path).run(None, {"x": X})
    np.testing.assert_allclose(model.predict(X)[:, 0], stock, atol=1e-6)
    numbers = s2.adapt(model, X, X[:, 0], task="regression", epochs=5)
    classes = s2.adapt(model, X, (X[:, 0] > 0).astype(int), task="classification", epochs=50)
    names = s2.adapt(model, X, np.where(X[:, 0] > 0, "ok", "bad"), task="classification", epochs=50)
    assert classes.predict_proba(X).shape == (40, 2)
    assert names.class_names == ("bad", "ok")
    assert names.predict(X).tolist() == np.array(["bad", "ok"])[classes.predict(X)].tolist()
    for adapted, want in (
        (numbers, numbers.predict(X)[:, 0]),
        (classes, np.log(classes.predict_proba(X)[:, 1] / classes.predict_proba(X)[:, 0])),
    ):
        export_onnx(adapted.backbone, adapted.adapters, tmp_path / "e.onnx", samples=X)
        [made] = session_of(tmp_path / "e.onnx").run(None, {"x": X})
        np.testing.assert_allclose(made, want, rtol=1e-3, atol=1e-4)
    classes.save(tmp_path / "a")
    loaded = s2.AdaptedModel.load(s2.load(path), tmp_path / "a")
    assert loaded.predict_proba(X).tobytes() == classes.predict_proba(X).tobytes()


def test_another_task_than_the_activation_is_for(tmp_path: Path) -> None:
    """Sigmoids cannot say what a softmax does: the logits of the adapted model are the output."""
    model, path = kept("sigmoid", tmp_path)
    adapted = s2.adapt(model, X, np.arange(40) % 3, task="classification", epochs=20)
    adapted.save(tmp_path / "a")
    for each in (adapted, s2.AdaptedModel.load(s2.load(path), tmp_path / "a")):
        export_onnx(each.backbone, each.adapters, tmp_path / "e.onnx", samples=X)
        [made] = session_of(tmp_path / "e.onnx").run(None, {"x": X})
        np.testing.assert_allclose(made, adapted.logits(X), rtol=1e-4, atol=1e-5)


def test_a_layer_behind_an_embedding_stays_as_it_is(tmp_path: Path) -> None:
    tail = Tail(3)
    tail.output(tail.z)
    tail.output(tail("MatMul", tail.z, np.eye(3) * 2))
    path = tail.save(tmp_path / "m.onnx")
    model = s2.load(path, output=0)
    adapted = s2.adapt(model, X, np.arange(40) % 3, epochs=20)
    export_onnx(adapted.backbone, adapted.adapters, tmp_path / "e.onnx", samples=X)
    logits, other = session_of(tmp_path / "e.onnx").run(None, {"x": X})
    np.testing.assert_allclose(logits, adapted.logits(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other, 2 * model.logits(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["Sigmoid", "Softmax"])
def test_activations_on_integers_become_the_standards(kind: str) -> None:
    net = nets.Net()
    for name, value in (
        ("s", np.float32(0.1)),
        ("zero", np.uint8(128)),
        ("o", np.float32(1 / 256)),
    ):
        net.constant(name, value)
    integers = net.node("QuantizeLinear", ["x", "s", "zero"], "q")
    inputs = [integers, "s", "zero", "o", net.constant("low", np.uint8(0))]
    axis = {} if kind == "Sigmoid" else {"axis": 1, "opset": 13}
    made = net.node(f"QLinear{kind}", inputs, "p", domain="com.microsoft", **axis)
    net.node("DequantizeLinear", [made, "o", "low"], "y")
    model = net.model([nets.value("x", ["n", 3])], [nets.value("y", ["n", 3])])
    graph = float_activations(Graph(model))
    head = head_of(graph, "y")
    assert (head.end.ending, head.logits) == (kind.lower(), "p.real")
    assert [node.op_type for node in head.trailing] == [kind, "QuantizeLinear", "DequantizeLinear"]
    attributes = {
        node.op_type: {each.name: each.i for each in node.attribute}
        for node in graph.model.graph.node
    }
    rounding = {"QuantizeLinear": {}, "DequantizeLinear": {}}
    assert attributes == rounding | {kind: {"axis": 1} if axis else {}}


@pytest.mark.parametrize("kind", ["Gather", "ArrayFeatureExtractor"])
@pytest.mark.parametrize(
    ("table", "names"),
    [
        ([4, 7, 9], ("4", "7", "9")),
        (["lo", "mid", "hi"], ("lo", "mid", "hi")),
        (["#a", "#b", "#c"], ("#a", "#b", "#c")),  # which sort before numbers
        ([0, 1, 2], None),
        ([2, 1, 0], ("2", "1", "0")),
        ([4, 4, 9], None),  # two places of one name
        ([4, 7, 9, 11], None),
    ],
)
def test_a_table_of_labels_names_the_outputs(
    kind: str, table: list[Any], names: Any, tmp_path: Path
) -> None:
    """Beside the logits and as the only output; names of the user come first."""
    model = nets.mlp((9, 8, 3))
    text = isinstance(table[0], str)
    logits = model.graph.output[0].name
    values = np.array(table, object if text else np.int64)
    model.graph.initializer.append(numpy_helper.from_array(values, "table"))
    node = helper.make_node
    model.graph.node.append(node("ArgMax", [logits], ["place"], axis=1, keepdims=0))
    if kind == "Gather":
        model.graph.node.append(node(kind, ["table", "place"], ["label"]))
    else:
        model.graph.node.append(node(kind, ["table", "place"], ["row"], domain="ai.onnx.ml"))
        model.graph.node.append(node("Reshape", ["row", "all"], ["label"]))
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "all"))
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    kind_of = TensorProto.STRING if text else TensorProto.INT64
    model.graph.output.append(nets.value("label", ["n"], kind_of))
    x = np.random.default_rng(0).normal(size=(20, 9)).astype(np.float32)
    path = nets.save(model, tmp_path / "m.onnx")
    for only in (False, True):
        if only:
            del model.graph.output[0]
            nets.save(model, path)
        backbone = s2.load(path)
        assert backbone.class_names == names
        if names is not None:
            [said] = session_of(path).run(["label"], {"x": x})
            assert backbone.predict(x).tolist() == [str(each) for each in said]
    assert s2.load(path, class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    prepare(path, tmp_path / "p.onnx")
    assert s2.load(tmp_path / "p.onnx").class_names == names


def test_limits_of_clip_in_any_opset() -> None:
    """Inputs, attributes in old ones, or none at all."""
    tail = Tail(3)
    low = tail.constant(0.25)
    computed = tail("Abs", tail.z)
    tail.output(tail.z)
    nodes = {
        "attribute": helper.make_node("Clip", ["z"], ["y"], min=0.5, max=2.0),
        "none": helper.make_node("Clip", ["z"], ["y"]),
        "input": helper.make_node("Clip", ["z", low], ["y"]),
        "left out": helper.make_node("Clip", ["z", "", low], ["y"]),
        "computed": helper.make_node("Clip", ["z", computed], ["y"]),
    }
    graph = Graph(
        helper.make_model(
            helper.make_graph(
                tail.net.nodes, "net", [nets.value("x", ["n", 6])], tail.outputs,
                tail.net.constants,
            )
        )
    )  # fmt: skip
    limits = {
        name: tuple(_limit(graph, node, at, word) for at, word in ((1, "min"), (2, "max")))
        for name, node in nodes.items()
    }
    assert limits == {
        "attribute": (0.5, 2.0), "none": (-np.inf, np.inf), "input": (0.25, np.inf),
        "left out": (-np.inf, 0.25), "computed": (None, np.inf),
    }  # fmt: skip


SIGMOIDS: dict[str, Callable[[Tail, str], str]] = {
    "reciprocal": lambda t, power: t("Reciprocal", t("Add", power, 1.0)),
    "quotient": lambda t, power: t("Div", 1.0, t("Add", power, 1.0)),
    "one first": lambda t, power: t("Reciprocal", t("Add", 1.0, power)),
    "of two": lambda t, power: t("Div", 2.0, t("Add", power, 1.0)),
    "two more": lambda t, power: t("Reciprocal", t("Add", power, 2.0)),
    "one less": lambda t, power: t("Reciprocal", t("Sub", power, 1.0)),
    "twice": lambda t, power: t("Reciprocal", t("Add", power, power)),
    "with others": lambda t, power: t("Reciprocal", t("Add", power, t("Abs", t.z))),
    "no power": lambda t, power: t("Reciprocal", t("Add", t("Abs", t.z), 1.0)),
    "upside down": lambda t, power: t("Div", t("Add", power, 1.0), 1.0),
}


@pytest.mark.parametrize("kind", SIGMOIDS)
def test_a_sigmoid_node_by_node(kind: str, tmp_path: Path) -> None:
    """1 / (1 + exp(-z)), and what only looks like it."""
    tail = Tail(3)
    made = SIGMOIDS[kind](tail, tail("Exp", tail("Neg", tail.z)))
    tail.output(made)
    head = head_of(Graph(onnx.load(tail.save(tmp_path / "m.onnx"))), made)
    right = kind in ("reciprocal", "quotient", "one first")
    assert (head.end.ending == "sigmoid") == right
    assert (head.logits in (tail.z, "neg1")) == right


LINEAR: dict[str, Any] = {
    "classlabels_ints": [4, 0, 9], "intercepts": [0.1, 0.0, -0.2], "multi_class": 1,
    "coefficients": np.linspace(-2, 2, 18).tolist(), "post_transform": "SOFTMAX",
}  # fmt: skip
PAIR = {
    "classlabels_ints": [7, 3], "intercepts": [-0.25, 0.25],
    "coefficients": [*np.linspace(1, -2, 6), *np.linspace(-1, 2, 6)],
}  # fmt: skip


def linear(outputs: tuple[str, ...] = ("chosen", "scores"), **options: Any) -> Any:
    net = nets.Net()
    net.nodes.append(
        helper.make_node("LinearClassifier", ["x"], outputs, domain=ML, name="lc", **options)
    )
    return Graph(
        helper.make_model(
            helper.make_graph(net.nodes, "net", [nets.value("x", ["n", 6])],
                              [nets.value("chosen", ["n"], TensorProto.INT64),
                               nets.value("scores", ["n", len(options["classlabels_ints"])])]),
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(ML, 1)], ir_version=8,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [{}, {"post_transform": "NONE"}, {"post_transform": "LOGISTIC"}, PAIR,
     PAIR | {"post_transform": "LOGISTIC"}],
    ids=str,
)  # fmt: skip
def test_a_linear_classifier_is_a_layer(changed: dict[str, Any]) -> None:
    """It says the same as the operator that it is in place of."""
    graph = linear(**LINEAR | changed)
    written = float_activations(graph)
    assert "Gemm" in [node.op_type for node in written.model.graph.node]
    want, got = (
        onnxruntime.InferenceSession(each.model.SerializeToString()).run(None, {"x": X})
        for each in (graph, written)
    )
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {"post_transform": "PROBIT"}, {"intercepts": [0.1, 0.2]},
        {"intercepts": [0.1, 0.2, 0.3, 0.4]}, {"coefficients": [1.0] * 17},
        {"classlabels_ints": [4], "intercepts": [0.1]},
    ],
    ids=str,
)  # fmt: skip
def test_a_linear_classifier_of_another_kind_stays(changed: dict[str, Any]) -> None:
    graph = linear(**LINEAR | changed)
    assert float_activations(graph) is graph


def test_a_number_that_is_computed_is_none() -> None:
    """However it lies there; what is cast and shaped alone is the same."""
    net = nets.Net()
    half = net.constant("half", np.float32(0.5))
    net.node("Neg", [half], "turned")
    net.node("Identity", ["turned"], "same")
    net.node("Unsqueeze", [half, net.constant("zero", np.array([0]))], "row")
    net.node("Cast", ["row"], "double", to=11)
    net.node("MatMul", ["x", net.weight("w", 9, 3)], "logits")
    graph = Graph(net.model([nets.value("x", ["n", 9])], [nets.value("logits", ["n", 3])]))
    said = {name: _scalar(graph, name) for name in ("half", "double", "turned", "same", "x", "w")}
    assert said == {"half": 0.5, "double": 0.5, "turned": None, "same": None, "x": None, "w": None}


def test_what_a_node_reads_is_its_data() -> None:
    """One of constants alone; what reads two tensors has both."""
    net = nets.Net()
    one, two = net.vector("one", 3), net.vector("two", 3)
    net.node("MatMul", ["x", net.weight("w", 9, 3)], "logits")
    net.node("Add", [one, two], "constant")
    net.node("Mul", ["logits", "logits"], "square")
    net.node("Mul", ["logits", "square"], "cube")
    net.node("Mul", ["logits", net.constant("half", np.float32(0.5))], "less")
    names = ("constant", "cube", "less")
    outputs = [nets.value(name, ["n", 3]) for name in names[1:]] + [nets.value("constant", [3])]
    graph = Graph(net.model([nets.value("x", ["n", 9])], outputs))
    assert [op is not None and op.inputs for op in map(partial(op_of, graph), names)] == [
        False, ("logits", "square"), ("logits",),
    ]  # fmt: skip
