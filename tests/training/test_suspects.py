"""Labels that held-out answers contradict: which, in which order, and when it is said."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from conformance.numpy_backbone import NumpyBackbone
from skip2lora.errors import ParameterError, SuspectLabelsWarning
from skip2lora.training.suspects import suspects_in, warn_of_suspects, write_suspects

NAMES = ("stop", "normal", "damaged")


def logits(shares: list[list[float]]) -> np.ndarray:
    return np.log(np.array(shares, np.float32))


SHARES = logits(
    [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [np.nan] * 3, [0.05, 0.05, 0.9], [0.1, 0.6, 0.3]]
)
LABELS = np.array([0, 1, 2, 1, 1], np.int32)


def test_what_is_contradicted_the_surest_first() -> None:
    suspects = suspects_in(SHARES, LABELS, NAMES)
    assert [each.row for each in suspects] == [3, 1]  # row 2 was never held out
    assert [(each.label, each.answer) for each in suspects] == [
        ("normal", "damaged"), ("normal", "stop"),
    ]  # fmt: skip
    assert suspects[0].probability == pytest.approx(0.9)
    assert suspects[0].label_probability == pytest.approx(0.05)
    rows = np.array([10, 11, 12, 13, 14])
    assert [each.row for each in suspects_in(SHARES, LABELS, NAMES, rows)] == [13, 11]
    assert suspects_in(SHARES[:1], LABELS[:1], NAMES) == ()


def test_their_file(tmp_path: Path) -> None:
    suspects = suspects_in(SHARES, LABELS, NAMES)
    write_suspects(tmp_path / "s.csv", suspects)
    (first, second) = csv.DictReader((tmp_path / "s.csv").read_text().splitlines())
    assert list(first) == ["row", "label", "answer", "probability", "label_probability"]
    assert (first["row"], first["label"], first["answer"]) == ("3", "normal", "damaged")
    assert float(second["label_probability"]) == pytest.approx(0.3)
    write_suspects(tmp_path / "s.csv", suspects, ["a.png", "b.png", "c.png", "d, e.png", "f.png"])
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert [row["file"] for row in csv.DictReader(lines)] == [
        "d, e.png", "b.png",
    ]  # fmt: skip
    write_suspects(tmp_path / "none.csv", ())
    assert (tmp_path / "none.csv").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("n_wrong", "n_samples", "said"), [(6, 100, True), (5, 100, False), (2, 10, False)]
)
def test_a_few_are_not_worth_a_word(n_wrong: int, n_samples: int, said: bool) -> None:
    wrong = suspects_in(np.repeat(SHARES[3:4], n_wrong, axis=0), LABELS[3:4].repeat(n_wrong), NAMES)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_suspects((*wrong, *suspects_in(SHARES[1:2], LABELS[1:2], NAMES)), n_samples)
    assert [each.category for each in caught] == [SuspectLabelsWarning] * said
    if said:
        assert str(caught[0].message).startswith(
            "7 of 100 labels are contradicted by answers held out, 6 of them with a probability "
            "below 10% for the label (row 0, from 0: normal, answered damaged)"
        )


# --- of a model ------------------------------------------------------------------------------


@pytest.fixture
def field(make_samples: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples that are easily told apart, their labels, and which five of these are wrong."""
    x, y = make_samples(90, 9)
    x = x + 8 * np.eye(9, dtype=np.float32)[y]
    wrong = np.array([3, 30, 44, 61, 80])
    y[wrong] = (y[wrong] + 1) % 3
    return x, y, wrong


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "exact"},
        {"recipe": "auto"},
        {"suspects": True},
        {"suspects": True, "standardize": True, "method": "skip-lora"},
        {"suspects": True, "validation": 0.2},
        {"recipe": "auto", "keep": True},
    ],
)
def test_wrong_labels_are_among_the_suspects(
    make_model: Any, field: Any, options: dict[str, Any]
) -> None:
    x, y, wrong = field
    model = make_model([9, 16, 5, 3])
    if "keep" in options:
        options = options | {"keep": (x[4:16], y[4:16])}  # which are none themselves
    fit = s2.adapt(model, x, y, **options).fit
    rows = [each.row for each in fit.suspects]
    expected = wrong if "validation" not in options else np.intersect1d(rows, wrong)
    assert set(rows) >= set(expected)
    assert len(rows) <= 12
    assert len(rows) == len(set(rows))
    assert all(each.label == str(y[each.row]) != each.answer for each in fit.suspects)
    sure = [each.label_probability for each in fit.suspects]
    assert sure == sorted(sure)


def test_rows_are_those_that_were_passed(make_model: Any, field: Any) -> None:
    """Samples of weight 0 are left out, and counted."""
    x, y, wrong = field
    weight = np.ones(90)
    weight[:3] = weight[62] = 0
    model = make_model([9, 16, 5, 3])
    fit = s2.adapt(model, x, y, sample_weight=weight, solver="exact").fit
    assert {each.row for each in fit.suspects} >= set(wrong)
    fit = s2.adapt(model, x, y, sample_weight=weight, solver="exact", validation=0.3).fit
    assert {each.row for each in fit.suspects} & set(wrong)
    assert all(each.label == str(y[each.row]) for each in fit.suspects)


@pytest.mark.parametrize("options", [{"solver": "exact"}, {"recipe": "auto"}, {"epochs": 3}])
@pytest.mark.parametrize("sign", [1, -1])  # of which auto takes steps, or solves
def test_samples_for_validation_are_no_suspects(
    make_model: Any, field: Any, options: dict[str, Any], sign: int
) -> None:
    """They have rows of their own, so those of the samples that are learned would be wrong."""
    x, y, wrong = field
    x, model = sign * np.abs(x), make_model([9, 16, 5, 3])
    beside = (x[50:], (y[50:] + 1) % 3)
    plain = s2.adapt(model, x[:50], y[:50], validation_data=beside, **options)
    assert plain.fit.suspects is None
    fit = s2.adapt(model, x[:50], y[:50], validation_data=beside, suspects=True, **options).fit
    assert {each.row for each in fit.suspects} >= {*wrong[wrong < 50]}
    assert all(each.label == str(y[each.row]) for each in fit.suspects)


@pytest.mark.filterwarnings("ignore::skip2lora.errors.FewSamplesWarning")
@pytest.mark.filterwarnings("ignore::skip2lora.errors.ForgettingWarning")
@pytest.mark.parametrize("y", [[0, 1, 2], [0, 0, 0]])
def test_where_no_label_can_be_contradicted(make_model: Any, field: Any, y: list[int]) -> None:
    fit = s2.adapt(make_model([9, 16, 5, 3]), field[0][:3], y, epochs=3, suspects=True).fit
    assert fit.suspects is None


def test_one_pass_and_nothing_else_changes(field: Any) -> None:
    x, y, _ = field
    model = NumpyBackbone([9, 16, 5, 3], first_tap_is_input=False)
    options: dict[str, Any] = {"epochs": 5, "standardize": True}
    plain = s2.adapt(model, x, y, **options)
    assert plain.fit.suspects is None
    model.batches.clear()
    adapted = s2.adapt(model, x, y, suspects=True, **options)
    assert model.n_forwards == adapted.history.n_forwards == 90
    for name, array in adapted.adapters.tensors().items():
        np.testing.assert_array_equal(array, plain.adapters.tensors()[name])


@pytest.mark.filterwarnings("error")
def test_many_are_warned_of(make_model: Any, field: Any, refused: Any) -> None:
    x, y, wrong = field
    model = make_model([9, 16, 5, 3])
    right = y.copy()
    right[wrong] = (y[wrong] + 2) % 3
    assert s2.adapt(model, x, right, suspects=True, epochs=1).fit.suspects == ()
    y = right.copy()
    y[::16], y[8::16] = (y[::16] + 1) % 3, (y[8::16] + 2) % 3
    with pytest.warns(SuspectLabelsWarning, match="of 90 labels are contradicted") as caught:
        s2.adapt(model, x, y, suspects=True, epochs=1)
    assert caught[0].filename == __file__
    for options in ({"method": "ft-all"}, {"task": "regression"}):
        answers = x[:, :3] if "task" in options else y
        message = refused(ParameterError, s2.adapt, model, x, answers, suspects=True, **options)
        assert "suspects is on" in message


def test_outputs_may_be_learned_anew(make_model: Any, make_samples: Any) -> None:
    """A row of such a model has no base logits."""
    x, y = make_samples(60, 8, 3)
    names = np.array(["off", "on", "stand-by"])[y]
    model = make_model((8, 6, 4))
    adapted = s2.adapt(model, x, names, keep_outputs=False, suspects=True)
    assert adapted.fit.suspects is not None
    assert adapted.history.n_forwards == 60
