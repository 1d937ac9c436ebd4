"""What running a graph on noise shows: shapes, where tensors hold samples, and what mixes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages onnx and onnxruntime: pip group runtimes")
pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")


import onnx_models as nets
from backbones.onnx.test_mixing import MIXERS
from conformance import random_graphs
from skip2lora.backbones.alone import Layout, Verdict
from skip2lora.backbones.onnx.graph import Graph, infer
from skip2lora.backbones.onnx.probe import (
    Look,
    Seen,
    _attempts,
    _axes_of,
    _baked,
    look,
    numbers_for,
    with_batch,
)


def looked(model: Any, *tensors: str) -> Look:
    return look(Graph(model), Path(), tensors, [value.name for value in model.graph.output])


def shapes(model: Any, *tensors: str) -> dict[str, Any]:
    seen = looked(model, *tensors)
    return {name: seen.of(name).shape for name in tensors}


def test_sizes_follow_those_of_the_inputs() -> None:
    seen = shapes(nets.cnn(size="s"), "conv0", "depthwise", "fc")
    assert seen["conv0"] == (1, 8, "s", "s")
    assert seen["depthwise"] == (1, 8, None, None)  # half of it
    assert seen["fc"] == (1, 4)


def test_samples_times_tokens_are_folded() -> None:
    seen = looked(nets.transformer(folded=True), "up", "unfolded")
    assert seen.of("up").shape == ("t", 32)
    assert seen.of("up").by_sample is None
    assert seen.of("unfolded").by_sample == ("t", 16)


def test_a_fixed_number_of_samples() -> None:
    seen = looked(nets.mlp(batch=4), "fc1")
    assert (seen.batch, seen.of("fc1").by_sample) == (4, (5,))
    folded = looked(nets.transformer(folded=True, batch=2, tokens=7), "up")
    assert folded.of("up").verdict.layout == Layout(0, 1, 7)


def test_names_are_not_taken_for_one_another() -> None:
    """Two open sizes of one image, and of tokens, get different numbers."""
    net = nets.Net()
    net.node("Transpose", ["x"], "turned", perm=[0, 1, 3, 2])
    net.node("Transpose", ["ids"], "swapped", perm=[1, 2, 0])
    model = net.model(
        [nets.value("x", ["n", 3, "h", "w"]), nets.value("ids", ["n", "t", "u"])],
        [nets.value("turned", ["n", 3, "w", "h"]), nets.value("swapped", ["t", "u", "n"])],
    )
    seen = looked(model, "x")
    assert seen.of("turned").shape == (1, 3, "w", "h")
    assert seen.of("swapped").shape == ("t", "u", 1)
    assert seen.of("swapped").verdict.layout == Layout(2)
    assert seen.of("x").shape == (1, 3, "h", "w")


@pytest.mark.parametrize("width", [3, 4])
def test_an_axis_before_the_samples_is_not_folded(width: int) -> None:
    net = nets.Net()
    net.node("Transpose", ["x"], "turned", perm=[1, 0])
    model = net.model([nets.value("x", ["n", width])], [nets.value("turned", [width, "n"])])
    seen = looked(model).of("turned")
    assert (seen.verdict.layout, seen.shape) == (Layout(1), (width, 1))


FOLDS = {
    "samples first": ([0, 1, 2, 3], [-1, 4], Layout(0, 1, 15)),
    "samples last": ([1, 2, 0, 3], [-1, 4], Layout(0, 15, 1)),
    "samples in the middle": ([1, 0, 2, 3], [-1, 4], Layout(0, 5, 3)),
    "heads and samples": ([2, 0, 1, 3], [-1, 5, 4], Layout(0, 3, 1)),
    "tokens first": ([1, 0, 2, 3], [5, -1, 4], Layout(1, 1, 3)),
}


@pytest.mark.parametrize("batch", ["n", 2, 3, 4])
@pytest.mark.parametrize("fold", FOLDS)
def test_the_order_of_samples_in_an_axis(fold: str, batch: Any) -> None:
    perm, shape, layout = FOLDS[fold]
    net = nets.Net()
    net.node("Transpose", ["x"], "turned", perm=perm)
    net.node("Reshape", ["turned", net.constant("to", np.array(shape))], "y")
    model = net.model([nets.value("x", [batch, 5, 3, 4])], [nets.value("y", [None] * len(shape))])
    assert looked(model).of("y").verdict.layout == layout


@pytest.mark.parametrize(("inside", "batch"), [(1, 1), (5, 5), (-1, None)])
def test_a_graph_made_for_so_many_samples(inside: int, batch: int | None) -> None:
    net = nets.Net()
    net.node("Reshape", ["x", net.constant("to", np.array([inside, 11], np.int64))], "y")
    model = net.model([nets.value("x", ["n", 11])], [nets.value("y", [None, 11])])
    seen = looked(model)
    assert (seen.batch, seen.baked, seen.unknown) == (batch, batch is not None, None)


def test_a_graph_that_refuses_noise_is_known_by_its_shapes() -> None:
    net = nets.Net()
    net.node("Reshape", ["x", net.constant("to", np.array([5, 11], np.int64))], "five")
    net.node("Reshape", ["x", net.constant("other", np.array([7, 11], np.int64))], "seven")
    net.node("Concat", ["five", "seven"], "y", axis=0)
    model = net.model([nets.value("x", ["n", 11])], [nets.value("y", [12, 11])])
    seen = looked(model, "x")
    assert seen.unknown is not None
    assert "Reshape" in seen.unknown
    assert seen.of("x").by_sample == (11,)
    assert seen.of("y") == Seen(seen.of("nothing").verdict)


def test_sound_may_have_to_be_longer() -> None:
    net = nets.Net()
    net.node("Conv", ["x", net.weight("w", 6, 1, 512)], "conv", strides=[64])
    net.node("GlobalAveragePool", ["conv"], "pooled")
    net.node("Flatten", ["pooled"], "flat")
    net.node("Gemm", ["flat", net.weight("v", 6, 2)], "y")
    seen = looked(
        net.model([nets.value("x", ["n", 1, "length"])], [nets.value("y", ["n", 2])]), "conv"
    )
    assert (seen.unknown, seen.batch) == (None, None)
    assert seen.of("conv").by_sample == (6, None)
    assert seen.of("y").verdict.holds()


def test_sizes_are_those_inferred_where_only_one_length_runs() -> None:
    """A graph that leaves open what a constant inside of it fixes."""
    net = nets.Net()
    one, _ = numbers_for(infer(graph("n", "t"), {"x": 0}), ["x"], (0,), (12, 20))
    tried = one["t"]
    net.node("Add", ["x", net.vector("b", tried)], "summed")
    net.node("ReduceMean", ["summed"], "y", axes=[1])
    seen = looked(net.model([nets.value("x", ["n", "t"])], [nets.value("y", ["n", 1])]), "summed")
    assert (seen.unknown, seen.batch) == (None, None)
    assert seen.of("y").verdict.holds()
    assert seen.of("y").by_sample == (1,)
    assert seen.of("summed").by_sample is not None


def test_fixed_sizes_are_tried_once() -> None:
    """Each number of samples a run may have, and longer ones only where lengths are open."""
    fixed, is_open = graph("n", 4), graph("n", "t")
    assert [size for _, size, _ in _attempts(fixed, infer(fixed, {"x": 0}), None)] == [None, 1]
    assert [size for _, size, _ in _attempts(fixed, infer(fixed, {"x": 0}), 3)] == [3]
    lengths = [each for each, _, _ in _attempts(is_open, infer(is_open, {"x": 0}), 3)]
    assert lengths == [(12, 20), (576, 960)]


TIME_FIRST = {
    "batch open": ["t", "n", 4],
    "time fixed": [6, "n", 4],
    "named": ["steps", "batch", 4],
    "fixed": [6, 3, 4],
    "one": [6, 1, 4],
}


@pytest.mark.parametrize("sizes", TIME_FIRST)
def test_inputs_with_the_samples_along_the_second_axis(sizes: str) -> None:
    net = nets.Net()
    net.node("GRU", ["x", net.weight("w", 1, 15, 4), net.weight("r", 1, 15, 5)], "", hidden_size=5)
    net.nodes[-1].output[:] = ["", "state"]
    net.node("Squeeze", ["state", net.constant("first", np.array([0]))], "y")
    shape = TIME_FIRST[sizes]
    model = net.model([nets.value("x", shape)], [nets.value("y", [shape[1], 5])])
    seen = looked(model, "x")
    assert seen.axes == {"x": 1}
    assert seen.of("y").by_sample == (5,)


def test_a_state_with_the_samples_along_its_second_axis() -> None:
    net = nets.Net()
    net.node("Transpose", ["state"], "turned", perm=[1, 0, 2])
    net.node("Flatten", ["turned"], "flat", axis=1)
    net.node("Concat", ["x", "flat"], "y", axis=1)
    for second, open_state in (("n", "n"), ("n", "other"), ("batch", None)):
        model = net.model(
            [nets.value("x", [second, 3]), nets.value("state", [2, open_state, 4])],
            [nets.value("y", [second, 11])],
        )
        assert looked(model).axes == {"x": 0, "state": 1}


@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("operator", ["CumSum", "ReduceMean", "Softmax"])
def test_rows_of_samples_that_are_mixed_tell_the_axis_of_the_samples(
    operator: str, time_first: bool
) -> None:
    """Before the node that mixes them, tokens taken for samples hold as well."""
    attributes = dict(MIXERS[operator])
    net = nets.Net()
    net.node("MatMul", ["x", net.weight("w", 4, 4)], "fc")
    net.node("Relu", ["fc"], "relu")
    net.node("Transpose", ["relu"], "turned", perm=[1, 0, 2] if time_first else [0, 1, 2])
    net.node("Reshape", ["turned", net.constant("shape", np.array([-1, 20]))], "row")
    constants = [net.constant("k", attributes.pop("input"))] if "input" in attributes else []
    net.node(operator, ["row", *constants], "mixed", **attributes)
    net.node("Sub", ["row", "mixed"], "apart")
    net.node("Gemm", ["apart", net.weight("v", 20, 2)], "y")
    net.node("Relu", ["apart"], "other")
    shape = [5, "n", 4] if time_first else ["n", 5, 4]
    outputs = [nets.value("y", ["n", 2]), nets.value("other", ["n", 20])]
    seen = looked(net.model([nets.value("x", shape)], outputs), "x", "relu", "row")
    assert seen.axes == {"x": int(time_first)}
    assert seen.of("y").by_sample == (2,)
    assert not seen.of("y").verdict.holds()


def test_folds_of_samples_are_less_than_a_row_a_sample() -> None:
    """Of tokens without any layer between them, a fold holds along either axis."""
    net = nets.Net()
    net.node("Transpose", ["x"], "turned", perm=[1, 0, 2])
    net.node("Reshape", ["turned", net.constant("shape", np.array([-1, 8]))], "other")
    net.node("Gemm", ["other", net.weight("v", 8, 3)], "y")
    outputs = [nets.value("y", ["n", 3]), nets.value("other", ["n", 8])]
    seen = looked(net.model([nets.value("x", [2, "n", 4])], outputs), "x")
    assert seen.axes == {"x": 1}
    assert seen.of("y").by_sample == (3,)


def test_as_many_outputs_as_tokens_are_not_samples() -> None:
    """What differs as little as samples quantised together do, in a graph that quantises none."""
    seen = looked(random_graphs.draw(1207).model, "transpose1")
    assert seen.axes == {"x": 1}


def graph(*shape: Any) -> Graph:
    net = nets.Net()
    net.node("Relu", ["x"], "y")
    return Graph(net.model([nets.value("x", list(shape))], [nets.value("y", list(shape))]))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        (("n", 4), [0]),
        (("n", 5, 4), [0, 1]),
        (("batch", "time", 4), [0, 1]),
        (("time", "batch", 4), [1, 0]),
        ((5, "n", 4), [0, 1]),
        ((5, 3, 4), [0, 1]),
        (("n", 3, 8, 8), [0]),
        (("batch", "sample", 4), [0, 1]),
        (("n",), [0]),
    ],
)
def test_likely_axes_come_first(shape: tuple[Any, ...], axes: list[int]) -> None:
    assert _axes_of(graph(*shape)) == [{"x": axis} for axis in axes]


def test_open_sizes_have_numbers_of_their_own() -> None:
    of = graph("n", 3, "h", "w")
    one, other = numbers_for(infer(of, {"x": 0}), ["x"], (0, 1, 2), (12, 20))
    assert one["h"] != one["w"]
    assert other["h"] != other["w"]
    assert all(one[name] != other[name] for name in ("h", "w"))


def test_numbers_are_small_for_tokens_and_large_for_images() -> None:
    net = nets.Net()
    net.node("Identity", ["x"], "y")
    inputs = [nets.value("x", ["n", 3, "h", "w"]), nets.value("ids", ["n", "t", "u"])]
    of = infer(Graph(net.model(inputs, [nets.value("y", [None] * 4)])), {"x": 0, "ids": 0})
    one, other = numbers_for(of, ["x", "ids"], (0, 1, 2, 3), (12, 20))
    names = {name for name in one if name in "hwtu"}
    assert names == set("hwtu")
    assert {name: one[name] for name in "hw"} == {"h": 224, "w": 224 + 32}
    assert {name: other[name] for name in "hw"} == {"h": 256, "w": 256 + 64}
    assert {name: one[name] for name in "tu"} == {"t": 12 + 2, "u": 12 + 3}
    assert {name: other[name] for name in "tu"} == {"t": 20 + 6, "u": 20 + 9}
    assert set(one.values()) - {224, 256, 14, 15} == {4}
    assert with_batch({"h": 3}, (5, 6)) == {"h": 3, **with_batch({}, (5, 6))}


@pytest.mark.parametrize(
    ("first", "baked"), [(-1, set()), (0, set()), (1, {1}), (256, {256}), (257, set())]
)
def test_how_many_samples_a_graph_may_be_made_for(first: int, baked: set[int]) -> None:
    net = nets.Net()
    net.node("Reshape", ["x", net.constant("to", np.array([first, 4], np.int64))], "y")
    model = net.model([nets.value("x", ["n", 4])], [nets.value("y", [None, None])])
    assert _baked(Graph(model)) == baked


def of_values(*values: Any, n_inputs: int = 1) -> Look:
    axes = {str(number): 0 for number in range(n_inputs)}
    return Look(axes, {}, None, values={"y": np.array(values)})


def test_values_that_tell_nothing() -> None:
    """The same for all samples, of one input, and of more than one sample."""
    assert of_values([1, 2], [1, 2], [1, 2]).is_steady("y")
    assert not of_values([1, 2], [1, 2], [1, 3]).is_steady("y")
    assert not of_values([1, 2]).is_steady("y")
    assert not of_values([1, 2], [1, 2], n_inputs=2).is_steady("y")
    assert not of_values([1, 2], [1, 2]).is_steady("z")


def test_which_axes_are_likelier() -> None:
    plain, folded = Verdict(Layout(0)), Verdict(Layout(0, 1, 5))
    mixed = Seen(Verdict(Layout(0), swayed=9.0, spread=1.0), (1, 3))
    seen = {"row": Seen(plain, (1, 3)), "fold": Seen(folded, (5, 3)), "mixed": mixed}
    sight = Look({"x": 0}, {}, None, seen=seen)
    assert [sight.likely([name], dynamic=False) for name in ("row", "fold", "mixed", "?")] == [
        3, 1, 2, 0,
    ]  # fmt: skip
    assert sight.likely(["mixed", "fold", "row"], dynamic=False) == 3
    assert sight.likely([], dynamic=False) == 0
    assert Look({}, {}, None, unknown="why").likely(["row"], dynamic=False) == -1
    assert sight.n_holding(dynamic=False) == 2


def test_sizes_that_inference_does_not_give_may_change() -> None:
    """Where a run with other sizes fails."""
    seen = Seen(Verdict(Layout(0)), (1, 8, 5))
    assert seen.where_inferred(("n", 8, "t")).shape == (1, 8, None)
    assert seen.where_inferred(("n", 8, 5)).shape == (1, 8, 5)
    assert seen.where_inferred((1, 9, 5)).shape == (1, None, 5)
    for nothing in (None, ("n", 8), ("n", 8, 5, 1)):
        assert seen.where_inferred(nothing).shape == (1, None, None)
    assert Seen(Verdict(Layout(1)), (8, 1, 5)).where_inferred((8, "n", None)).shape == (8, 1, None)
    unknown = Seen(Verdict(None), (1, 2))
    assert unknown.where_inferred((3, 4)) is unknown


def test_a_run_with_other_sizes_names_them() -> None:
    seen = Seen(Verdict(Layout(0)), (1, 8, 5))
    sizes = {"t": 5, "n": 3}, {"t": 9, "n": 2}
    assert seen.matched(((0, 1), {"y": np.zeros((2, 8, 9))}), "y", sizes).shape == (1, 8, "t")
    assert seen.matched(((0, 1), {"y": np.zeros((2, 8, 7))}), "y", sizes).shape == (1, 8, None)
    other = seen.matched(((0, 1), {"y": np.zeros((2, 8))}), "y", sizes)
    assert (other.verdict.layout, other.shape) == (None, ())


@pytest.mark.parametrize(
    ("values", "n_inputs", "steady"),
    [([[1, 2]] * 2, 1, True), ([[1, 2]] * 2, 2, False), ([[1, 2]], 1, False),
     ([[1, 2], [1, 3]], 1, False), ([[1, 2]] * 3, 1, True)],
)  # fmt: skip
def test_what_is_the_same_of_every_sample(values: Any, n_inputs: int, steady: bool) -> None:
    axes = dict.fromkeys("ab"[:n_inputs], 0)
    seen = Look(axes, {}, None, values={"y": np.array(values)})
    assert seen.is_steady("y") is steady
    assert not seen.is_steady("z")
