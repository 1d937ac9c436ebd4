"""A network of this package as .tflite: what LiteRT gives is what the core gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs the package ai-edge-litert: group runtimes")

from ai_edge_litert import schema_py_generated as schema

import skip2lora as s2
from onnx_exports import expected, random_adapters
from skip2lora.backbones.derived import KINDS, Derived
from skip2lora.export.tflite import export_tflite
from skip2lora.export.tflite_mlp import tflite_of, twin
from skip2lora.tasks.task import softmax
from tflite_exports import Stock

X = np.abs(np.random.default_rng(0).normal(size=(9, 6))).astype(np.float32)
ENDS = {
    "classification": softmax,
    "multi-label": lambda logits: 1 / (1 + np.exp(-logits)),
    "regression": lambda logits: logits,
}


def network(task: str, *, batch_norm: bool = True) -> s2.MLP:
    random = np.random.default_rng(4)
    model = s2.MLP.create([6, 5, 4, 3], seed=1, batch_norm=batch_norm, task=task)
    layers = [  # no array at the value that it has by default
        tuple(
            None if array is None else np.abs(random.normal(1, 0.3, array.shape)).astype(np.float32)
            for array in layer.arrays()
        )
        for layer in model.layers
    ]
    return model.with_layers(layers)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("task", ENDS)
def test_the_same_network(task: str, batch_norm: bool) -> None:
    model = network(task, batch_norm=batch_norm)
    (got,) = Stock(tflite_of(model)).run(X).values()
    np.testing.assert_allclose(got, ENDS[task](model.logits(X)), rtol=1e-5, atol=1e-6)


def test_its_taps_are_those_of_the_network() -> None:
    model = network("classification")
    made, own = twin(model).forward(X), model.forward(X)
    for one, other in zip(made.taps, own.taps, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_only_a_network_has_a_twin(tmp_path: Path) -> None:
    import tflite_models as nets

    model = nets.loader(tmp_path)(nets.cnn().content())
    assert twin(model) is model


@pytest.mark.parametrize("first_tap", [0, 8])
@pytest.mark.parametrize("task", ENDS)
def test_with_derived_taps(task: str, first_tap: int, tmp_path: Path) -> None:
    """Logarithms, powers and logits are computed in the file, of samples out of their range too."""
    derived = Derived.of(network(task), KINDS, X)
    adapters = random_adapters(derived, first_tap=first_tap)
    out = tmp_path / "a.tflite"
    export_tflite(derived, adapters, out, samples=X)
    wide = np.concatenate([X, 5 * X, -X])
    (got,) = Stock(out).run(wide).values()
    np.testing.assert_allclose(
        got, ENDS[task](expected(derived, adapters, wide)), rtol=1e-5, atol=1e-4
    )


def test_what_the_file_says_of_itself() -> None:
    """Any number of samples; inputs and outputs by name, in the version that runtimes read."""
    for task, output in (("classification", "probabilities"), ("regression", "logits")):
        content = tflite_of(network(task))
        details = Stock(content).interpreter.get_input_details()
        details += Stock(content).interpreter.get_output_details()
        assert [of["name"] for of in details] == ["X", output]
        assert [of["shape_signature"].tolist() for of in details] == [[-1, 6], [-1, 3]]
        assert [of["shape"].tolist() for of in details] == [[1, 6], [1, 3]]
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        assert (model.version, model.subgraphs[0].name) == (3, b"main")
        ranked = [of.hasRank for of in model.subgraphs[0].tensors if of.name in (b"X", output)]
        assert all(ranked)
        buffers = [of for of in model.buffers[:1] if of.data is not None]
        assert buffers == []  # the first is that of no values
