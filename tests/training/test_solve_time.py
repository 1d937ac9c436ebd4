"""Times of convex fits that are measured on fewer samples than there will be."""

from __future__ import annotations

from typing import Any

import pytest

from skip2lora import _core
from skip2lora.backbones.standins import RandomRows
from skip2lora.training.exact_memory import ExactMemory
from skip2lora.training.options import Options, resolve_options
from skip2lora.training.solve_time import _Work, solving_seconds

WIDTHS = (9, 16, 5, 3)


def by(recipe: str | None, widths: tuple[int, ...], n_samples: int) -> Options:
    how: dict[str, Any] = {"recipe": "auto"} if recipe else {"solver": "exact"}
    return resolve_options(RandomRows(widths, 3).recipe, widths, n_samples, **how)


@pytest.mark.parametrize("recipe", ["auto", None])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_more_samples_take_longer(recipe: str | None, n_outputs: int) -> None:
    model = RandomRows(WIDTHS, n_outputs)
    few, many = (solving_seconds(model, by(recipe, WIDTHS, n), n) for n in (20, 20000))
    assert 0 < few < many


@pytest.mark.parametrize(
    ("solver", "samples", "times"),
    [("SOLVE_DUAL", [256], 100.0), ("SOLVE_PRIMAL", [256], 10.0), ("SOLVE_SUBSET", [256], 10.0)],
)
def test_growth_is_what_the_solver_counts(
    solver: str, samples: list[int], times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of work that is all Gram matrix, with the square; where columns are solved for, with them."""
    monkeypatch.setattr(
        "skip2lora.training.exact_memory._quickest",
        lambda rows, n, m, *_: ExactMemory.of(getattr(_core, solver), rows, n, m),
    )
    sizes: list[int] = []

    def of(model: Any, options: Any, few: int, goal: Any, solver: int) -> _Work:
        sizes.append(few)
        return _Work(None, few, 0, 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(_Work, "of", of)
    monkeypatch.setattr(_Work, "squared_seconds", lambda self: 1.0)
    assert solving_seconds(RandomRows(WIDTHS, 3), by(None, WIDTHS, 2560), 2560) == times
    assert sizes == 2 * samples  # once to warm up


@pytest.mark.parametrize(
    ("width", "n_outputs", "n_samples", "few"),
    [(20, 3, 40, 40), (20, 3, 20000, 256), (20, 100, 20000, 100), (1 << 19, 3, 20000, 31)],
)
def test_few_samples_are_measured_first(
    width: int, n_outputs: int, n_samples: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "skip2lora.training.exact_memory._quickest",
        lambda *_: ExactMemory(_core.SOLVE_PRIMAL, 0, 0, 0),
    )
    sizes: list[int] = []

    def of(model: Any, options: Any, few: int, goal: Any, solver: int) -> _Work:
        sizes.append(few)
        return _Work(None, few, 0, 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(_Work, "of", of)
    solving_seconds(RandomRows((width,), n_outputs), by(None, (width,), n_samples), n_samples)
    assert set(sizes) == {few}
