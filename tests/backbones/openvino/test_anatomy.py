"""Of which kind the taps are, and which output has the logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openvino_models as nets
from openvino_models import op
from skip2lora.backbones.alone import Layout, Verdict
from skip2lora.backbones.masks import mask_of
from skip2lora.backbones.openvino import probe
from skip2lora.backbones.openvino.anatomy import Anatomy, _Seen, anatomy
from skip2lora.backbones.openvino.graph import Graph
from skip2lora.backbones.openvino.inputs import specs_of
from skip2lora.backbones.openvino.opened import Opened
from skip2lora.errors import ModelError, ParameterError

Refused = Callable[..., str]
PATH = Path("m.xml")


def of(model: Any, output: Any = None, grid: int = 4) -> Anatomy:
    graph = Graph(model)
    inputs = specs_of(graph, PATH)
    mask = mask_of(None, inputs, PATH)
    opened = Opened(PATH, graph, inputs, "", None)
    return anatomy(opened, grid=grid, output=output, mask=mask)


def taps(model: Any, **options: Any) -> list[Any]:
    sources = of(model, **options).sources
    return [(each.tap.layer, each.tap.kind, each.tap.shape, each.tap.grid) for each in sources]


def test_vectors_and_maps() -> None:
    assert taps(nets.mlp([9, 4, 3])) == [("x", "vector", (9,), ()), ("relu0", "vector", (4,), ())]
    wide = [("x", "vector", (300,), ()), ("relu0", "vector", (1000,), ())]
    assert taps(nets.mlp([300, 1000, 3])) == wide
    maps = [
        ("x", "map", (3, 14, 14), (4, 4)), ("relu0", "map", (8, 14, 14), (4, 4)),
        ("relu1", "map", (8, 7, 7), (4, 4)), ("pooled", "vector", (12,), ()),
    ]  # fmt: skip
    assert taps(nets.cnn()) == maps
    assert taps(nets.cnn(batch=1)) == maps
    assert taps(nets.cnn(), grid=2)[1] == ("relu0", "map", (8, 14, 14), (2, 2))


def test_maps_of_any_size_keep_one_place() -> None:
    assert taps(nets.cnn(size=-1))[1] == ("relu0", "map", (8, None, None), (1, 1))


@pytest.mark.parametrize("batch", [-1, 1, 4])
@pytest.mark.parametrize("tokens", [-1, 7])
def test_sequences(batch: int, tokens: int) -> None:
    count = None if tokens < 0 else tokens
    assert taps(nets.texts(batch=batch, tokens=tokens)) == [
        ("embedded", "sequence", (count, 12), ()),
        ("hidden", "sequence", (count, 16), ()),
        ("mean", "vector", (12,), ()),
    ]
    sources = of(nets.texts(batch=batch, tokens=tokens)).sources
    masks = [each.mask and each.mask.name for each in sources]
    assert masks == ["attention_mask", "attention_mask", None]


@pytest.mark.parametrize("batch", [-1, 2])
def test_folded_tokens(batch: int) -> None:
    """Samples times tokens as one axis, as many exporters make it."""
    net = nets.Net()
    x = net.input("x", [batch, 5, 4])
    flat = nets.named(op.reshape(x, nets.whole([-1, 4]), False), "flat")
    hidden = op.reshape(net.dense(flat, 4, 6, "fc0"), nets.whole([-1, 30]), False)
    found = of(net.model(net.dense(nets.named(hidden, "hidden"), 30, 2, "fc1")))
    assert [(each.tap.kind, each.tap.shape, each.layout) for each in found.sources] == [
        ("sequence", (5, 4), Layout(0, 1, 5)), ("vector", (30,), None),
    ]  # fmt: skip


def test_tokens_first() -> None:
    net = nets.Net()
    x = net.input("x", [-1, 5, 4])
    turned = nets.named(op.transpose(x, nets.whole([1, 0, 2])), "turned")
    made = net.dense(turned, 4, 6, "fc0")
    hidden = nets.named(op.reduce_mean(made, nets.whole([0]), False), "hidden")
    found = of(net.model(net.dense(hidden, 6, 2, "fc1")))
    assert [(each.tap.kind, each.tap.shape, each.layout) for each in found.sources] == [
        ("sequence", (5, 4), Layout(1)), ("vector", (6,), None),
    ]  # fmt: skip


def test_channels_last() -> None:
    """A product over the last of four axes."""
    net = nets.Net()
    x = net.input("x", [-1, 8, 8, 3])
    hidden = op.reduce_mean(net.dense(x, 3, 6, "mixed"), nets.whole([1, 2]), False)
    [first, _] = of(net.model(net.dense(nets.named(hidden, "h"), 6, 2, "fc"))).sources
    assert (first.tap.kind, first.tap.channels_last, first.tap.grid) == ("map", True, (4, 4))
    assert first.tap.width == 48


def test_what_mixes_samples_is_named(refused: Refused) -> None:
    net = nets.Net()
    x = net.input("x", [-1, 4])
    mean = nets.named(op.reduce_mean(x, nets.whole([0]), True), "mean of all samples")
    hidden = nets.named(op.add(x, net.dense(mean, 4, 4, "fc0")), "hidden")
    said = refused(ModelError, of, net.model(net.dense(hidden, 4, 2, "fc1")))
    assert "(ReduceMean) mixes the samples of a batch" in said


def test_layers_left_out() -> None:
    """One that reads no place a sample, which says nothing of the answer."""
    net = nets.Net()
    x = net.input("x", [-1, 4])
    mean = nets.named(op.reduce_mean(x, nets.whole([0]), True), "mean of all samples")
    nothing = op.multiply(net.dense(mean, 4, 4, "fc0"), nets.constant(np.zeros(4)))
    hidden = nets.named(op.add(x, nothing), "hidden")
    assert [tap[0] for tap in taps(net.model(net.dense(hidden, 4, 2, "fc1")))] == ["hidden"]


def test_nothing_to_tap(refused: Refused) -> None:
    net = nets.Net()
    model = net.model(op.relu(net.input("x", [-1, 4])))
    assert "m.xml has no layer with weights (MatMul" in refused(ModelError, of, model)
    net = nets.Net()
    x = net.input("x", [-1, -1])
    model = net.model(op.matmul(x, net.weight(7, 3), False, False))
    assert "no input of a layer with weights has a known width" in refused(ModelError, of, model)


def several(*, softmax: bool = True) -> Any:
    """An embedding, a map, and classes."""
    net = nets.Net()
    x = net.input("x", [-1, 3, 8, 8])
    h = nets.named(op.relu(net.conv(x, 3, 6, 3, "conv")), "map")
    pooled = nets.named(op.reduce_mean(h, nets.whole([2, 3]), False), "embedding")
    classes = net.dense(pooled, 6, 4, "classes")
    return net.model(h, pooled, nets.end_with(classes, "Softmax" if softmax else None))


def test_the_output_that_classifies() -> None:
    assert (of(several()).end.name, of(several()).n_outputs) == ("probabilities", 4)  # type: ignore[union-attr]
    # Without an activation that which the other is not computed from.
    assert of(several(softmax=False)).end.name == "classes"  # type: ignore[union-attr]


@pytest.mark.parametrize("output", ["probabilities", 2])
def test_choosing_an_output(output: Any) -> None:
    found = of(several(), output=output)
    assert found.end is not None
    assert found.end.logits.get_names() == {"classes"}
    assert of(several(), output="embedding").n_outputs == 6


def test_outputs_refused(refused: Refused) -> None:
    model = several()
    said = refused(ParameterError, of, model, "other")
    assert "output is 'other' for m.xml" in said
    assert "expected a name or number from 0 of map, embedding, probabilities" in said
    for output in (3, True, -1):
        assert f"output is {output!r} for m.xml" in refused(ParameterError, of, model, output)
    said = refused(ParameterError, of, model, "map")
    assert (
        "output is 'map' for m.xml, which is map 6x8x8 (unknown), expected a row of numbers" in said
    )


def test_an_encoder_has_no_logits() -> None:
    found = of(nets.texts(head=False))
    assert (found.end, found.n_outputs) == (None, 0)
    assert found.sources[-1].tap.layer == "down"


def test_what_could_not_be_run_keeps_its_logits(monkeypatch) -> None:
    monkeypatch.setattr(probe, "_runs", lambda *_: ([], "no noise fits", None))
    by_shapes = of(nets.texts())
    assert by_shapes.end is not None
    assert by_shapes.n_outputs > 1
    assert "no noise fits" in str(by_shapes.note)


def test_logits_with_axes_of_one() -> None:
    net = nets.Net()
    x = net.input("x", [-1, 3, 4, 4])
    made = op.convolution(x, net.weight(5, 3, 4, 4), [1, 1], [0, 0], [0, 0], [1, 1])
    assert of(net.model(op.softmax(made, 1))).n_outputs == 5


def test_no_logits_for_all_samples_at_once() -> None:
    net = nets.Net()
    x = net.input("x", [-1, 4])
    total = op.reduce_mean(net.dense(x, 4, 3, "fc"), nets.whole([0]), True)
    assert of(net.model(total)).end is None


def test_truth_values_are_no_tap() -> None:
    net = nets.Net()
    x = net.input("x", [-1, 4], np.bool_)
    hidden = nets.named(op.convert(x, "f32"), "real")
    assert [tap[0] for tap in taps(net.model(net.dense(hidden, 4, 2, "fc")))] == ["real"]


@pytest.mark.parametrize("sizes", [(-1, 8), (8, -1), (-1, -1)])
def test_channels_last_of_any_size(sizes: tuple[int, int]) -> None:
    """The width is known by the last axis alone."""
    net = nets.Net()
    x = net.input("x", [-1, *sizes, 3])
    hidden = op.reduce_mean(net.dense(x, 3, 6, "mixed"), nets.whole([1, 2]), False)
    [first, _] = of(net.model(net.dense(nets.named(hidden, "h"), 6, 2, "fc"))).sources
    shape = (*(None if size < 0 else size for size in sizes), 3)
    assert (first.tap.kind, first.tap.channels_last, first.tap.shape) == ("map", True, shape)


@pytest.mark.parametrize("sizes", [(-1, 14), (14, -1)])
def test_channels_first_of_one_size(sizes: tuple[int, int]) -> None:
    net = nets.Net()
    h = nets.named(op.relu(net.conv(net.input("x", [-1, 3, *sizes]), 3, 8, 3, "conv0")), "relu0")
    h = nets.named(op.relu(net.conv(h, 8, 4, 1, "conv1")), "relu1")
    h = nets.named(op.reduce_mean(h, nets.whole([2, 3]), False), "pooled")
    known = tuple(None if size < 0 else size for size in sizes)
    assert [shape for _, _, shape, _ in taps(net.model(net.dense(h, 4, 2, "fc")))] == [
        (3, *known), (8, *known), (4,),
    ]  # fmt: skip


def test_a_size_changes_where_two_numbers_of_samples_give_two() -> None:
    one, other = (int("1000"), 6, 4), (int("1000"), 9, 4)  # no two objects of one number are one
    assert _Seen(one, other, (2, 3), Verdict(Layout(0))).sizes == (1000, None, 4)
    assert _Seen(one, other, (2, 3), Verdict(Layout(0))).along(1) == (6, 9)
    assert _Seen(one, (), (2, 3), Verdict(Layout(0))).sizes == ()
    assert _Seen(one, (1000, 9), (2, 3), Verdict(Layout(0))).sizes == ()
