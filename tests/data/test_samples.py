"""Labels of a file, numbered."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.data.samples import number_labels
from skip2lora.errors import DataError


def label(row: int) -> str:
    return f"row {row}"


def numbered(labels: object, **names: tuple[str, ...]) -> tuple[list[int], object]:
    y, found = number_labels(
        np.array(labels), own=names.get("own"), known=names.get("known"), place=label
    )
    assert y is not None
    assert y.dtype == np.int64
    return y.tolist(), found


def test_text_is_numbered_in_sorted_order_or_as_known() -> None:
    assert numbered(["b", "a", "b"]) == ([1, 0, 1], ("a", "b"))
    assert numbered(["b", "a", "b"], known=("c", "b", "a")) == ([1, 2, 1], ("c", "b", "a"))


def test_text_that_is_all_numbers() -> None:
    assert numbered(["0", "2.0", "1"]) == ([0, 2, 1], None)
    assert numbered(["0", "1"], known=("off", "on")) == ([0, 1], ("off", "on"))
    # known names win over numbers
    assert numbered(["3", "7"], known=("7", "3")) == ([1, 0], ("7", "3"))


def test_classes_are_renumbered_by_name() -> None:
    own, known = ("stop", "go"), ("go", "wait", "stop")
    assert numbered([0, 1, 1], own=own, known=known) == ([2, 0, 0], known)
    assert numbered(["stop", "go"], own=own, known=known) == ([2, 0], known)


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        (["a", "x"], {"known": ("a", "b")}, 'row 1 has label "x", expected one of a, b'),
        (["a", "1", "x"], {"known": ("a", "b")}, 'row 2 has label "x"'),
        (["a", "1"], {"known": ("a", "b")}, 'row 1 has label "1"'),
        (["0", "1", "2x"], {}, 'row 2 has label "2x", expected a number'),
        (["0", "0.5"], {}, "row 1 has label 0.5, expected a whole number"),
        ([0, 2], {"known": ("a", "b")}, "row 1 has label 2, expected a whole number 0, 1, ..., 1"),
        ([0, -1], {}, "row 1 has label -1"),
        ([0, np.nan], {}, "row 1 has label nan"),
        ([0], {"own": ("a", "z"), "known": ("a", "b")}, 'class "z", expected only a, b'),
        ([1j], {}, "dtype complex128"),
    ],
)
def test_labels_that_are_refused(labels: object, names: dict[str, object], said: str) -> None:
    with pytest.raises(DataError) as caught:
        numbered(labels, **names)  # type: ignore[arg-type]
    assert said in str(caught.value)
