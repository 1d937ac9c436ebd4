"""Lab sets on the command line: put beside a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skip2lora.cli import common
from skip2lora.files import check_output
from skip2lora.training.lab_set import LabSet
from skip2lora.training.rehearsal import lab_set_beside


def check_lab_set(model: Path, count: int | None, *, force: bool) -> None:
    """Refuse, before any long work, what cannot be put beside ``model``; None is nothing.

    Raises:
        FileError: as :func:`~skip2lora.files.check_output`.
    """
    if count is not None:
        check_output(lab_set_beside(model), force=force)


def save_lab_set(model: Path, lab_set: LabSet | None) -> dict[str, Any] | None:
    """Write it beside ``model``; what there is to say of it."""
    if lab_set is None:
        return None
    file = lab_set_beside(model)
    lab_set.save(file)
    return {"output": str(file), "n_samples": len(lab_set), "bytes": file.stat().st_size}


def lab_set_lines(facts: dict[str, Any] | None) -> list[str]:
    """The same for a person."""
    if facts is None:
        return []
    size = common.size(facts["bytes"])
    return [f"{facts['output']}: lab set, rows of {facts['n_samples']:,} samples, {size}"]
