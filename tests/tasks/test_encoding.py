"""Answers of every task become what the core takes in one place."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.errors import DataError
from skip2lora.tasks.answers import Answers, Outputs
from skip2lora.tasks.encoding import encode
from skip2lora.tasks.task import CLASSIFICATION

ANIMALS = ("cat", "dog", "eel")
NAMED, UNNAMED = Outputs(range(3), ANIMALS), Outputs(range(3))


def label(row: int) -> str:
    return f"row {row}"


def test_what_is_encoded_stays() -> None:
    made = encode(CLASSIFICATION, [0, 1], 2, UNNAMED)
    assert encode(CLASSIFICATION, made, 2, NAMED) is made
    with pytest.raises(DataError, match="2 answers, expected 3"):
        encode(CLASSIFICATION, made, 3, UNNAMED)


def test_errors_name_the_file_on_one_line() -> None:
    answers = Answers(np.array(["cat", "a\nb"]), place=label, source="field.csv")
    with pytest.raises(DataError) as caught:
        encode(CLASSIFICATION, answers, 2, NAMED)
    assert str(caught.value).startswith('field.csv: row 1 has label "a b", expected one of cat')
