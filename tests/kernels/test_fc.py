"""Eqs. 1-4 of every kernel table against the oracle."""

import pytest

import oracle
from kernels.cases import COUNTS, FC_TYPES, OUTPUTS, WIDTHS, absolutes, assert_close, half, normal

SIZES = half(COUNTS, WIDTHS, OUTPUTS)


@pytest.mark.parametrize("n_out", OUTPUTS)
def test_fc(table, n_out):
    for count, n_in in [sizes[:2] for sizes in SIZES if sizes[2] == n_out]:
        x, weight, bias = normal(1, count, n_in), normal(2, n_in, n_out), normal(3, n_out)
        gy, what = normal(4, count, n_out), f"({count}, {n_in}) . ({n_in}, {n_out})"

        y = table.fc_forward(x, weight, bias)
        magnitude = oracle.fc_forward(*absolutes(x, weight, bias))
        assert_close(y, oracle.fc_forward(x, weight, bias), magnitude, what)

        every = table.fc_backward("ywbx", x, gy, weight)
        expected = oracle.fc_backward("ywbx", x, gy, weight)
        magnitudes = oracle.fc_backward("ywbx", *absolutes(x, gy, weight))
        for name in "wbx":
            assert_close(every[name], expected[name], magnitudes[name], f"g{name} of {what}")
        for types in FC_TYPES:
            found = table.fc_backward(types, x, gy, weight)
            assert set(found) == set(types) - {"y"}
            for name, grad in found.items():
                assert grad.tobytes() == every[name].tobytes(), f"g{name} of {types}, {what}"
