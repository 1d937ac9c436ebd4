"""Rows of taps: what the tensors average to, and the same alone as in any batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openvino_models as nets
from openvino_models import op
from skip2lora.backbones.openvino import rows as rows_module
from skip2lora.backbones.taps import rows_of
from skip2lora.errors import DataError

Refused = Callable[..., str]
Feed = dict[str, np.ndarray]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    return nets.loader(tmp_path)


def images(n_samples: int, *shape: int) -> Feed:
    return {"x": np.random.default_rng(n_samples).normal(size=(n_samples, *shape)).astype("f")}


def part(feed: Feed, places: Any) -> Feed:
    return {name: array[places] for name, array in feed.items()}


def all_rows(backbone: Any, feed: Feed) -> list[np.ndarray]:
    made = backbone.forward(backbone.check(feed))
    return [*made.taps, made.base_logits]


def raw(backbone: Any, feed: Feed) -> list[np.ndarray]:
    """The tensors that the layers read, by plain OpenVINO."""
    results = [op.result(each.source) for each in backbone.anatomy.sources]
    model = nets.openvino.Model(results, backbone.opened.graph.model.get_parameters())
    return nets.answers(model, *feed.values())


def channels_last() -> Any:
    net = nets.Net()
    x = net.input("x", [-1, 9, 7, 3])
    hidden = op.reduce_mean(op.relu(net.dense(x, 3, 6, "mixed")), nets.whole([1, 2]), False)
    return net.model(net.dense(nets.named(hidden, "h"), 6, 2, "fc"))


def volumes() -> Any:
    """Convolutions over three axes, and over one."""
    net = nets.Net()
    x = net.input("x", [-1, 2, 6, 5, 4])
    three = [[1] * 3, [1] * 3, [1] * 3, [1] * 3]
    hidden = nets.named(op.relu(op.convolution(x, net.weight(3, 2, 3, 3, 3), *three)), "volume")
    hidden = nets.named(op.reshape(hidden, nets.whole([0, 3, 120]), True), "line")
    hidden = op.relu(op.convolution(hidden, net.weight(4, 3, 5), [2], [2], [2], [1]))
    hidden = nets.named(op.reduce_mean(hidden, nets.whole([2]), False), "pooled")
    return net.model(net.dense(hidden, 4, 2, "fc"))


def left() -> Any:
    """Weights that mix places, as in MLP-Mixer."""
    net = nets.Net()
    x = net.input("x", [-1, 6, 5])
    mixed = op.relu(op.matmul(net.weight(4, 6), x, False, False))
    hidden = nets.named(op.reshape(mixed, nets.whole([0, 20]), True), "hidden")
    return net.model(net.dense(hidden, 20, 2, "fc"))


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "mlp": (nets.mlp, (9,)),
    "cnn": (nets.cnn, (3, 14, 14)),
    "cnn, any size": (lambda: nets.cnn(size=-1), (3, 15, 11)),
    "quantised": (nets.residual, (3, 8, 8)),
    "channels last": (channels_last, (9, 7, 3)),
    "three axes and one": (volumes, (2, 6, 5, 4)),
    "from the left": (left, (6, 5)),
}


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_averages_of_what_the_layers_read(name: str, load: Any) -> None:
    make, shape = MODELS[name]
    backbone, feed = load(make()), images(5, *shape)
    values = raw(backbone, feed)
    assert len(values) == len(backbone.taps) > 1
    for rows, tap, value in zip(all_rows(backbone, feed), backbone.taps, values, strict=False):
        np.testing.assert_allclose(rows, rows_of(tap, value), rtol=1e-5, atol=1e-6)


def test_masked_tokens_do_not_count(load: Any) -> None:
    backbone, feed = load(nets.texts()), nets.feed_of_texts(6, 7)
    values = raw(backbone, feed)
    for rows, tap, value in zip(all_rows(backbone, feed), backbone.taps, values, strict=False):
        mask = feed["attention_mask"].astype("f") if tap.kind == "sequence" else None
        np.testing.assert_allclose(rows, rows_of(tap, value, mask), rtol=1e-5, atol=1e-6)
    padded = {name: np.pad(array, ((0, 0), (0, 4))) for name, array in feed.items()}
    for rows, same in zip(all_rows(backbone, feed), all_rows(backbone, padded), strict=True):
        np.testing.assert_allclose(rows, same, rtol=1e-5, atol=1e-6)


def folded(batch: int = -1) -> Any:
    net = nets.Net()
    x = net.input("x", [batch, 5, 4])
    flat = nets.named(op.reshape(x, nets.whole([-1, 4]), False), "flat")
    hidden = op.reshape(op.relu(net.dense(flat, 4, 6, "fc0")), nets.whole([-1, 30]), False)
    return net.model(net.dense(nets.named(hidden, "hidden"), 30, 2, "fc1"))


def swapped(batch: int = -1) -> Any:
    net = nets.Net()
    x = net.input("x", [batch, 5, 4])
    turned = nets.named(op.transpose(x, nets.whole([1, 0, 2])), "turned")
    hidden = op.reduce_mean(op.relu(net.dense(turned, 4, 6, "fc0")), nets.whole([0]), False)
    return net.model(net.dense(nets.named(hidden, "hidden"), 6, 2, "fc1"))


@pytest.mark.parametrize("batch", [-1, 4])
@pytest.mark.parametrize("make", [folded, swapped])
def test_tokens_elsewhere(make: Any, batch: int, load: Any) -> None:
    """Folded into the samples or before them, they are the tokens of the input all the same."""
    feed = images(6, 5, 4)
    tokens = all_rows(load(make(batch)), feed)[0]
    x = feed["x"]
    np.testing.assert_allclose(tokens, np.hstack([x.mean(axis=1), x[:, 0]]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 4, 100])
@pytest.mark.parametrize("make", [nets.mlp, nets.cnn, folded, swapped])
def test_a_fixed_batch_is_filled_up(make: Any, batch: int, load: Any) -> None:
    free = load(make(batch=-1))
    feed = images(9, *free.inputs[0].shape)
    expected = all_rows(free, feed)
    for rows, same in zip(all_rows(load(make(batch=batch)), feed), expected, strict=True):
        assert rows.tobytes() == same.tobytes()


def block(net: nets.Net, h: Any, width: int, number: int) -> tuple[Any, int]:
    """A random part of a network on a map."""
    kind = net.random.integers(5)
    if kind == 0:
        return op.relu(net.conv(h, width, width, 3, f"depthwise{number}", groups=width)), width
    if kind == 1:
        return op.add(h, op.swish(net.conv(h, width, width, 1, f"residual{number}"))), width
    if kind == 2:
        gate = op.reduce_mean(h, nets.whole([2, 3]), True)
        return op.multiply(h, op.sigmoid(net.conv(gate, width, width, 1, f"gate{number}"))), width
    if kind == 3:
        return op.max_pool(h, [1, 1], [1, 1], [1, 1], [1, 1], [3, 3]).output(0), width
    out = int(net.random.integers(3, 40))
    stride = int(net.random.integers(1, 3))
    return op.relu(net.conv(h, width, out, 3, f"conv{number}", stride=stride)), out


def random_network(seed: int) -> tuple[Any, tuple[int, ...]]:
    net = nets.Net(seed)
    size, width = int(net.random.integers(5, 30)), int(net.random.choice([1, 3]))
    shape = (width, size, size)
    h = net.input("x", [-1, *shape])
    h, width = op.relu(net.conv(h, width, 8, 3, "stem")), 8
    for number in range(int(net.random.integers(1, 6))):
        h, width = block(net, h, width, number)
    h = op.reduce_mean(h, nets.whole([2, 3]), False)
    hidden = int(net.random.integers(2, 300))
    h = op.relu(net.dense(h, width, hidden, "hidden"))
    return net.model(net.dense(h, hidden, 5, "logits")), shape


@pytest.mark.parametrize("seed", range(12))
def test_random_networks(seed: int, load: Any) -> None:
    """A row has the same bits alone, in a batch and in another order; taps change no answer."""
    model, shape = random_network(seed)
    backbone, feed = load(model), images(21, *shape)
    every = all_rows(backbone, feed)
    order = np.random.default_rng(seed).permutation(21)
    for rows, same in zip(all_rows(backbone, part(feed, order)), every, strict=True):
        assert rows.tobytes() == same[order].tobytes()
    for place in (0, 13):
        alone = all_rows(backbone, part(feed, slice(place, place + 1)))
        assert [row.tobytes() for row in alone] == [row[place].tobytes() for row in every]
    [answers] = nets.answers(model, *feed.values())
    assert every[-1].tobytes() == answers.tobytes()
    assert backbone.logits(feed).tobytes() == answers.tobytes()


def test_taps_change_no_answer_of_a_quantised_model(load: Any) -> None:
    """With OpenVINO's fusion of integers they would, by 2 % of the largest logit."""
    backbone, feed = load(nets.residual()), images(9, 3, 8, 8)
    assert all_rows(backbone, feed)[-1].tobytes() == backbone.logits(feed).tobytes()


def test_runs_of_few_samples(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, feed = load(nets.cnn()), images(9, 3, 14, 14)
    expected = all_rows(backbone, feed)
    sizes = [len(arrays[0]) for _, _, arrays in backbone._runner._feeds(feed)]
    assert sizes == [9]
    monkeypatch.setattr(rows_module, "_MOST_FLOATS", 2 * 8 * 14 * 14)
    sizes = [len(arrays[0]) for _, _, arrays in backbone._runner._feeds(feed)]
    assert sizes == [2, 2, 2, 2, 1]
    for rows, same in zip(all_rows(backbone, feed), expected, strict=True):
        assert rows.tobytes() == same.tobytes()


def test_samples_are_only_read(load: Any) -> None:
    backbone, feed = load(nets.mlp()), images(9, 9)
    x = feed["x"]
    before = x.copy()
    x.flags.writeable = False
    expected = all_rows(backbone, {"x": before})
    for rows, same in zip(all_rows(backbone, feed), expected, strict=True):
        assert rows.tobytes() == same.tobytes()
    assert x.tobytes() == before.tobytes()


def test_rows_stay_after_the_next_run(load: Any) -> None:
    backbone = load(nets.cnn())
    one = all_rows(backbone, images(3, 3, 14, 14))
    before = [rows.copy() for rows in one]
    all_rows(backbone, images(5, 3, 14, 14))
    assert [rows.tobytes() for rows in one] == [rows.tobytes() for rows in before]


def test_two_threads_at_once(load: Any) -> None:
    backbone, feed = load(nets.cnn()), images(40, 3, 14, 14)
    expected = [rows.tobytes() for rows in all_rows(backbone, feed)]
    made: list[list[bytes]] = []

    def work() -> None:
        for _ in range(5):
            made.append([rows.tobytes() for rows in all_rows(backbone, feed)])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [expected] * 15


def test_nothing_but_the_sample(load: Any) -> None:
    """An encoder with its first tap alone has nothing to run."""
    net = nets.Net()
    x = net.input("x", [-1, 5, 4])
    backbone = load(net.model(net.dense(x, 4, 6, "fc")), taps=["x"])
    feed = images(3, 5, 4)
    [rows, logits] = all_rows(backbone, feed)
    np.testing.assert_allclose(rows[:, 4:], feed["x"][:, 0])
    assert logits.shape == (3, 0)


def test_what_the_runtime_refuses(load: Any, refused: Refused) -> None:
    """A mask of another length than the tokens."""
    backbone, feed = load(nets.texts()), nets.feed_of_texts(3, 7)
    backbone.logits(feed)
    feed["attention_mask"] = nets.feed_of_texts(3, 5)["attention_mask"]
    said = refused(DataError, backbone.forward, backbone.check(feed))
    assert said.startswith("OpenVINO refused the samples: ")
    assert said.endswith("are their values right?")


def test_a_tensor_without_the_samples_is_refused(
    load: Callable[..., Any], refused: Refused
) -> None:
    """As a damaged Pad, which takes samples away, gives."""
    (source, *_) = load(nets.cnn())._runner.sources
    feed, rows = [np.ones((2, 3, 14, 14), np.float32)], np.empty((2, source.tap.width), np.float32)
    said = refused(DataError, rows_module._fill, source, feed[0][:0], feed, (), rows)
    assert "(0, 3, 14, 14) for 2 samples, expected a row each" in said
