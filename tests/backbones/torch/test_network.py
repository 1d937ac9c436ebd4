"""Any PyTorch module as a backbone: its taps against the tensors themselves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.torch_networks import REASON, of_mlp
from skip2lora.backbones.alone import Layout
from skip2lora.backbones.taps import rows_of
from skip2lora.errors import ModelError

torch = pytest.importorskip("torch", reason=REASON)
from torch import nn  # noqa: E402

from torch_modules import (  # noqa: E402
    IMAGES,
    PADDED,
    TOKENS,
    Convolutions,
    Encoder,
    Returns,
    Shared,
    bytes_of,
    hooks_of,
    inputs_of,
    mlp_like,
    names,
    vectors,
)

pytestmark = pytest.mark.usefixtures("torch_generator")


Refused = Callable[..., str]


def test_rows_are_those_of_the_same_mlp(make_model: Any, make_samples: Any) -> None:
    model = make_model([9, 16, 5, 3])
    x, _ = make_samples(70, 9)
    backbone = s2.TorchBackbone(of_mlp(model), example=x[:1])
    assert names(backbone) == ["0", "3", "6"]
    assert backbone.tap_widths == model.tap_widths
    one, other = backbone.forward(x), model.forward(x)
    for mine, its in zip(
        (*one.taps, one.base_logits), (*other.taps, other.base_logits), strict=True
    ):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(backbone.logits(x), other.base_logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_convolutional_network(training: bool) -> None:
    module = Convolutions().train(training)
    module.act.eval()
    module.depthwise.train()
    before, modes = bytes_of(module), [part.training for part in module.modules()]
    backbone = s2.TorchBackbone(module, batch_size=4)
    x = backbone.check(IMAGES.astype(np.float64))
    made = backbone.forward(x)
    assert bytes_of(module) == before  # batch norm's statistics too
    assert [part.training for part in module.modules()] == modes
    assert hooks_of(module) == 0
    assert [(t.layer, t.kind, t.shape, t.grid) for t in backbone.taps] == [
        ("first", "map", (3, 10, 7), (4, 4)),
        ("depthwise", "map", (6, 10, 7), (4, 4)),
        ("last", "vector", (6,), ()),
    ]
    own = inputs_of(module.eval(), torch.from_numpy(IMAGES), layers=names(backbone))
    for tap, mine, its in zip(backbone.taps, made.taps, own, strict=True):
        np.testing.assert_allclose(mine, rows_of(tap, its), rtol=1e-4, atol=1e-5)
    logits = module(torch.from_numpy(IMAGES)).detach().numpy()
    np.testing.assert_allclose(made.base_logits, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mask", [None, "attention_mask", "src_key_padding_mask"])
def test_a_transformer(batch_first: bool, mask: str | None) -> None:
    module = Encoder(batch_first=batch_first)
    given: dict[str, Any] = {"ids": TOKENS}
    if mask is not None:
        given[mask] = PADDED if mask == "attention_mask" else 1 - PADDED
    backbone = s2.TorchBackbone(module, batch_size=4)
    x = backbone.check(given)
    made = backbone.forward(x)
    layers = [
        f"encoder.layers.{n}.{m}" for n in (0, 1) for m in ("self_attn", "linear1", "linear2")
    ]
    assert names(backbone) == [*layers, "head"]
    assert [tap.kind for tap in backbone.taps] == ["sequence"] * 6 + ["vector"]
    assert backbone.tap_widths == (16, 16, 24, 16, 16, 24, 8)
    assert torch.backends.mha.get_fastpath_enabled()
    padding = None if mask is None else torch.from_numpy(PADDED == 0)
    torch.backends.mha.set_fastpath_enabled(False)
    own = inputs_of(
        module.eval(), torch.from_numpy(TOKENS), src_key_padding_mask=padding, layers=layers
    )
    torch.backends.mha.set_fastpath_enabled(True)
    weights = None if mask is None else PADDED.astype(np.float32)
    for tap, mine, its in zip(backbone.taps, made.taps, own, strict=False):
        values = its if batch_first else its.swapaxes(0, 1)
        np.testing.assert_allclose(mine, rows_of(tap, values, weights), rtol=1e-4, atol=1e-5)


def test_another_length_of_sequence() -> None:
    backbone = s2.TorchBackbone(Encoder(), example=TOKENS)
    short = backbone.forward(backbone.check(TOKENS[:, :3]))
    assert [tap.shape[1] for tap in short.taps] == list(backbone.tap_widths)


def test_layers_that_read_one_tensor_share_a_tap() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))
            self.out, self.head, self.second = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            h = (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ self.v(x)
            pooled = self.out(h).mean(1)
            return self.head(pooled) + self.second(pooled)

    x = np.random.default_rng(0).normal(size=(3, 5, 4))
    backbone = s2.TorchBackbone(Attention(), example=x)
    assert names(backbone) == ["q", "out", "head"]
    assert names(backbone.with_taps(["v", "second"])) == ["q", "head"]
    assert names(backbone.with_taps("[kv]")) == ["q"]


def test_each_call_of_a_shared_layer_is_a_layer(refused: Refused) -> None:
    module = Shared()
    backbone = s2.TorchBackbone(module, example=vectors())
    assert names(backbone) == ["block", "block@2", "block@3", "head"]
    x, made = torch.from_numpy(vectors()), backbone.forward(vectors())
    for tap in made.taps:
        np.testing.assert_allclose(tap, x.detach().numpy(), rtol=1e-4, atol=1e-5)
        x = torch.tanh(module.block(x))
    third = backbone.with_taps("block@3").forward(vectors()).taps
    assert [tap.tobytes() for tap in third] == [made.taps[2].tobytes()]
    module.calls = 2
    message = refused(ModelError, backbone.forward, vectors())
    assert "Shared did not call layer block@3 for samples 0 to 3, expected the same" in message
    assert hooks_of(module) == 0


def test_what_does_not_read_the_samples_is_no_layer() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions, self.head = nn.Linear(2, 5), nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            return self.head(x + self.positions(torch.ones(2, 2)).mean(0))

    assert names(s2.TorchBackbone(Positions(), example=vectors())) == ["head"]


@pytest.mark.parametrize(
    ("taps", "kept"),
    [(None, 16), (3, 3), ("*", 40), (["0", -1], 2), ("3?", 10)],
)  # fmt: skip
def test_choosing_taps(taps: Any, kept: int) -> None:
    module = nn.Sequential(*(nn.Linear(5, 5) for _ in range(40)))
    backbone = s2.TorchBackbone(module, taps=taps, example=vectors())
    assert len(backbone.taps) == len(backbone.forward(vectors()).taps) == kept
    assert len(backbone.layers) == 40
    if taps != "3?":
        assert (names(backbone)[0], names(backbone)[-1]) == ("0", "39")


def test_the_last_layer_is_the_last_tap() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(5, 3), nn.Linear(3, 3), nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            return self.b(self.a(x)) + self.last(x)

    backbone = s2.TorchBackbone(Skips(), example=vectors())
    assert names(backbone) == ["b", "a"]  # a reads what the last one reads
    assert names(backbone.with_taps("last")) == ["a"]


@pytest.mark.parametrize(
    "module",
    [nn.ReLU(), nn.Sequential(nn.LayerNorm((2, 5)), nn.Dropout()), nn.Embedding(4, 3)],
    ids=["ReLU", "norms", "table"],
)
def test_no_weights(module: nn.Module, refused: Refused) -> None:
    message = refused(ModelError, s2.TorchBackbone, module)
    assert f"{type(module).__name__} has no module that holds weights, expected layers" in message


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("how", ["exported", "traced"])
def test_graphs(how: str, refused: Refused) -> None:
    example = torch.zeros(2, 5)
    if how == "exported":
        graph = torch.export.export(mlp_like(), (example,)).module()
    else:
        graph = torch.jit.trace(mlp_like(), example)
    message = refused(ModelError, s2.TorchBackbone, graph, example=vectors())
    assert f"{type(graph).__name__} is {'an exported' if how == 'exported' else 'TorchScript'}" in (
        message
    )


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda y: y[:, :, None, None], "gave torch.float32 of shape (3, 3, 1, 1) for 3 samples"),
        (lambda y: y.sum(0), "gave 1 outputs for 3 samples and 0 for 1, expected"),
        (lambda y: y[:1], "gave torch.float32 of shape (1, 3) for 3 samples"),
        (lambda y: {"hidden": 1}, "gave dict without logits, expected a tensor (samples, outputs)"),
        (lambda y: (), "gave tuple without logits"),
        (lambda y: None, "gave NoneType without logits"),
        (lambda y: y @ y.new_ones(3, len(y)), "gave 3 outputs for 3 samples and 1 for 1, expected"),
    ],
    ids=["4-d", "not a sample", "one of two", "dict", "tuple", "nothing", "square"],
)
def test_what_is_no_logits(function: Any, said: str, refused: Refused) -> None:
    module = Returns(function)
    for call in (s2.TorchBackbone(module).check, s2.TorchBackbone(module).logits):
        message = refused(ModelError, call, vectors())
        assert f"Returns {said}" in message
        assert ": " in message
    assert hooks_of(module) == 0


class Counting(nn.Module):
    """A layer that adds how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(5, 3), 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.layer(x) + self.calls


@pytest.mark.parametrize(
    "make", [Counting, lambda: Returns(lambda y: y + torch.randn_like(y))], ids=["state", "chance"]
)
def test_state_and_chance(make: Callable[[], Any], refused: Refused) -> None:
    message = refused(ModelError, s2.TorchBackbone(make()).check, vectors())
    assert (
        "apart for the same sample, expected the same each time, as samples are cached" in message
    )
    assert "take out what is random or kept between calls" in message


def test_a_softmax_inside_stays() -> None:
    module = nn.Sequential(nn.Linear(5, 4), nn.Softmax(dim=1), nn.Linear(4, 3))
    expected = module(torch.from_numpy(vectors())).detach().numpy()
    np.testing.assert_allclose(s2.TorchBackbone(module).logits(vectors()), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda y: SimpleNamespace(loss=None, logits=y),
        lambda y: {"logits": y, "hidden": y * 2},
        lambda y: (y, y * 2),
        lambda y: y,
    ],
    ids=["object", "mapping", "tuple", "tensor"],
)
def test_where_logits_are_found(function: Any) -> None:
    module = Returns(function)
    expected = module.layer(torch.from_numpy(vectors())).detach().numpy()
    np.testing.assert_allclose(s2.TorchBackbone(module).logits(vectors()), expected, rtol=1e-5)


def test_an_output_called_logits_is_taken_before_that_of_a_layer() -> None:
    module = Returns(lambda y: {"hidden": y, "logits": y * 2})
    layer = module.layer(torch.from_numpy(vectors())).detach().numpy()
    np.testing.assert_allclose(s2.TorchBackbone(module).logits(vectors()), 2 * layer, rtol=1e-5)


def test_one_number_a_sample() -> None:
    backbone = s2.TorchBackbone(Returns(lambda y: y[:, 0]), example=vectors())
    assert backbone.n_outputs == 1
    assert backbone.logits(vectors()).shape == (4, 1)


def test_a_module_that_takes_one_sample_alone(refused: Refused) -> None:
    """Where three at a time fail and one does not, samples run one by one."""
    module = Returns(lambda y: y.reshape(1, 3))
    backbone = s2.TorchBackbone(module, example=vectors()[:1])
    assert backbone.batch_size == 1
    whole, alone = backbone.forward(vectors()), backbone.forward(vectors()[2:3])
    np.testing.assert_array_equal(whole.base_logits[2:3], alone.base_logits)
    squeezed = s2.TorchBackbone(Returns(lambda y: y.squeeze(0)))
    assert "is their axis squeezed" in refused(ModelError, squeezed.check, vectors())


@pytest.mark.parametrize("kind", ["numbers", "ones", "zeros", "tokens"])
def test_any_example_tells_where_samples_are(kind: str) -> None:
    """Samples of one number everywhere are made different first."""

    class Folds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.last = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            tokens = x if x.is_floating_point() else self.table(x)
            return self.last(tokens.transpose(0, 1).reshape(-1, 4)).reshape(5, -1, 3).mean(0)

    example = {
        "numbers": np.arange(20.0).reshape(1, 5, 4),
        "ones": np.ones((1, 5, 4)), "zeros": np.zeros((1, 5, 4)), "tokens": np.ones((1, 5), int),
    }[kind]  # fmt: skip
    backbone = s2.TorchBackbone(Folds(), example=example)
    assert [place.layout for place in backbone._places] == [Layout(0, 5, 1)]
