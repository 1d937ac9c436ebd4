"""Where training is kept, and its course."""

from __future__ import annotations

from pathlib import Path

import pytest

from skip2lora.errors import FileError, ParameterError
from skip2lora.training.watch import FILE, Checkpoint, Course


def test_a_checkpoint_makes_its_folder_and_refuses_what_it_may_not_go_on_from(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "a" / "b"
    assert Checkpoint(folder, resume=False).prepare() == folder / FILE
    assert folder.is_dir()
    (folder / FILE).write_text("")
    Checkpoint(folder).prepare()
    with pytest.raises(FileError, match="is there already"):
        Checkpoint(folder, resume=False).prepare()
    with pytest.raises(ParameterError, match="every is nan, expected a number of seconds"):
        Checkpoint(folder, every=float("nan"))


def test_the_best_epoch_is_the_first_of_those_with_the_smallest_loss() -> None:
    course = Course()
    assert [course.is_best(loss) for loss in (3.0, 2.0, 2.0, 4.0, 1.0)] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert course.best == 4
    assert course.validation == [3.0, 2.0, 2.0, 4.0, 1.0]
