"""Times of convex fits that are measured on fewer samples than there will be."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from skip2lora import _core
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.known_rows import RandomRows
from skip2lora.tasks.task import PLAIN
from skip2lora.training.exact_memory import ExactMemory
from skip2lora.training.options import Options, resolve_options
from skip2lora.training.solve_time import _random_rows, _Work, solving_seconds

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


@pytest.mark.parametrize(
    ("seconds", "sizes", "want"),
    [
        ([0.2, 9], [16], 0.2 * 6.25),  # twice the samples could take longer than it may
        ([0.1, 0.2, 9], [16, 32], 0.2 + 0.1 / 16 * 68),
        ([0.01, 0.05, 0.09, 0.1], [16, 32, 64, 100], 0.1),  # all there will be
        ([0.1, 0.05, 9, 9, 9], [16, 32, 64], 9.0 + 8.95 / 32 * 36),
    ],
)
def test_samples_are_doubled_while_that_is_quick(
    seconds: list[float], sizes: list[int], want: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "skip2lora.training.exact_memory._quickest",
        lambda *_: ExactMemory(_core.SOLVE_PRIMAL, 0, 0, 0),
    )
    monkeypatch.setattr("skip2lora.training.solve_time._FIRST", 16)
    asked: list[int] = []

    def of(model: Any, options: Any, few: int, goal: Any, solver: int) -> _Work:
        asked.append(few)
        return _Work(None, few, 0, seconds[max(0, len(asked) - 2)])  # type: ignore[arg-type]

    monkeypatch.setattr(_Work, "of", of)
    got = solving_seconds(RandomRows(WIDTHS, 3), by(None, WIDTHS, 100), 100)
    assert asked == [16, *sizes]
    assert got == pytest.approx(want)


def test_times_are_those_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by three seconds whenever it is asked."""
    options, model = by(None, WIDTHS, 40), RandomRows(WIDTHS, 3)
    monkeypatch.setattr("time.thread_time", itertools.count(5, 3).__next__)
    work = _Work.of(model, options, 40, PLAIN, _core.SOLVE_DUAL)
    assert (work.n_samples, work.seconds) == (40, 3)
    assert work.iterations == sum(point.iterations for point in work.job.points) > 0
    monkeypatch.setattr("skip2lora.training.fits.Fits.solve", lambda self, *_: 4)
    assert work.squared_seconds() == 3 + work.iterations * 3 / 4
    monkeypatch.setattr("skip2lora.training.fits.Fits.solve", lambda self, *_: 0)
    assert work.squared_seconds() == 3 + work.iterations * 3


@pytest.mark.parametrize(("n_outputs", "few", "n_classes"), [(3, 40, 3), (9, 40, 4), (9, 8, 2)])
def test_rows_of_classes_that_every_fold_has(
    n_outputs: int, few: int, n_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are outputs, and a sample of each class a fold; two at least."""
    counts: list[int] = []

    def random_rows(rows: Any, labels: np.ndarray) -> np.ndarray:
        counts.extend(np.bincount(labels))
        return _random_rows(rows, labels)

    monkeypatch.setattr("skip2lora.training.solve_time._random_rows", random_rows)
    model = RandomRows(WIDTHS, n_outputs)
    _Work.of(model, by(None, WIDTHS, few), few, PLAIN, _core.SOLVE_DUAL)
    assert (len(counts), sum(counts)) == (n_classes, few)
    assert max(counts) - min(counts) <= 1


def test_rows_differ_less_in_each_direction() -> None:
    labels = np.arange(4000, dtype=np.int32) % 2
    layout = RowFormat((300,), 2, 0, False, _core.RowLayout((300,), 2, False))
    rows = _random_rows(layout, labels)
    assert rows.shape == layout.empty(4000).shape
    np.testing.assert_array_equal(rows, _random_rows(layout, labels))
    within = rows - np.stack([rows[labels == of].mean(axis=0) for of in (0, 1)])[labels]
    spread = np.linalg.svd(within, compute_uv=False)[:80] ** 2 / 4000
    assert spread[0] / spread[7] == pytest.approx(8, rel=0.5)  # variances as 1/k
    noise = 300 * 0.3**2 / 12 / 300  # uniform from 0 to 0.3, in each of the other directions
    assert spread[64:].mean() == pytest.approx(noise, rel=0.5)
