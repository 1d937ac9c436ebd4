"""Which columns hold the answers, and how they are matched with outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sample_files import write_text
from skip2lora.data.reading import read_samples
from skip2lora.tasks.task import TASKS


@pytest.mark.parametrize(
    ("target", "names"), [(None, None), (("p",), ("p",)), (("p", "q"), ("u", "v"))], ids=str
)
def test_columns_take_the_names_of_as_many_outputs_alone(
    target: tuple[str, ...] | None, names: tuple[str, ...] | None, tmp_path: Path
) -> None:
    path = write_text(tmp_path / "s.csv", "a,b,p,q,label\n" + "1,2,3,4.5,5.5\n" * 3)
    read = read_samples(path, target=target, task=TASKS["regression"], class_names=("u", "v"))
    assert read.class_names == names
    assert read.y is not None
    assert read.y.shape == (3, len(names or "y"))
