"""One suite for every backbone: what the rest of the program may rely on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from conformance.onnx_networks import onnx_backbone
from conformance.torch_networks import backbone_of_mlp
from skip2lora.backbones.recipe import PAPER
from skip2lora.errors import DataError, ModelError, ParameterError
from skip2lora.training.jobs import CheckedSamples
from skip2lora.training.loop import train
from skip2lora.training.options import resolve_options

WIDTHS = [9, 16, 5, 3]
SKIP_METHODS = ("skip2-lora", "skip-lora", "lora-last")
BACKBONES: dict[str, Callable[..., Any]] = {
    "MLP": lambda make, **seed: make(WIDTHS, **seed),
    "MLP without batch norm": lambda make, **seed: make(WIDTHS, batch_norm=False, **seed),
    "NumPy": lambda _, **seed: NumpyBackbone(WIDTHS, first_tap_is_input=True, **seed),
    "NumPy, all taps its own": lambda _, **seed: NumpyBackbone(
        WIDTHS, first_tap_is_input=False, **seed
    ),
    "PyTorch": lambda make, **seed: backbone_of_mlp(make(WIDTHS, **seed)),
    "LiteRT": lambda _, **seed: litert_backbone(**seed),
    "LiteRT, 8 bits": lambda _, **seed: litert_backbone(integers="int8", **seed),
    "OpenVINO": lambda _, **seed: openvino_backbone(**seed),
    "OpenVINO, batch of 1": lambda _, **seed: openvino_backbone(batch=1, **seed),
    "OpenVINO, 8 bits": lambda _, **seed: openvino_backbone(quantised=True, **seed),
    "ONNX": lambda _, **seed: onnx_backbone(WIDTHS, **seed),
    "ONNX, prepared": lambda _, **seed: onnx_backbone(WIDTHS, prepared=True, **seed),
    "ONNX, batch of 1": lambda _, **seed: onnx_backbone(WIDTHS, batch=1, **seed),
}
Samples = tuple[np.ndarray, np.ndarray]
Refused = Callable[..., str]


def litert_backbone(seed: int = 0, **options: Any) -> Any:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")
    from tflite_models import mlp

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(mlp(WIDTHS, seed, **options).content())
        return s2.load(path)


def openvino_backbone(**options: Any) -> Any:
    from openvino_models import loader, mlp

    with tempfile.TemporaryDirectory() as folder:
        return loader(Path(folder))(mlp(WIDTHS, shift=0.1, **options))


@pytest.fixture(params=BACKBONES)
def make_backbone(request: pytest.FixtureRequest, make_model: Any) -> Callable[..., Any]:
    return lambda **seed: BACKBONES[request.param](make_model, **seed)


@pytest.fixture
def backbone(make_backbone: Callable[..., Any]) -> Any:
    return make_backbone()


@pytest.fixture
def samples(make_samples: Any) -> Samples:
    return make_samples(60, 9)


def tensor_bytes(adapted: s2.AdaptedModel) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in adapted.adapters.tensors().items()}


def assert_same(backbone: Any, one: np.ndarray, other: np.ndarray) -> None:
    """The same bits; nearly so in a runtime whose matrix product depends on the batch's size."""
    if type(backbone).__name__ in ("MLP", "NumpyBackbone", "LiteRTBackbone", "OpenVINOBackbone"):
        assert one.tobytes() == other.tobytes()
    else:
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


# --- the protocol ---------------------------------------------------------------------------


def test_protocol(backbone: Any) -> None:
    assert isinstance(backbone, s2.Backbone)
    assert not isinstance(object(), s2.Backbone)


def test_its_repr_is_one_short_line(backbone: Any) -> None:
    assert repr(backbone).startswith(f"{type(backbone).__name__}(")
    assert len(repr(backbone)) < 80
    assert "\n" not in repr(backbone)
    assert "9-16-5-3" in repr(backbone) or "3 taps, 3 outputs" in repr(backbone)


@pytest.mark.parametrize("n_samples", [1, 2, 64, 65, 300])
def test_shapes_are_as_announced(backbone: Any, n_samples: int, make_samples: Any) -> None:
    x, _ = make_samples(n_samples, 9)
    made = backbone.forward(x)
    assert isinstance(made, s2.Taps)
    assert [tap.shape for tap in made.taps] == [(n_samples, w) for w in backbone.tap_widths]
    assert made.base_logits.shape == (n_samples, backbone.n_outputs)
    assert {array.dtype for array in (*made.taps, made.base_logits)} == {np.dtype(np.float32)}


def test_first_tap(backbone: Any, samples: Samples) -> None:
    x, _ = samples
    same = np.array_equal(backbone.forward(x).taps[0], x)
    if isinstance(backbone, s2.MLP | NumpyBackbone):
        assert same == backbone.first_tap_is_input
    assert same or not backbone.first_tap_is_input


def test_forward_is_pure(backbone: Any, samples: Samples) -> None:
    x, _ = samples
    kept, fingerprint = x.copy(), backbone.fingerprint
    one, again = backbone.forward(x), backbone.forward(x)
    assert x.tobytes() == kept.tobytes()
    for first, second in zip(
        (*one.taps, one.base_logits), (*again.taps, again.base_logits), strict=True
    ):
        assert first.tobytes() == second.tobytes()
    assert backbone.fingerprint == fingerprint


def test_a_row_does_not_depend_on_its_batch(backbone: Any, samples: Samples) -> None:
    x, _ = samples
    whole = backbone.forward(x)
    for at in (0, 17, 59):
        alone = backbone.forward(x[at : at + 1])
        for one, all_rows in zip(
            (*alone.taps, alone.base_logits), (*whole.taps, whole.base_logits), strict=True
        ):
            assert_same(backbone, one[0], all_rows[at])


def test_fingerprint(make_backbone: Callable[..., Any]) -> None:
    assert make_backbone().fingerprint == make_backbone().fingerprint
    assert make_backbone().fingerprint != make_backbone(seed=1).fingerprint


# --- adapt ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SKIP_METHODS)
def test_adapting_helps(backbone: Any, method: str, samples: Samples) -> None:
    x, y = samples
    before = (backbone.forward(x).base_logits.argmax(axis=1) == y).mean()
    adapted = s2.adapt(backbone, x, y, method=method, epochs=200, learning_rate=0.05)
    assert before < 0.6
    assert adapted.score(x, y) > (before + 0.1 if method == "lora-last" else 0.85)
    assert adapted.history is not None
    assert adapted.history.loss[-1] < 0.9 * adapted.history.loss[0]
    assert adapted.history.accuracy[-1] == pytest.approx(adapted.score(x, y), abs=0.1)


def test_predictions_agree_with_the_logits(backbone: Any, samples: Samples) -> None:
    x, y = samples
    adapted = s2.adapt(backbone, x, y, epochs=5)
    logits = adapted.logits(x)
    assert logits.shape == (60, 3)
    assert adapted.n_outputs == 3
    assert adapted.predict(x).tolist() == logits.argmax(axis=1).tolist()
    odds = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(
        adapted.predict_proba(x), odds / odds.sum(axis=1, keepdims=True), rtol=1e-5
    )
    assert adapted.score(x, y) == (adapted.predict(x) == y).mean()


@pytest.mark.parametrize("method", SKIP_METHODS)
def test_save_and_load(
    make_backbone: Callable[..., Any], method: str, samples: Samples, tmp_path: Path,
    refused: Refused,
) -> None:  # fmt: skip
    x, y = samples
    adapted = s2.adapt(make_backbone(), x, y, method=method, epochs=3)
    adapted.save(tmp_path / "a")
    back = s2.AdaptedModel.load(make_backbone(), tmp_path / "a")
    assert tensor_bytes(back) == tensor_bytes(adapted)
    assert back.logits(x).tobytes() == adapted.logits(x).tobytes()
    other = make_backbone(seed=1)
    message = refused(ModelError, s2.AdaptedModel.load, other, tmp_path / "a")
    assert "was made for the model sha256:" in message


@pytest.mark.parametrize(
    ("capacity", "policy"),
    [(0, "pin"), (1, "pin"), (20, "pin"), (60, "pin"), (3, "fifo"), (20, "lru"), (60, "lru")],
)
def test_any_cache_gives_the_same_bits(
    backbone: Any, capacity: int, policy: str, samples: Samples
) -> None:
    x, y = samples
    options = [
        resolve_options(
            PAPER, backbone.tap_widths, 60, rank=2, epochs=3, batch_size=7, learning_rate=0.1,
            seed=1, cache_samples=size, cache_policy=policy,
        )
        for size in (capacity, 60)
    ]  # fmt: skip
    part = CheckedSamples(x, y.astype(np.int32))
    trained = [train(backbone, part, each) for each in options]
    one, other = (each.adapters.tensors() for each in trained)
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert_same(backbone, array, other[name])
    assert_same(backbone, *(np.array(each.history.loss) for each in trained))
    use = trained[0].history.cache
    assert trained[0].history.n_forwards == use.misses == 3 * 60 - use.hits
    if policy == "pin":
        assert use.hits == 2 * capacity


# --- a backbone of another runtime ----------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["input is a tap", "input is none"])
def other(request: pytest.FixtureRequest) -> NumpyBackbone:
    return NumpyBackbone(WIDTHS, first_tap_is_input=request.param)


def test_each_sample_is_computed_once(other: NumpyBackbone, samples: Samples) -> None:
    x, y = samples
    adapted = s2.adapt(other, x, y, epochs=50, batch_size=7)
    assert other.n_forwards == 60
    assert max(other.batches) <= 7
    assert adapted.history is not None
    assert adapted.history.n_forwards == 60
    s2.adapt(other, x, y, method="skip-lora", epochs=50, batch_size=7)
    assert other.n_forwards == 60 + 50 * 60


def test_training_reads_what_the_backbone_gave(make_model: Any, samples: Samples) -> None:
    """The same network as a backbone in the core and as one in Python: the same adapters."""
    x, y = samples
    model = make_model(WIDTHS)

    class Wrapped(s2.Backbone):
        recipe, tap_widths, n_outputs = model.recipe, model.tap_widths, model.n_outputs
        first_tap_is_input, fingerprint = model.first_tap_is_input, model.fingerprint
        forward = staticmethod(model.forward)

    for method in SKIP_METHODS:
        options = {"method": method, "epochs": 3, "batch_size": 7}
        one, other = (s2.adapt(each, x, y, **options) for each in (model, Wrapped()))
        assert tensor_bytes(one) == tensor_bytes(other)
        assert one.history == other.history
        assert one.logits(x).tobytes() == other.logits(x).tobytes()


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("runtime failed"), KeyboardInterrupt(), SystemExit(3)],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("after", [0, 3])
def test_errors_of_forward_pass_through(
    other: NumpyBackbone, error: BaseException, after: int, samples: Samples
) -> None:
    forward = other.forward

    def fails(x: np.ndarray) -> s2.Taps:
        if len(other.batches) == after:
            raise error
        return forward(x)

    other.forward = fails  # type: ignore[method-assign]
    with pytest.raises(type(error)) as caught:
        s2.adapt(other, *samples, batch_size=7)
    assert caught.value is error
    other.forward = forward  # type: ignore[method-assign]
    assert s2.adapt(other, *samples, epochs=1).history is not None


def broken(made: s2.Taps, how: str) -> s2.Taps:
    taps, logits = list(made.taps), made.base_logits
    if how == "one tap less":
        taps.pop()
    elif how == "one tap more":
        taps.append(taps[-1])
    elif how == "narrow tap":
        taps[1] = taps[1][:, :-1]
    elif how == "wide first tap":
        taps[0] = np.pad(taps[0], ((0, 0), (0, 1)))
    elif how == "rows missing":
        taps = [tap[1:] for tap in taps]
    elif how == "narrow logits":
        logits = logits[:, :1]
    elif how == "logits of one sample":
        logits = logits[:1]
    elif how == "flat logits":
        logits = logits.ravel()
    return s2.Taps(tuple(taps), logits)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("one tap less", "the model gave 2 taps, expected 3"),
        ("one tap more", "the model gave 4 taps, expected 3"),
        ("narrow tap", "tap 1 has shape (7, 15), expected (7, 16)"),
        ("wide first tap", "tap 0 has shape (7, "),
        ("rows missing", "tap 0 has shape (6, "),
        ("narrow logits", "base_logits has shape (7, 1), expected (7, 3)"),
        ("logits of one sample", "base_logits has shape (1, 3), expected (7, 3)"),
        ("flat logits", "base_logits has shape (21,), expected (7, 3)"),
    ],
)
def test_wrong_shapes(
    other: NumpyBackbone, how: str, said: str, samples: Samples, refused: Refused
) -> None:
    x, y = samples
    adapted = s2.adapt(other, x, y, epochs=1)
    forward = other.forward
    other.forward = lambda x: broken(forward(x), how)  # type: ignore[method-assign]
    assert said in refused(ModelError, s2.adapt, other, x, y, batch_size=7)
    assert said in refused(ModelError, adapted.predict, x[:7])


def test_methods_that_need_a_backward_pass(
    other: NumpyBackbone, samples: Samples, refused: Refused
) -> None:
    message = refused(ParameterError, s2.adapt, other, *samples, method="lora-all")
    assert "lora-all needs a backward pass through the network" in message
    assert "NumpyBackbone does not have: use skip2-lora" in message
    assert other.n_forwards == 0


def test_width_of_a_sample(backbone: Any, samples: Samples, refused: Refused) -> None:
    """Where the first tap is the sample the width is known; else it is the backbone's to check."""
    x, y = samples
    narrow = x[:, :-1]
    if not backbone.first_tap_is_input:
        with pytest.raises((AssertionError, DataError)):  # the backbone's own error, unchanged
            s2.adapt(backbone, narrow, y)
        return
    adapted = s2.adapt(backbone, x, y, epochs=1)
    said = "X has 8 columns, the model expects 9: pass the features the model was trained on"
    assert said in refused(DataError, s2.adapt, backbone, narrow, y)
    for call in (adapted.predict, adapted.predict_proba, adapted.logits):
        assert said in refused(DataError, call, narrow)
    assert said in refused(DataError, adapted.score, narrow, y)
