"""What a backbone must say, and what is answered where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones.recipe import ANY_MODEL
from skip2lora.errors import ParameterError
from skip2lora.tasks.task import CLASSIFICATION


class Least(s2.Backbone):
    """The four members that a backbone must define."""

    tap_widths, n_outputs, fingerprint = (4, 3), 2, "least"

    def forward(self, x: np.ndarray) -> s2.Taps:
        return s2.Taps((x, x[:, :3] * 2), x[:, :2] + 1)


def test_defaults_of_the_four_members() -> None:
    model = Least()
    assert model.learned is CLASSIFICATION
    assert (model.class_names, model.path) == (None, None)
    assert model.classes_.tolist() == [0, 1]
    assert model.recipe is ANY_MODEL
    assert model.base is model
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert model.logits(x).tolist() == (x[:, :2] + 1).tolist()
    assert model.predict(x).tolist() == [1, 1, 1]


def test_logits_of_many_samples_are_those_of_each() -> None:
    """The taps of few samples are in memory at a time."""
    most: list[int] = []

    class Counted(Least):
        def forward(self, x: np.ndarray) -> s2.Taps:
            most.append(len(x))
            return super().forward(x)

    x = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    assert Counted().logits(x).tobytes() == (x[:, :2] + 1).tobytes()
    assert (sum(most), max(most)) == (1000, 256)


@pytest.mark.parametrize("missing", ["tap_widths", "n_outputs", "fingerprint"])
def test_a_member_that_is_missing_is_named(missing: str) -> None:
    members = {name: vars(Least)[name] for name in ("tap_widths", "n_outputs", "fingerprint")}
    del members[missing]
    model = type("Lacking", (s2.Backbone,), members | {"forward": Least.forward})()
    with pytest.raises(s2.ModelError, match=f"Lacking has no {missing}, expected"):
        getattr(model, missing)


def test_threads_of_a_module() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra torch)")
    seen: list[int] = []

    class Counting(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            seen.append(torch.get_num_threads())
            return super().forward(x)

    x, before = np.zeros((2, 4), np.float32), torch.get_num_threads()
    model = s2.TorchBackbone(torch.nn.Sequential(Counting(4, 3)), example=x, threads=before + 1)
    seen.clear()
    model.forward(x)
    model.logits(x)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    seen.clear()
    s2.TorchBackbone(torch.nn.Sequential(Counting(4, 3)), example=x).forward(x)
    assert set(seen) == {before}


def test_what_a_model_without_masks_and_shapes_answers(refused: Any) -> None:
    model = Least()
    assert model.with_shapes((("x", (4,), "float32"),)) is model
    assert model.with_mask("none") is model
    assert "no input that says what counts" in refused(ParameterError, model.with_mask, "pad=x")
    assert "start at every layer" in refused(ParameterError, model.with_taps, 1)
    assert [(tap.layer, tap.kind, tap.shape) for tap in model.taps] == [
        ("layers.0", "vector", (4,)), ("layers.1", "vector", (3,)),
    ]  # fmt: skip


def test_names_of_its_own_are_not_replaced(refused: Any) -> None:
    class Named(Least):
        @property
        def class_names(self) -> tuple[str, ...]:
            return ("a", "b")

    model = Named()
    assert model.named(None) is model
    assert "Named takes none as it computes its own" in refused(
        ParameterError, model.named, ("c", "d")
    )
    plain = Least()
    assert plain.named(("c", "d")).class_names == ("c", "d")
    assert plain.class_names is None


def test_one_output_unless_there_is_none() -> None:
    class Encoder(Least):
        n_outputs = 0

    assert Least().output == "output"
    assert [(of.name, of.shape) for of in Least().outputs] == [("output", (2,))]
    assert (Encoder().output, Encoder().outputs) == (None, ())
