"""Files with control flow, chance or a state are tapped on the operators before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.errors import ModelError

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")

from tflite_models import File, Load

Refused = Callable[..., str]


def one_operator(kind: str, *, variable: bool = False, first: bool = False) -> bytes:
    """A layer, then an operator of that kind and another layer; or that operator first."""
    file = File()
    x, y, z = file.tensor("x", (1, 3)), file.tensor("y", (1, 3)), file.tensor("z", (1, 3))
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    bias = file.constant("b", np.zeros(3, np.float32))
    if first:
        file.operator(kind, [x], [y])
        file.operator("FULLY_CONNECTED", [y, weight, bias], [z])
        file.graph.tensors[x].isVariable = variable
    else:
        file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
        file.operator(kind, [y], [z])
        file.graph.tensors[y].isVariable = variable
    return file.pack([x], [z])


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("WHILE", "is control flow"), ("IF", "is control flow"),
        ("CALL_ONCE", "keeps a state"), ("VAR_HANDLE", "keeps a state"),
        ("READ_VARIABLE", "keeps a state"), ("ASSIGN_VARIABLE", "keeps a state"),
        ("HASHTABLE_FIND", "is a table of texts"),
    ],
)  # fmt: skip
def test_control_flow_and_state(kind: str, what: str, load: Load, refused: Refused) -> None:
    message = refused(ModelError, load, one_operator(kind, first=True))
    assert f"operator 0, {kind}, {what}" in message
    # What is before it is tapped, and the runtime never sees the rest.
    with pytest.warns(UserWarning, match=f"operator 1, {kind}, {what}.* only the layers before it"):
        model = load(one_operator(kind))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    rows = model.forward(model.check(x))
    assert rows.taps[0].tolist() == x.tolist()
    assert (model.n_outputs, model.output, model.task) == (0, None, "classification")
    assert rows.base_logits.shape == (2, 0)
    assert model.notes == (model.graph.cut,)


@pytest.mark.parametrize("kind", ["CALL_ONCE", "ASSIGN_VARIABLE"])
def test_operators_that_make_nothing_are_no_damage(kind: str, load: Load, refused: Refused) -> None:
    file = File()
    x, y = file.tensor("x", (1, 3)), file.tensor("y", (1, 3))
    file.operator("TANH", [x], [y])
    file.operator(kind, [], [])
    message = refused(ModelError, load, file.pack([x], [y]))
    assert f"operator 1, {kind}, keeps a state from one sample to the next" in message


def test_state_and_chance(load: Load, refused: Refused) -> None:
    message = refused(ModelError, load, one_operator("TANH", variable=True, first=True))
    assert "operator 0, TANH, keeps a state from one sample to the next" in message
    assert "MULTINOMIAL, is random" in refused(ModelError, load, one_operator("MULTINOMIAL"))


def test_what_is_behind_it_is_not_given_to_the_runtime(load: Load) -> None:
    """A branch without its graphs, which the runtime would look for, and a second graph."""
    file = File()
    x, y, z = file.tensor("x", (1, 3)), file.tensor("y", (1, 3)), file.tensor("z", (1, 3))
    weight = file.constant("w", np.eye(3, dtype=np.float32))
    bias = file.constant("b", np.zeros(3, np.float32))
    file.operator("FULLY_CONNECTED", [x, weight, bias], [y])
    file.operator("IF", [y], [z])
    file.model.subgraphs.append(file.graph)
    with pytest.warns(UserWarning, match="operator 1, IF, is control flow"):
        model = load(file.pack([x], [y, z]))
    assert [tap.width for tap in model.taps] == [3]
    assert (model.n_outputs, model.output) == (3, "y")  # an output that does not come from it


@pytest.mark.filterwarnings("ignore:.*only the layers before it:UserWarning")
def test_outputs_of_its_own_are_learned_and_kept(load: Load, tmp_path: Path) -> None:
    model = load(one_operator("IF"))
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    adapted = s2.adapt(model, x, np.arange(9) % 3, keep_outputs=False, epochs=2)
    adapted.save(tmp_path / "adapter")
    again = s2.AdaptedModel.load(s2.load(tmp_path / "model.tflite"), tmp_path / "adapter")
    assert np.array_equal(again.logits(x), adapted.logits(x))
