"""What running an OpenVINO network on noise shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openvino_models as nets
from skip2lora.backbones.alone import Layout, Verdict
from skip2lora.backbones.openvino.graph import Graph
from skip2lora.backbones.openvino.inputs import specs_of
from skip2lora.backbones.openvino.probe import _baked, look, mixing, refuse_late
from skip2lora.errors import ModelError

op, PATH = nets.op, Path("m.xml")


def parts(model: Any) -> tuple[Graph, Any, Any]:
    graph = Graph(model)
    end = model.get_results()[0].input(0).get_source_output()
    return graph, specs_of(graph, PATH), end


@pytest.mark.parametrize("batch", [-1, 2, 3])
@pytest.mark.parametrize(
    ("order", "layout"),
    [([0, 1, 2], Layout(0, 1, 5)), ([1, 0, 2], Layout(0, 5, 1))],
    ids=["samples first", "tokens first"],
)
def test_the_order_of_samples_in_an_axis(batch: int, order: list[int], layout: Layout) -> None:
    net = nets.Net()
    turned = op.transpose(net.input("x", [batch, 5, 4]), nets.whole(order))
    flat = op.reshape(turned, nets.whole([-1, 4]), False)
    graph, inputs, end = parts(net.model(net.dense(flat, 4, 6, "fc")))
    assert [each.layout for each in look(graph, inputs, [end], PATH).verdicts or ()] == [layout]


def test_tokens_and_inputs_themselves() -> None:
    net = nets.Net()
    ids = net.input("ids", [-1, 7], np.int64)
    words = op.gather(net.weight(2, 4), ids, nets.whole(0))
    graph, inputs, end = parts(net.model(words))
    source = graph.model.get_parameters()[0].output(0)
    verdicts = look(graph, inputs, [source, end], PATH).verdicts
    assert verdicts is not None
    assert [(each.layout, each.holds()) for each in verdicts] == [(Layout(0), True)] * 2


def test_sizes_that_do_not_fit_are_not_run() -> None:
    """OpenVINO itself would multiply beyond the end of a row."""
    net = nets.Net()
    x = net.input("x", [-1, -1])
    graph, inputs, end = parts(net.model(op.matmul(x, net.weight(7, 3), False, False)))
    seen = look(graph, inputs, [end], PATH)
    assert (seen.verdicts, seen.values) == (None, None)
    assert seen.reason


def test_the_operator_that_mixes_is_named() -> None:
    net = nets.Net()
    hidden = net.dense(net.input("x", [-1, 4]), 4, 6, "fc0")
    mixed = op.softmax(hidden, 0)
    mixed.set_friendly_name("mixer")
    graph, inputs, end = parts(net.model(net.dense(mixed, 6, 2, "fc1")))
    [verdict] = look(graph, inputs, [end], PATH).verdicts or ()
    assert not verdict.holds()
    said = str(mixing(graph, inputs, end, verdict, PATH))
    assert said.startswith("m.xml: operator mixer (Softmax) mixes the samples of a batch")
    assert "m.xml: its output mixes" in str(
        mixing(graph, inputs, hidden.output(0), Verdict(None), PATH)
    )


@pytest.mark.parametrize("sizes", [[-1, -1, 4], [6, -1, 4], [6, 1, 4]])
def test_samples_along_the_second_axis_are_named(sizes: list[int]) -> None:
    net = nets.Net()
    x = net.input("x", sizes)
    graph, inputs, end = parts(
        net.model(net.dense(op.reduce_mean(x, nets.whole([0]), False), 4, 2, "y"))
    )
    with pytest.raises(ModelError, match="input x has its samples along the second axis"):
        refuse_late(graph, inputs, end, PATH)


@pytest.mark.parametrize(
    ("first", "baked"), [(-1, set()), (0, set()), (1, {1}), (256, {256}), (257, set())]
)
def test_how_many_samples_a_network_may_be_made_for(first: int, baked: set[int]) -> None:
    net = nets.Net()
    folded = op.reshape(net.input("x", [-1, 4]), nets.whole([first, 4]), True)
    graph, _, _ = parts(net.model(net.dense(folded, 4, 3, "fc")))
    assert _baked(graph) == baked


@pytest.mark.parametrize("size", [1, 2, 5])
def test_samples_at_a_time_that_only_the_inside_knows(size: int) -> None:
    net = nets.Net()
    folded = op.reshape(net.input("x", [-1, 6]), nets.whole([size, 2, 3]), False)
    graph, inputs, end = parts(net.model(net.dense(folded, 3, 4, "fc")))
    seen = look(graph, inputs, [end], PATH)
    assert (seen.batch, seen.reason) == (size, "")
    assert [each.layout for each in seen.verdicts or ()] == [Layout(0)]
    assert [each.shape for each in seen.values or ()] == [(size, 2, 4)]
