"""Exported .tflite files: run by the stock interpreter, they give what the adapted model gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

from ai_edge_litert import schema_py_generated as schema

import skip2lora as s2
import tflite_models as nets
from onnx_exports import expected, random_adapters
from skip2lora.backbones.litert.backbone import LiteRTBackbone
from skip2lora.backbones.standins import Bare, Binary, Headless
from skip2lora.errors import FileError, ModelError, ParameterError
from skip2lora.export.tflite import LABELS, export_tflite
from skip2lora.tasks.task import softmax
from skip2lora.tasks.thresholds import Thresholds
from tflite_exports import Stock

Refused = Callable[..., str]
NETWORKS = {
    f"{kind}, {integers or 'float'}, {end or 'logits'}": (kind, integers, end)
    for kind in ("mlp", "cnn")
    for integers in (None, "int8", "uint8")
    for end in ("SOFTMAX", "LOGISTIC", "ARG_MAX", "")
}


def network_of(kind: str, integers: str | None, end: str) -> nets.Network:
    if kind == "mlp":
        return nets.mlp([9, 7, 5, 4], integers=integers, end=end)
    return nets.cnn(integers=integers, end=end)


def samples_of(network: nets.Network, n_samples: int = 12) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(n_samples, *network.shape)).astype(np.float32)


def ended(logits: np.ndarray, end: str) -> np.ndarray:
    if end == "ARG_MAX":
        return logits.argmax(axis=1)[:, None]
    if end == "LOGISTIC":
        return 1 / (1 + np.exp(-logits))
    return softmax(logits) if end == "SOFTMAX" else logits


@pytest.mark.parametrize("new", [0, 2], ids=["", "new classes"])
@pytest.mark.parametrize("name", NETWORKS)
def test_one_file(name: str, new: int, tmp_path: Path) -> None:
    """Outputs as in the base; what follows from logits follows from the adapted ones."""
    kind, integers, end = NETWORKS[name]
    network = network_of(kind, integers, end)
    model, x = nets.loader(tmp_path)(network.content()), samples_of(network)
    adapters = random_adapters(model, new=new)
    out = tmp_path / "adapted.tflite"
    assert export_tflite(model, adapters, out, samples=x) == [out]
    before, after = Stock(tmp_path / "model.tflite"), Stock(out)
    for one, other in zip(before.outputs, after.outputs, strict=True):
        assert (one["name"], one["dtype"], one["index"]) == (
            other["name"], other["dtype"], other["index"],
        )  # fmt: skip
    (got,) = after.run(x).values()
    want = ended(expected(model, adapters, x), end)
    # A step of 1/256 of probabilities; of logits one of their range in 255 steps.
    step = 0 if integers is None or end == "ARG_MAX" else 1 / 256 if end else np.ptp(want) * 2 / 255
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=step + 1e-5)
    if end:
        again = LiteRTBackbone.load(out)  # a model like any other
        np.testing.assert_allclose(again.logits(x), expected(model, adapters, x), rtol=0, atol=1e-5)


def test_first_tap_alone_and_last_alone(tmp_path: Path) -> None:
    network = nets.cnn()
    model, x = nets.loader(tmp_path)(network.content()), samples_of(network)
    for taps, first in ([0], 0), ([-1], 0), (None, 2):
        some = model.with_taps(taps)
        adapters = random_adapters(some, first_tap=first)
        export_tflite(some, adapters, tmp_path / "a.tflite")
        (got,) = Stock(tmp_path / "a.tflite").run(x).values()
        np.testing.assert_allclose(got, softmax(expected(some, adapters, x)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("integers", [None, "int8"])
def test_outputs_learned_anew(integers: str | None, tmp_path: Path) -> None:
    """An output of its own, in place of what the base says of its classes."""
    network = nets.cnn(integers=integers)
    model, x = nets.loader(tmp_path)(network.content()), samples_of(network)
    headless = Headless(model, 5)
    adapters = random_adapters(headless)
    export_tflite(headless, adapters, tmp_path / "a.tflite")
    given = Stock(tmp_path / "a.tflite").run(x)
    assert list(given) == ["logits"]
    np.testing.assert_allclose(given["logits"], expected(headless, adapters, x), atol=1e-5)


def test_outputs_for_another_task(tmp_path: Path) -> None:
    network = nets.cnn()
    model, x = nets.loader(tmp_path)(network.content()), samples_of(network)
    adapters = random_adapters(Bare(model))
    export_tflite(Bare(model), adapters, tmp_path / "a.tflite")
    given = Stock(tmp_path / "a.tflite").run(x)
    assert list(given) == ["logits"]
    np.testing.assert_allclose(given["logits"], expected(model, adapters, x), atol=1e-5)


@pytest.mark.parametrize("integers", [None, "int8"])
def test_one_output_of_two_classes(integers: str | None, tmp_path: Path) -> None:
    """A sigmoid stays one: its logit is that of the second class less that of the first."""
    network = nets.mlp([9, 7, 1], integers=integers, end="LOGISTIC")
    model, x = nets.loader(tmp_path)(network.content()), samples_of(network)
    binary = Binary(model)
    adapters = random_adapters(binary)
    export_tflite(binary, adapters, tmp_path / "a.tflite")
    (got,) = Stock(tmp_path / "a.tflite").run(x).values()
    logits = expected(binary, adapters, x)
    want = 1 / (1 + np.exp(logits[:, :1] - logits[:, 1:]))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 if integers is None else 1 / 256)


def test_integers_that_are_logits_need_samples(tmp_path: Path, refused: Refused) -> None:
    """Their scale would cut adapted logits off: it takes the range of the samples."""
    network = nets.mlp([9, 7, 5, 4], integers="int8", end="")
    model = nets.loader(tmp_path)(network.content())
    out = tmp_path / "a.tflite"
    message = refused(ModelError, export_tflite, model, random_adapters(model), out)
    assert "output layer2 is its logits as int8, expected samples that tell" in message
    assert not out.exists()


def test_threads_and_batches_give_the_same_bits(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    network = nets.cnn()
    model, x = nets.loader(tmp_path)(network.content()), samples_of(network)
    out = tmp_path / "a.tflite"
    export_tflite(model, random_adapters(model), out)
    (alone,) = Stock(out).run(x).values()
    two = Stock(out)
    two.interpreter = Interpreter(model_path=str(out), num_threads=2)
    two.interpreter.allocate_tensors()
    (threads,) = two.run(x).values()
    assert threads.tobytes() == alone.tobytes()


def test_names_and_what_it_is_made_of(tmp_path: Path) -> None:
    model = nets.loader(tmp_path)(nets.cnn().content())
    out = tmp_path / "a.tflite"
    adapters, names = random_adapters(model, rank=2), ("damaged", "fine", "off")
    files = export_tflite(model, adapters, out, class_names=names, description={"task": "t"})
    assert files == [out, tmp_path / LABELS]
    assert (tmp_path / LABELS).read_text() == "damaged\nfine\noff\n"
    file = schema.ModelT.InitFromPackedBuf(out.read_bytes(), 0)
    (entry,) = file.metadata
    facts = json.loads(bytes(file.buffers[entry.buffer].data))
    assert (entry.name, facts["rank"], facts["task"]) == (b"skip2lora", 2, "t")
    assert facts["base_fingerprint"] == model.fingerprint
    assert facts["taps"] == ["layer0", "layer1", "layer4"]
    # Adapted again, there is one entry still.
    again = LiteRTBackbone.load(out)
    export_tflite(again, random_adapters(again), tmp_path / "b.tflite")
    file = schema.ModelT.InitFromPackedBuf((tmp_path / "b.tflite").read_bytes(), 0)
    assert len(file.metadata) == 1


def test_the_old_file_stays_behind(tmp_path: Path) -> None:
    content = nets.cnn().content()
    model = nets.loader(tmp_path)(content)
    export_tflite(model, random_adapters(model), tmp_path / "a.tflite")
    made = (tmp_path / "a.tflite").read_bytes()
    assert made.endswith(content)
    assert (len(made) - len(content)) % 64 == 0


def test_adapted_for_real(tmp_path: Path) -> None:
    """Through the front door: what is exported predicts what the adapted model predicts."""
    network = nets.mlp([9, 16, 3])
    model = nets.loader(tmp_path)(network.content())
    x = samples_of(network, 60)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int) + (x[:, 3] > 1)
    adapted = s2.adapt(model, x, y)
    export_tflite(adapted.backbone, adapted.adapters, tmp_path / "a.tflite")
    (got,) = Stock(tmp_path / "a.tflite").run(x).values()
    assert (got.argmax(axis=1) == adapted.predict_index(x)).all()
    np.testing.assert_allclose(got, adapted.predict_proba(x), rtol=0, atol=1e-5)


def test_adapters_that_do_not_fit(tmp_path: Path, refused: Refused) -> None:
    model = nets.loader(tmp_path)(nets.cnn().content())
    other: Any = s2.MLP.create([4, 3, 2])
    message = refused(
        ModelError, export_tflite, model, random_adapters(other), tmp_path / "a.tflite"
    )
    assert "expected [4, 3] with 2 as the adapters" in message


@pytest.mark.parametrize("integers", [None, "int8"])
def test_a_label_that_cannot_go_by_thresholds_is_left_out(
    integers: str | None, tmp_path: Path
) -> None:
    network = nets.mlp([9, 7, 3], integers=integers, label=True)
    chosen = Thresholds(0.9, (0.7, 0.5, None), (20, 20, 3))
    model = nets.loader(tmp_path)(network.content())
    adapters, x = random_adapters(model), samples_of(network, 40)
    export_tflite(model, adapters, tmp_path / "a.tflite")
    both = Stock(tmp_path / "a.tflite").run(x)
    assert both["label"].ravel().tolist() == both["probabilities"].argmax(axis=1).tolist()
    with pytest.warns(UserWarning, match="output label is left out, as it cannot go by"):
        export_tflite(model, adapters, tmp_path / "b.tflite", thresholds=chosen)
    assert list(Stock(tmp_path / "b.tflite").run(x)) == ["probabilities"]
    (got,) = Stock(tmp_path / "b.tflite").run(x).values()
    np.testing.assert_array_equal(got, both["probabilities"])
    file = schema.ModelT.InitFromPackedBuf((tmp_path / "b.tflite").read_bytes(), 0)
    facts = json.loads(bytes(file.buffers[file.metadata[0].buffer].data))
    assert Thresholds.from_json(facts["thresholds"]) == chosen


def test_nothing_but_a_label_to_go_by(tmp_path: Path, refused: Refused) -> None:
    model = nets.loader(tmp_path)(nets.mlp([9, 7, 3], end="ARG_MAX").content())
    chosen = Thresholds(0.9, (0.7, 0.5, None), (20, 20, 3))
    given = (model, random_adapters(model), tmp_path / "a.tflite")
    said = refused(ModelError, export_tflite, *given, thresholds=chosen)
    assert "output label cannot go by the thresholds of the adapter" in said
    assert not (tmp_path / "a.tflite").exists()


def test_labels_of_others_stay(tmp_path: Path, refused: Refused) -> None:
    model = nets.loader(tmp_path)(nets.cnn().content())
    adapters, out, labels = random_adapters(model), tmp_path / "a.tflite", tmp_path / "labels.txt"
    labels.write_text("of\nthe\nbase\n")
    message = refused(FileError, export_tflite, model, adapters, out, class_names="xyz")
    assert "labels.txt exists and has other names than the 3 classes" in message
    assert (labels.read_text(), out.exists()) == ("of\nthe\nbase\n", False)
    export_tflite(model, adapters, out, class_names="xyz", replace_labels=True)
    assert labels.read_text() == "x\ny\nz\n"
    export_tflite(model, adapters, out, class_names="xyz")  # the same names again


@pytest.mark.parametrize("name", ["", "a\nb", "a\u2028b", "a\r"])
def test_names_that_are_no_lines(name: str, tmp_path: Path, refused: Refused) -> None:
    model = nets.loader(tmp_path)(nets.cnn().content())
    adapters, out = random_adapters(model), tmp_path / "a.tflite"
    message = refused(
        ParameterError, export_tflite, model, adapters, out, class_names=["x", name, "z"]
    )
    assert "expected names of one line each" in message
    assert not (tmp_path / LABELS).exists()
    assert not out.exists()
