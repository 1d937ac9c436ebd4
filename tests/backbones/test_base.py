"""What a backbone must say, and what is answered where it does not."""

from __future__ import annotations

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.backbones.recipe import ANY_MODEL
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
