"""Backbones that stand in for another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.numpy_backbone import NumpyBackbone
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.known_rows import KnownRows
from skip2lora.backbones.outputs import OutputSpec
from skip2lora.backbones.standins import Bare, Binary, Headless, Watched, for_task, over
from skip2lora.errors import ParameterError

WIDTHS = [9, 16, 5, 3]


@pytest.fixture(params=["MLP", "NumPy"])
def backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    if request.param == "MLP":
        return make_model(WIDTHS)
    return NumpyBackbone(WIDTHS, first_tap_is_input=False)


@pytest.fixture
def samples(make_samples: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_samples(60, 9)
    return x * np.float32(5) + np.arange(9, dtype=np.float32) * 3, y.astype(np.int32)


def test_headless_has_the_taps_and_no_outputs(backbone: Any, samples: Any) -> None:
    x, _ = samples
    headless = Headless(backbone, 2)
    made, whole = headless.forward(headless.check(x)), backbone.forward(x)
    for tap, want in zip(made.taps, whole.taps, strict=True):
        assert tap.tobytes() == want.tobytes()
    assert made.base_logits.shape == (60, 2)
    assert not made.base_logits.any()
    assert headless.tap_widths == backbone.tap_widths
    assert headless.fingerprint not in (backbone.fingerprint, Headless(backbone, 3).fingerprint)


class Ending(NumpyBackbone):
    """With an output that ends so."""

    output = "y"

    def __init__(self, ending: str, n_outputs: int = 3) -> None:
        super().__init__((4, n_outputs), first_tap_is_input=False)
        specs = (OutputSpec("x", (9,), "numbers"), OutputSpec("y", (n_outputs,), ending, "so"))
        self.outputs = specs


@pytest.mark.parametrize(
    ("ending", "n_outputs", "task", "kind"),
    [
        ("softmax", 3, "classification", None), ("softmax", 3, "multi-label", Bare),
        ("softmax", 3, "regression", Bare), ("sigmoid", 3, "classification", Bare),
        ("sigmoid", 3, "multi-label", None), ("sigmoid", 1, "classification", Binary),
        ("sigmoid", 1, "multi-label", None), ("logits", 1, "classification", Binary),
        ("logits", 1, "regression", None), ("logits", 3, "multi-label", None),
        ("numbers", 3, "regression", None),
    ],
)  # fmt: skip
def test_outputs_that_are_what_a_task_learns(
    ending: str, n_outputs: int, task: str, kind: Any
) -> None:
    model = Ending(ending, n_outputs)
    stands = for_task(model, task)
    assert (stands is model) if kind is None else type(stands) is kind
    assert stands.base is model


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_numbers_are_no_logits(n_outputs: int, refused: Any) -> None:
    for task in ("classification", "multi-label"):
        said = refused(ParameterError, for_task, Ending("numbers", n_outputs), task)
        assert said.startswith(f"output y of the model is so, expected logits for {task}: ")


def test_one_logit_is_two_classes() -> None:
    model = Ending("sigmoid", 1)
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    made, logit = for_task(model, "classification").forward(x), model.forward(x).base_logits
    np.testing.assert_array_equal(made.base_logits, np.c_[-logit / 2, logit / 2])
    assert Binary(model).n_outputs == 2
    assert Binary(model).fingerprint == f"{model.fingerprint}-binary"
    assert Bare(model).fingerprint == model.fingerprint
    assert Bare(model).forward(x).base_logits.tobytes() == logit.tobytes()


def test_known_rows_go_below_what_stands_in() -> None:
    model = Ending("sigmoid", 1)
    known = KnownRows(model.tap_widths, 1, RowFormat.of(model, copy_input=True).layout)
    assert over(model, known) is known
    stands = over(Headless(Binary(model), 5), known)
    assert isinstance(stands, Headless)
    assert (type(stands.backbone), stands.n_outputs) == (Binary, 5)
    assert stands.base is known.base


def test_what_is_watched_gives_the_same_and_says_how_many_passed(
    backbone: Any, samples: Any
) -> None:
    x, _ = samples
    passed: list[int] = []
    headless = Headless(backbone, 2)
    watched = over(headless, Watched(headless.base, passed.append))
    assert isinstance(watched, Headless)
    assert watched.base is backbone
    made, whole = watched.forward(x[:7]), headless.forward(x[:7])
    assert [tap.tobytes() for tap in made.taps] == [tap.tobytes() for tap in whole.taps]
    assert watched.forward(x[:2]).base_logits.shape == (2, 2)
    assert passed == [7, 2]
    for name in ("tap_widths", "n_outputs", "fingerprint", "samples_at_once", "recipe"):
        assert getattr(watched, name) == getattr(headless, name)


def test_samples_are_read_for_every_stand_in_but_one_that_reads() -> None:
    class Reading(Watched):
        reads = True

    one = NumpyBackbone(WIDTHS, first_tap_is_input=False)
    assert not Headless(Watched(one, print), 2).reads
    assert Headless(Reading(one, print), 2).reads
