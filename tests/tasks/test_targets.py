"""Several labels and numbers: columns of a file and of an array, put in the order of outputs."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skip2lora.errors import DataError, ParameterError, TaskWarning
from skip2lora.tasks.labels import encode
from skip2lora.tasks.targets import check_classes, infer_task, warn_of_numbers
from skip2lora.tasks.task import TASKS, Answers, Encoded, Outputs

SETS, NUMBERS = TASKS["multi-label"], TASKS["regression"]
NAMES = ("wet", "hot", "loud")
NAMED, UNNAMED = Outputs(range(3), NAMES), Outputs(range(3))
Y = np.array([[1, 0, 0], [0, 1, 1]])


def of_file(
    values: Any, outputs: Outputs, task: Any = SETS, columns: Any = None, **more: Any
) -> Encoded:
    answers = Answers(
        np.array(values), column_names=columns, place=lambda row: f"row {row}", **more
    )
    return encode(task, answers, len(values), outputs)


def test_columns_by_name_in_another_order() -> None:
    made = of_file(Y[:, ::-1], NAMED, columns=NAMES[::-1])
    np.testing.assert_array_equal(made.y, Y)
    assert made.y.dtype == np.float32
    assert (made.outputs.names, made.names_adopted) == (NAMES, False)


def test_columns_without_names_or_chosen_under_others_keep_their_order() -> None:
    for made in (of_file(Y, NAMED), of_file(Y, NAMED, columns=("a", "b", "c"), chosen=True)):
        np.testing.assert_array_equal(made.y, Y)
        assert made.outputs.names == NAMES


@pytest.mark.parametrize(
    ("columns", "chosen", "got"),
    [
        (("a", "b", "c"), False, 'target "a"'), (("wet", "b", "c"), True, 'target "b"'),
        (("wet", "b", "c"), False, 'target "b"'), (("hot", "wet"), True, "targets hot, wet alone"),
        (("hot", "wet"), False, "targets hot, wet alone"), (("a", "b"), False, 'target "a"'),
    ],
)  # fmt: skip
def test_names_of_which_the_model_knows_some_are_refused(
    columns: Any, chosen: bool, got: str
) -> None:
    """Their places say nothing then, though there may be as many."""
    with pytest.raises(DataError, match=f"it has {got}, expected wet, hot, loud, the outputs"):
        of_file(Y[:, : len(columns)], NAMED, columns=columns, chosen=chosen)


def test_names_of_columns_become_those_of_outputs_without() -> None:
    made = of_file(Y, UNNAMED, columns=NAMES)
    assert (made.outputs.names, made.names_adopted) == (NAMES, True)
    assert of_file(Y, UNNAMED, class_names=NAMES).outputs.names == NAMES
    assert not of_file(Y, UNNAMED, columns=NAMES, chosen=True).names_adopted
    assert not of_file(Y, UNNAMED, NUMBERS, columns=NAMES).names_adopted


def test_one_column() -> None:
    one = Outputs(range(1))
    for values in ([0.5, 2], [[0.5], [2]], ["0.5", "2"]):
        made = of_file(values, one, NUMBERS, columns=("label",))
        assert made.y.tolist() == [[0.5], [2]]
        assert made.outputs.names is None  # "label" says nothing of the output
    assert encode(NUMBERS, [0.5, 2], 2, one).y.tolist() == [[0.5], [2]]
    assert of_file([0.5], one, NUMBERS, columns=("mass",)).outputs.names == ("mass",)


@pytest.mark.parametrize(
    ("values", "task", "columns", "parts"),
    [
        (Y[:, :2], SETS, ("wet", "hot"), ["targets wet, hot alone", "wet, hot, loud", "target="]),
        (Y, SETS, ("wet", "hot", "dry"), ['target "dry"']),
        (Y[:, :2], SETS, None, ["2 targets", "expected 3", "keep_outputs=False"]),
        (Y, SETS, ("wet", "hot"), ["3 columns and there are 2 names"]),
        (Y * 2, SETS, NAMES, ['row 0 column "wet" has 2, expected 0 or 1', "task="]),
        (Y * np.nan, NUMBERS, None, ["row 0 column 0 has nan", "a finite number"]),
        ([["1", "x", "0"]], NUMBERS, NAMES, ['row 0 column "hot" has "x"', "a number"]),
        (Y * 1j, NUMBERS, None, ["complex128"]),
        (np.zeros((2, 0)), NUMBERS, None, ["shape (2, 0)"]),
    ],
)
def test_columns_that_are_refused(values: Any, task: Any, columns: Any, parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        of_file(values, NAMED, task, columns)
    for part in parts:
        assert part in str(caught.value)


def test_arrays() -> None:
    np.testing.assert_array_equal(encode(SETS, Y.astype(bool), 2, UNNAMED).y, Y)
    made = encode(NUMBERS, np.ones((2, 5)), 2, Outputs(), new_outputs=True)
    assert made.outputs.count == 5
    for y, said in (
        (Y[:, :2], r"\(2, 2\), expected \(2, 3\)"),
        (None, "y is None"),
        (Y * 2, "0 or 1"),
    ):
        with pytest.raises(DataError, match=said):
            encode(SETS, y, 2, UNNAMED)
    with pytest.raises(DataError, match="one column or more"):
        encode(NUMBERS, np.zeros((2, 0)), 2, Outputs())
    with pytest.raises(ParameterError, match="no outputs of its own"):
        encode(NUMBERS, [1.0, 2.0], 2, Outputs(range(0)))


@given(data=st.data(), text=st.booleans())
def test_decoding_gives_the_columns_back(data: Any, text: bool) -> None:
    """Whatever the order in the file, column ``name`` is the output called so."""
    order = data.draw(st.permutations(NAMES))
    rows = data.draw(st.lists(st.tuples(*3 * [st.integers(-9, 9)]), min_size=1, max_size=5))
    values = np.array(rows).astype(np.str_) if text else np.array(rows)
    made = of_file(values, NAMED, NUMBERS, columns=tuple(order))
    for place, name in enumerate(NAMES):
        assert made.y[:, place].tolist() == [row[order.index(name)] for row in rows]


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"], "classification"), (["0", "1"], "classification"), ([0, 1], "classification"),
        ([0.5, 1], "regression"), (["0.5", "1"], "regression"),
        (Y, "multi-label"), (Y * 2, "regression"),
    ],
)  # fmt: skip
def test_the_task_that_answers_look_like(values: Any, task: str) -> None:
    assert infer_task(np.array(values)).name == task


def test_says_that_numbers_may_be_two_classes() -> None:
    with pytest.warns(TaskWarning, match=r"0 and 1 alone.*task='classification'"):
        warn_of_numbers(np.float32([[0], [1], [1]]))


@pytest.mark.parametrize(
    "targets", [[[0], [1], [2]], [[1], [1]], [[0], [0.5], [1]], [[-1], [1]], [[0, 1], [1, 0]]]
)
def test_other_numbers_are_numbers(targets: list[list[float]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_numbers(np.array(targets, np.float32))


def test_names_of_one_class_a_sample_are_columns() -> None:
    made = of_file(["hot", "wet", "hot"], Outputs(), columns=("label",))
    assert made.outputs.names == ("hot", "wet")
    assert made.y.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert of_file([["b"], ["a"]], Outputs()).outputs.names == ("a", "b")
    some = of_file(["hot", "hot"], NAMED)  # of the others there is no sample
    assert some.outputs.names == NAMES
    assert some.y.tolist() == [[0, 1, 0], [0, 1, 0]]
    own = of_file(["b", "b"], Outputs(), class_names=("b", "a"))
    assert (own.outputs.names, own.y.tolist()) == (("b", "a"), [[1, 0], [1, 0]])


@pytest.mark.parametrize("values", [["hot", "1"], ["hot", ""], ["1", "x"]])
def test_names_among_numbers_or_missing_ones_are_no_columns(values: list[str]) -> None:
    with pytest.raises(DataError, match="expected a number for multi-label"):
        of_file(values, Outputs())


def test_a_name_that_is_no_output(refused) -> None:
    assert 'it has target "cold", expected wet, hot, loud' in refused(
        DataError, of_file, ["cold", "hot"], NAMED
    )
    with pytest.raises(DataError, match="expected a number for regression"):
        of_file(["hot", "wet"], Outputs(), NUMBERS)


@pytest.mark.parametrize(
    ("numbers", "each"),
    [
        (range(21), 2), (range(1, 22), 2),  # they count the classes
        (range(2, 23), 10), ([*range(20), 21], 10), ([*range(1, 21), 22], 10), (range(-1, 20), 10),
        ([at / 2 for at in range(21)], 10),
    ],
)  # fmt: skip
def test_numbers_are_classes_if_they_come_often_enough(numbers: Any, each: int) -> None:
    """The more often the less they look like such."""
    y = np.repeat(np.arange(len(numbers)), each)
    titles = tuple(map(str, numbers))
    check_classes(SimpleNamespace(y=y, titles=titles))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="y has 21 different"):
        check_classes(SimpleNamespace(y=y[1:], titles=titles))  # type: ignore[arg-type]
    few = SimpleNamespace(y=np.arange(20), titles=titles[:20])
    check_classes(few)  # type: ignore[arg-type]
    named = SimpleNamespace(y=np.arange(22), titles=(*titles, "other"))
    check_classes(named)  # type: ignore[arg-type]
