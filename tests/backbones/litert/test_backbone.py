"""Models as ``.tflite``: taps, logits, outputs and what is kept with an adapter."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones.taps import rows_of
from skip2lora.errors import ParameterError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")

import sys

from skip2lora.backbones.litert.backbone import LiteRTBackbone
from skip2lora.backbones.litert.runner import together
from skip2lora.errors import FileError, MissingExtraError, ModelError
from tflite_models import File, Load, Network, cnn, mlp

Refused = Callable[..., str]
KINDS: dict[str, Callable[..., Network]] = {"mlp": lambda **o: mlp([9, 16, 5, 3], **o), "cnn": cnn}


def samples_of(network: Network, n_samples: int = 40) -> np.ndarray:
    """Of the same source as those the integer models are scaled by."""
    return np.random.default_rng(5).normal(size=(n_samples, *network.shape)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["SOFTMAX", "LOGISTIC", "ARG_MAX", ""])
def test_taps_and_logits(kind: str, end: str, load: Load) -> None:
    network = KINDS[kind](end=end)
    model, x = load(network.content()), samples_of(network)
    taps, logits = network.taps(x)
    made = model.forward(model.check(x))
    assert len(made.taps) == len(taps) == 3
    for tap, got, want in zip(model.taps, made.taps, taps, strict=True):
        np.testing.assert_allclose(got, rows_of(tap, want), rtol=0, atol=2e-6 * np.abs(want).max())
    np.testing.assert_allclose(made.base_logits, logits, rtol=0, atol=1e-5)
    assert model.logits(x).tobytes() == made.base_logits.tobytes()
    assert model.predict(x).shape == ((40, 3) if end == "LOGISTIC" else (40,))
    assert model.task == ("multi-label" if end == "LOGISTIC" else "classification")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("integers", "per_channel"), [("int8", False), ("int8", True), ("uint8", False)]
)
def test_integers(kind: str, integers: str, per_channel: bool, load: Load) -> None:
    """Taps and logits are real numbers, as close to the real network as 8 bits are."""
    network = KINDS[kind](integers=integers, per_channel=per_channel)
    model, x = load(network.content()), samples_of(network)
    taps, logits = network.taps(x)
    checked = model.check(x)
    assert checked.dtype == integers
    made = model.forward(checked)
    for tap, got, want in zip(model.taps, made.taps, taps, strict=True):
        np.testing.assert_allclose(got, rows_of(tap, want), rtol=0, atol=0.03 * np.abs(want).max())
    np.testing.assert_allclose(made.base_logits, logits, rtol=0, atol=0.04 * np.abs(logits).max())
    again = model.forward(x)  # real numbers are quantised on the way too
    assert again.base_logits.tobytes() == made.base_logits.tobytes()
    assert model.check(checked) is checked  # integers of the model's own type are as they are


def shared(path_names: tuple[str, ...] = ("q", "k", "v")) -> bytes:
    """Three layers that read one tensor, their sum, and a last layer."""
    file = File()
    random = np.random.default_rng(0)
    x = at = file.tensor("x", (1, 4))
    bias = file.constant("b", np.zeros(4, np.float32))
    made = []
    for name in path_names:
        weight = file.constant(f"w{name}", random.normal(size=(4, 4)).astype(np.float32))
        made.append(file.tensor(name, (1, 4)))
        file.operator("FULLY_CONNECTED", [x, weight, bias], [made[-1]])
    at = made[0]
    for number, other in enumerate(made[1:]):
        total = file.tensor(f"sum{number}", (1, 4))
        file.operator("ADD", [at, other], [total])
        at = total
    weight = file.constant("wo", random.normal(size=(4, 4)).astype(np.float32))
    unused, y = file.tensor("unused", (1, 4)), file.tensor("y", (1, 4))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [unused])
    file.operator("FULLY_CONNECTED", [at, weight, bias], [y])
    return file.pack([x], [y, unused])


def test_each_tensor_once(load: Load) -> None:
    model = load(shared(), output="y")
    assert [(tap.layer, tap.tensor) for tap in model.taps] == [("q", "x"), ("y", "sum1")]


def test_which_output(load: Load, refused: Refused) -> None:
    model = load(shared(), output="y")
    assert (model.output, len(model.layers)) == ("y", 2)
    other = load(shared(), output="unused")
    assert [tap.layer for tap in other.layers] == ["unused"]  # what does not lead there is no layer
    assert load(shared(), output=1).output == "unused"
    assert (
        model.with_output(1).logits(np.ones((2, 4))).tolist()
        == other.logits(np.ones((2, 4))).tolist()
    )
    assert "y 4 (logits), unused 4 (logits), of which" in refused(ParameterError, load, shared())
    message = refused(ParameterError, load, shared(), output="z")
    assert "output is 'z' for " in message
    assert "expected a name or number from 0 of y, unused: choose" in message


def test_choosing_taps(load: Load, refused: Refused) -> None:
    network = cnn()
    model, x = load(network.content()), samples_of(network, 6)
    names = [tap.layer for tap in model.layers]
    assert names == ["layer0", "layer1", "layer4"]
    every = model.forward(x)
    chosen = model.with_taps(["layer4", 0])
    assert [tap.layer for tap in chosen.taps] == ["layer0", "layer4"]
    assert chosen.fingerprint == model.fingerprint
    made = chosen.forward(x)
    for one, other in zip(made.taps, (every.taps[0], every.taps[2]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [tap.layer for tap in load(network.content(), taps=1).taps] == ["layer4"]
    message = refused(ParameterError, load, network.content(), taps="layr4")
    assert 'taps has "layr4", which fits no layer, expected names or patterns such as' in message
    assert "layer4" in message
    assert load(network.content(), grid=2).tap_widths == (8, 24, 24)


def test_loading_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(cnn().content())
    model = s2.load(path, taps="layer1")
    assert isinstance(model, LiteRTBackbone)
    assert [tap.layer for tap in model.taps] == ["layer1"]


def test_pickle_and_fingerprint(load: Load) -> None:
    network = cnn()
    model, x = load(network.content(), taps=2), samples_of(network, 4)
    before = model.forward(x)
    other = pickle.loads(pickle.dumps(model))  # noqa: S301  - our own bytes
    assert other.fingerprint == model.fingerprint
    assert other.forward(x).taps[0].tobytes() == before.taps[0].tobytes()
    assert load(cnn(seed=1).content()).fingerprint != model.fingerprint


def test_adapter_keeps_its_taps(load: Load, tmp_path: Path) -> None:
    network = cnn()
    x = samples_of(network, 60)
    y = (x.mean(axis=(1, 2, 3)) > 0).astype(int)
    model = load(network.content(), taps=["layer1", "layer4"])
    adapted = s2.adapt(model, x, y)
    adapted.save(tmp_path / "adapter")
    back = s2.AdaptedModel.load(load(network.content()), tmp_path / "adapter")
    assert back.logits(x).tobytes() == adapted.logits(x).tobytes()


def test_shapes_that_are_not_in_the_file(load: Load) -> None:
    file = File()
    x, y, z = file.tensor("x", (1, 4)), file.tensor("y", (1, 1), signature=(-1, -1)), 0
    z = file.tensor("z", (1, 2))
    bias = file.constant("b", np.zeros(2, np.float32))
    weight = file.constant("w", np.array([[1, 0, 0, 0], [0, 0, 0, 1]], np.float32))
    scale = file.constant("s", np.ones((1, 4), np.float32))
    file.operator("ADD", [x, scale], [y])
    file.operator("FULLY_CONNECTED", [y, weight, bias], [z])
    model = load(file.pack([x], [z]))
    assert model.tap_widths == (4,)
    made = model.forward(model.check([[1, 2, 3, 4]]))
    assert made.taps[0].tolist() == [[2, 3, 4, 5]]
    assert made.base_logits.tolist() == [[2, 5]]


def test_batch_axis_that_changes(load: Load) -> None:
    """A batch of any size in the file runs one by one."""
    file = File()
    x, y = file.tensor("x", (1, 2), signature=(-1, 2)), file.tensor("y", (1, 2), signature=(-1, 2))
    bias = file.constant("b", np.zeros(2, np.float32))
    weight = file.constant("w", np.eye(2, dtype=np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    model = load(file.pack([x], [y]))
    assert model.logits([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]


def test_no_weights(load: Load, refused: Refused) -> None:
    file = File()
    x, y = file.tensor("x", (1, 3)), file.tensor("y", (1, 3))
    file.operator("TANH", [x], [y])
    message = refused(ModelError, load, file.pack([x], [y]))
    assert "has no layer with weights on the way to y, expected FULLY_CONNECTED" in message


def test_a_model_of_maps_learns_outputs_of_its_own(load: Load) -> None:
    network = cnn(end="")
    network.layers = network.layers[:1]
    model = load(network.content())
    assert (model.n_outputs, model.output, len(model.outputs)) == (0, None, 1)
    x = samples_of(network, 9)
    adapted = s2.adapt(model, x, np.arange(9) % 3, keep_outputs=False, epochs=2)
    assert adapted.logits(x).shape == (9, 3)


def test_options_and_paths(load: Load, tmp_path: Path, refused: Refused) -> None:
    content = cnn().content()
    for options in ({"grid": 0}, {"grid": 1.5}, {"threads": 0}, {"threads": True}):
        (name,) = options
        assert f"{name} is {options[name]!r}, expected a whole number from 1" in refused(
            ParameterError, load, content, **options
        )
    assert "does not exist" in refused(FileError, s2.load, tmp_path / "none.tflite")
    (tmp_path / "folder.tflite").mkdir()
    refused(FileError, LiteRTBackbone.load, tmp_path / "folder.tflite")
    assert "is no .tflite model, expected TFL3" in refused(ModelError, load, b"PK" + bytes(100))


def test_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(cnn().content())
    monkeypatch.delitem(sys.modules, "skip2lora.backbones.litert.file")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    message = refused(MissingExtraError, s2.load, path)
    assert "needs ai-edge-litert: pip install 'skip2lora[litert]'" in message


@pytest.mark.parametrize("meaning", ["tokens", "padding"])
@pytest.mark.parametrize("ones", [0, 2])
def test_rows_of_a_mask(meaning: str, ones: int, load: Load) -> None:
    """Found by running: tokens (1, 4, 3), averaged by a mask of real numbers."""
    file = File()
    x, mask = file.tensor("x", (1, 4, 3)), file.tensor("m", (1, *[1] * ones, 4))
    names = {"hidden": (1, 4, 2), "row": (1, 1, 4), "mean": (1, 1, 2), "y": (1, 2)}
    hidden, row, mean, y = (file.tensor(name, shape) for name, shape in names.items())
    weight = file.constant("w", np.array([[1, 0], [0, 1], [1, 1]], np.float32))
    head, bias = (file.constant(n, np.ones(s, "f")) for n, s in (("h", (2, 2)), ("b", 2)))
    shape = file.constant("shape", np.array([1, 1, 4], np.int32))
    file.operator("BATCH_MATMUL", [x, weight], [hidden])
    file.operator("RESHAPE", [mask, shape], [row])
    if meaning == "padding":
        one, kept = file.constant("one", np.ones((1, 1, 4), "f")), file.tensor("k", (1, 1, 4))
        file.operator("SUB", [one, row], [kept])
        row = kept
    file.operator("BATCH_MATMUL", [row, hidden], [mean])
    file.operator("FULLY_CONNECTED", [mean, head, bias], [y])
    model = load(file.pack([x, mask], [y]))
    assert model.mask == f"m={meaning}"
    samples = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    counts = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], np.float32)
    given = counts if meaning == "tokens" else 1 - counts
    given = given.reshape(2, *[1] * ones, 4)
    rows = model.forward(model.check({"x": samples, "m": given})).taps[0]
    np.testing.assert_allclose(rows[0, :3], samples[0, :2].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(rows[1, :3], samples[1].mean(axis=0), rtol=1e-5)
    other = model.with_mask("none")
    rows = other.forward(other.check({"x": samples, "m": given})).taps[0]
    np.testing.assert_allclose(rows[0, :3], samples[0].mean(axis=0), rtol=1e-5)


def test_what_is_kept_between_calls_is_refused(
    load: Load, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    """Whatever keeps it: the first sample runs again after another."""
    model = mlp([9, 5, 3], 0).content()
    load(model)
    calls, original = [0], LiteRTBackbone.forward

    def forward(self: LiteRTBackbone, x: Any) -> Any:
        calls[0] += 1
        rows = original(self, x)
        return replace(rows, base_logits=rows.base_logits + calls[0])

    monkeypatch.setattr(LiteRTBackbone, "forward", forward)
    assert "keeps something from call to call" in refused(ModelError, load, model)
    assert calls == [3]


def mixing(kind: str | None, batch: int = -1) -> bytes:
    """A layer, what joins its numbers with their mean over the samples, if any, and a layer."""
    file, random = File(), np.random.default_rng(0)
    names = ("x", "hidden", "mean", "mixed", "y")
    x, hidden, mean, mixed, y = (file.tensor(name, (1, 3), signature=(batch, 3)) for name in names)
    bias = file.constant("b", np.ones(3, np.float32))
    for number, (read, made) in enumerate(((x, hidden), (mixed if kind else hidden, y))):
        weight = file.constant(f"w{number}", random.normal(size=(3, 3)).astype(np.float32))
        file.operator("FULLY_CONNECTED", [read, weight, bias], [made])
    axis = file.constant("axis", np.zeros(1, np.int32))
    file.operator("MEAN", [hidden, axis], [mean], keepDims=True)
    if kind:
        file.operator(kind, [hidden, mean], [mixed])
    return file.pack([x], [y])


def test_what_is_constant_without_the_other_samples_is_refused(
    load: Load, refused: Refused
) -> None:
    assert "mixes the samples of a batch" in refused(ModelError, load, mixing("SUB"))


def test_other_logits_in_a_batch_are_said(load: Load) -> None:
    """Samples run one by one, which is all that is needed where they do so elsewhere too."""
    with pytest.warns(UserWarning, match="one by one, as in a batch of several their logits"):
        model = load(mixing("ADD"))
    [note] = model.notes
    assert "change by" in note
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    alone = np.concatenate([model.logits(x[at : at + 1]) for at in range(4)])
    np.testing.assert_array_equal(model.logits(x), alone)
    assert load(mixing("ADD", batch=1)).notes == ()  # the file itself is for one
    assert model.with_taps(1).notes == (note,)


def test_the_same_alone_and_in_a_batch(load: Load) -> None:
    model = load(mixing(None))
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    assert model.notes == ()
    values = together(model, [x])
    assert values is not None
    np.testing.assert_allclose(values, model.logits(x), atol=1e-6)
    assert together(load(mixing(None, batch=1)), [x]) is None


OPTIONS: list[dict[str, Any]] = [{}, {"recipe": "paper", "epochs": 2}, {"cache_samples": 0}]


@pytest.mark.parametrize("kind", ["mlp", "cnn", "int8"])
def test_rows_last(kind: str, load: Any, tmp_path: Path) -> None:
    network = mlp([6, 5, 4, 3])
    if kind != "mlp":
        network = cnn(integers="int8" if kind == "int8" else None)
    model = load(network.content())
    x = np.random.default_rng(0).standard_normal((48, *network.shape)).astype(np.float32)
    y, n_forwards = np.arange(48) % 3, 48
    for options in OPTIONS:
        plain = s2.adapt(model, x, y, **options)
        kept = s2.adapt(
            load(network.content()), x, y, cache=s2.CacheFolder(tmp_path / "c"), **options
        )
        assert kept.history is not None
        assert kept.history.n_forwards == n_forwards
        np.testing.assert_array_equal(kept.logits(x), plain.logits(x))
        n_forwards = 0
    with pytest.raises(s2.ModelError, match="are of model"):
        s2.adapt(
            load(mlp([6, 5, 4, 3], seed=1).content()), x.reshape(48, -1)[:, :6], y,
            cache=s2.CacheFolder(tmp_path / "c"),
        )  # fmt: skip
