"""Which way to solve is chosen, what it takes, and what is refused."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from skip2lora import MLP, _core, adapt
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.known_rows import RandomRows
from skip2lora.errors import DataError
from skip2lora.limits import VARIABLE
from skip2lora.training.exact_memory import CANDIDATES, ExactMemory, exact_memory


def rows(*widths: int, n_outputs: int = 4) -> RowFormat:
    return RowFormat(widths, n_outputs, 0, False, _core.RowLayout(widths, n_outputs, False))


def test_few_samples_are_the_coordinates_or_few_columns() -> None:
    assert exact_memory(rows(3000, 500), 200, 4, 1 << 40).solver == _core.SOLVE_DUAL
    assert exact_memory(rows(30, 5), 20000, 4, 1 << 40).solver == _core.SOLVE_PRIMAL


def test_the_next_quickest_is_taken_where_the_first_does_not_fit() -> None:
    layout, ways = rows(20000), []
    limit = 1 << 40
    while True:
        try:
            memory = exact_memory(layout, 20000, 4, limit)
        except DataError:
            break
        ways.append(memory.solver)
        assert memory.n_bytes <= limit
        assert memory == ExactMemory.of(memory.solver, layout, 20000, 4)
        assert memory.n_bytes == memory.workspace_bytes + 20000 * layout.row_bytes
        limit = memory.n_bytes - 1
    assert ways[0] == _core.SOLVE_DUAL
    assert ways[-1] == _core.SOLVE_SUBSET
    assert len(set(ways)) == len(ways)


def test_what_does_not_fit_says_what_would(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = rows(300)
    monkeypatch.setenv(VARIABLE, str(exact_memory(layout, 1000, 4, 1 << 40).n_bytes // 2))
    message = refused(DataError, exact_memory, layout, 100000, 4)
    assert message.startswith("100,000 samples of 300 columns take ")
    assert message.endswith(
        "pass fewer, tap fewer layers, set SKIP2LORA_MAX_BYTES to more, or pass solver='steps'"
    )
    fits = int(message.partition("which ")[2].partition(" ")[0].replace(",", ""))
    assert exact_memory(layout, fits, 4)
    assert refused(DataError, exact_memory, layout, fits + 1, 4)


@pytest.mark.parametrize(
    ("widths", "n_samples", "solver"),
    [((600, 900, 5), 400, _core.SOLVE_DUAL), ((30, 40, 3), 4000, _core.SOLVE_PRIMAL)],
)
@pytest.mark.parametrize("auto", [False, True])
def test_what_is_counted_is_about_what_is_taken(
    widths: tuple[int, ...], n_samples: int, solver: int, auto: bool
) -> None:
    """Beside what adapting takes anyway: samples that are checked and answered."""
    random, model = np.random.default_rng(0), MLP.create(widths)
    x = random.normal(size=(n_samples, widths[0])).astype(np.float32)
    y = x[:, : widths[-1]].argmax(axis=1)
    layout = RowFormat.of(model, copy_input=True)
    counted = exact_memory(layout, n_samples, widths[-1], n_designs=1 + auto)
    assert counted.solver == solver
    options = {"keep_outputs": False} if auto else {"solver": "exact"}
    tracemalloc.start()
    try:
        adapt(model, x, y, **options)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.25 < taken / (counted.n_bytes + 2 * x.nbytes) < 1.5


def test_few_samples_have_ten_folds_to_solve_at_once() -> None:
    """Each has its own workspace, beside that of all samples."""
    of_a_fold = _core.dual_bytes(100, 4, 2) - _core.dual_bytes(100, 4, 1)
    assert ExactMemory.of(_core.SOLVE_DUAL, rows(300), 100, 4).fits_bytes > 10 * of_a_fold


N_FITS = {100: 11, 101: 10}


def floats_by_hand(n: int, width: int, learned: int, designs: int, *, dual: bool) -> int:
    """Floats that are kept of fits: what each fold and all samples start from, and a path.

    There are ten folds of a hundred samples, nine of one more.

    ``lanes`` are samples with the padding that lets 8 of them be read at once.
    """
    lanes = -(-n // _core.SAMPLE_LANES) * _core.SAMPLE_LANES
    unknown = lanes if dual else width
    each_fit = unknown * learned + lanes * learned + lanes
    work = 2 * lanes * learned + 2 * width * learned
    if designs == 1:
        path = 7 * (unknown * learned + lanes * learned)
    else:
        path = 3 * (unknown * learned + 7 * (lanes * learned + 2 * lanes))
    return N_FITS[n] * each_fit + work + path


@pytest.mark.parametrize("designs", [1, 2, 5])
@pytest.mark.parametrize(("n", "width", "learned"), [(100, 300, 4), (101, 40, 3)])
def test_every_float_is_counted(n: int, width: int, learned: int, designs: int) -> None:
    layout = rows(width - 10, 10, n_outputs=learned)
    by_columns = ExactMemory.of(_core.SOLVE_PRIMAL, layout, n, learned, designs)
    want = floats_by_hand(n, width, learned, designs, dual=False)
    assert by_columns.fits_bytes == 4 * want
    assert by_columns.rows_bytes == n * layout.row_bytes
    assert by_columns.matrix_bytes == _core.solver_bytes(_core.SOLVE_PRIMAL, n, width, learned)
    lanes = -(-n // _core.SAMPLE_LANES) * _core.SAMPLE_LANES
    want = 4 * floats_by_hand(n, width, learned, designs, dual=True)
    want += _core.dual_bytes(n, learned, N_FITS[n]) - _core.dual_bytes(n, learned)
    want += 4 * (designs - 1) * n * lanes  # a Gram matrix a design
    for factored in (False, True):  # and a factor of one in double, with as much workspace
        of = ExactMemory.of(_core.SOLVE_DUAL, layout, n, learned, designs, factored)
        assert of.fits_bytes == want + 16 * n * lanes * factored


def test_many_samples_are_not_factored() -> None:
    for n, factored in ((2048, True), (2049, False)):
        sizes = [
            ExactMemory.of(_core.SOLVE_DUAL, rows(30), n, 4, 1, either).fits_bytes
            for either in (False, True)
        ]
        assert (sizes[0] < sizes[1]) == factored


def test_what_is_at_its_limit_fits() -> None:
    layout = rows(300)
    memory = exact_memory(layout, 1000, 4, 1 << 40)
    assert exact_memory(layout, 1000, 4, memory.n_bytes).solver == memory.solver
    least = min(
        ExactMemory.of(solver, layout, 1000, 4).n_bytes
        for solver in (_core.SOLVE_DUAL, _core.SOLVE_PRIMAL, _core.SOLVE_SUBSET)
    )
    with pytest.raises(DataError, match=f"take {least / 1e6:,.1f} MB to be solved exactly, exp"):
        exact_memory(layout, 1000, 4, least - 1)


def test_wide_taps_take_most_once_fits_are_done() -> None:
    """Adapters of each candidate are there beside the result, and both matrices."""
    rows = RowFormat.of(RandomRows((30_000,), 0), n_outputs=10, copy_input=True)
    memory = exact_memory(rows, 40, 10, n_designs=2)
    of_adapters = CANDIDATES * 30_000 * 10 * 4
    assert of_adapters < memory.result_bytes < 1.1 * of_adapters
    assert memory.result_bytes <= memory.workspace_bytes < 1.1 * memory.result_bytes
    many = exact_memory(rows, 900, 10, n_designs=2)
    assert many.workspace_bytes == many.matrix_bytes + many.fits_bytes > many.result_bytes
