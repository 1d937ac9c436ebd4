"""Outputs of a model, answers encoded as them, and errors that name the file."""

from __future__ import annotations

import numpy as np

from skip2lora.errors import DataError
from skip2lora.tasks.answers import NO_OUTPUTS, Encoded, Outputs, naming


def test_titles_of_outputs() -> None:
    assert Outputs(range(2), ("off", "on")).titles == ("off", "on")
    assert Outputs((3, 7)).titles == ("3", "7")
    assert (Outputs().count, NO_OUTPUTS.count, Outputs((3, 7)).count) == (None, 0, 2)
    encoded = Encoded(np.zeros(3, np.int32), Outputs(range(2)), new_labels=(9,))
    assert encoded.titles == ("0", "1", "9")


def test_outputs_that_are_but_numbered() -> None:
    assert Outputs(range(3)).is_plain
    assert NO_OUTPUTS.is_plain
    assert not Outputs((0, 2)).is_plain
    assert not Outputs(range(2), ("0", "1")).is_plain


def test_errors_name_the_file_on_one_line() -> None:
    error = DataError("row 1 has a\nb: correct it")
    assert str(naming("a.csv", error)) == "a.csv: row 1 has a b: correct it"
    assert naming("", error) is error
