"""What is said of an error that another package raised."""

from __future__ import annotations

import pytest

from skip2lora.errors import first_line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one\ntwo", "one"),
        ("\n  \n  three \n", "three"),
        ("", "ValueError"),
        ("x" * 300, "x" * 300),
        ("x" * 301, "x" * 297 + "..."),
    ],
)
def test_first_line(text: str, said: str) -> None:
    assert first_line(ValueError(text)) == said
