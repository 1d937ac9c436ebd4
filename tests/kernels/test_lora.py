"""Eqs. 7-14 of every kernel table against the oracle."""

import numpy as np
import pytest

import oracle
from kernels.cases import (
    COUNTS,
    LORA_TYPES,
    OUTPUTS,
    RANKS,
    WIDTHS,
    absolutes,
    assert_close,
    half,
    normal,
)

SIZES = half(COUNTS, WIDTHS, RANKS)


@pytest.mark.parametrize("rank", RANKS)
def test_lora(table, rank):
    sizes = [(count, n_in) for count, n_in, of_size in SIZES if of_size == rank <= n_in]
    for number, (count, n_in) in enumerate(sizes):
        n_out = OUTPUTS[number % len(OUTPUTS)]
        x, wa, wb = normal(1, count, n_in), normal(2, n_in, rank), normal(3, rank, n_out)
        y, gy, gx = normal(4, count, n_out), normal(5, count, n_out), normal(6, count, n_in)
        what = f"{count} rows, ({n_in}, {rank}) . ({rank}, {n_out})"

        hidden, added = table.lora_forward(x, wa, wb, y)
        want_hidden, y_b = oracle.lora_forward(x, wa, wb)
        size_hidden, size_y = oracle.lora_forward(*absolutes(x, wa, wb))
        assert_close(hidden, want_hidden, size_hidden, f"hidden of {what}")
        assert_close(added, y + y_b, np.abs(y) + size_y, f"y of {what}")  # Eq. 9

        given = x, hidden, gy, wa, wb
        every = table.lora_backward("ywx", *given, gx)
        want = oracle.lora_backward("ywx", *given)
        size = oracle.lora_backward("ywx", *absolutes(*given))
        want["x"], size["x"] = gx + want["x"], np.abs(gx) + size["x"]  # Eq. 14
        assert set(every) == set(want)
        for name, grad in every.items():
            assert_close(grad, want[name], size[name], f"{name} of {what}")
        for types in (*LORA_TYPES, "yx", "y"):
            found = table.lora_backward(types, *given, gx)
            assert set(found) == {"gh"} | set("ab" * ("w" in types)) | set("x" * ("x" in types))
            for name, grad in found.items():
                assert grad.tobytes() == every[name].tobytes(), f"{name} of {types}, {what}"
