"""Answers of several files are as those of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skip2lora.errors import DataError
from skip2lora.tasks.joined import joined
from skip2lora.tasks.task import Encoded, Outputs


def encoded(labels: list[int], new: tuple[Any, ...] = (), count: int = 2) -> Encoded:
    return Encoded(np.array(labels, np.int32), Outputs(range(count)), new)


def test_joined_answers_are_those_of_one_file() -> None:
    whole = joined([encoded([0, 2, 1], ("z",)), encoded([3, 0, 2], ("a", "k")), encoded([1])])
    assert whole.new_labels == ("a", "k", "z")
    assert whole.y.tolist() == [0, 4, 1, 3, 0, 2, 1]
    assert whole.y.dtype == np.int32
    targets = [Encoded(np.full((n, 2), n, np.float32), Outputs()) for n in (1, 2)]
    assert joined(targets).y.tolist() == [[1, 1], [2, 2], [2, 2]]


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (encoded([2], ("z",)), encoded([2], (7,)), "expected names or numbers"),
        (encoded([2], ("z", "a")), encoded([2], (7, 8)), "classes are called 'a' and 8, expected"),
        (encoded([1]), encoded([1], count=3), "answers are of the outputs 0, 1 and of 0, 1, 2"),
        (
            Encoded(np.zeros((1, 2), np.float32), Outputs()),
            Encoded(np.zeros((1, 3), np.float32), Outputs()), "expected the same",
        ),
    ],
)  # fmt: skip
def test_answers_of_several_kinds_are_not_joined(one: Encoded, other: Encoded, what: str) -> None:
    with pytest.raises(DataError, match=what):
        joined([one, other])
