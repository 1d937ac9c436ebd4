"""Operations by formula against a counter in the loops of the scalar kernels."""

from __future__ import annotations

import ctypes
import subprocess
from ctypes import c_int, c_uint32, c_void_p
from pathlib import Path

import numpy as np
import pytest
from numpy.ctypeslib import ndpointer

from skip2lora.paper.costs import FC_TYPES, LORA_TYPES, Cost, fc_cost, lora_cost, method_costs

CORE = Path(__file__).parents[2] / "core"
FLAGS = {"y": 1, "w": 2, "b": 4, "x": 8}
FLOATS = ndpointer(np.float32, flags="C_CONTIGUOUS")
SIZES = [(20, 256, 96), (1, 7, 3), (5, 96, 3)]


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The core built to count, with the counter in a file of its own."""
    folder = tmp_path_factory.mktemp("counting")
    counter = folder / "counter.c"
    counter.write_text("#include <stdint.h>\nuint64_t s2_operations;\n")
    library = folder / "libcounting.so"
    sources = [str(path) for path in sorted((CORE / "src").glob("*.c"))]
    subprocess.run(
        ["gcc", "-std=c99", "-O1", "-fPIC", "-shared", "-DS2_COUNT_OPERATIONS",
         f"-I{CORE / 'include'}", *sources, str(counter), "-lm", "-o", str(library)],
        check=True,
    )  # fmt: skip
    core = ctypes.CDLL(str(library))
    core.s2_kernels_choose.restype = c_void_p
    u32 = c_uint32
    core.s2_fc_forward.argtypes = (c_void_p, u32, u32, u32, *[FLOATS] * 4)
    core.s2_fc_backward.argtypes = (c_void_p, c_int, u32, u32, u32, *[FLOATS] * 7)
    core.s2_lora_forward.argtypes = (c_void_p, u32, u32, u32, u32, *[FLOATS] * 5)
    core.s2_lora_backward.argtypes = (c_void_p, c_int, u32, u32, u32, u32, *[FLOATS] * 10)
    return core


def count(core: ctypes.CDLL, call: object, *arguments: object) -> int:
    counter = ctypes.c_uint64.in_dll(core, "s2_operations")
    counter.value = 0
    call(core.s2_kernels_choose(b"scalar"), *arguments)  # type: ignore[operator]
    return counter.value


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("types", FC_TYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_fc(counting: ctypes.CDLL, types: str, sizes: tuple[int, int, int]) -> None:
    batch, n_in, n_out = sizes
    x, weight, bias, y = zeros(batch, n_in), zeros(n_in, n_out), zeros(n_out), zeros(batch, n_out)
    forward = count(counting, counting.s2_fc_forward, *sizes, x, weight, bias, y)
    flags = sum(FLAGS[letter] for letter in types)
    grads = (zeros(n_in, n_out), zeros(n_out), zeros(batch, n_in), zeros(n_in, n_out))
    backward = count(counting, counting.s2_fc_backward, flags, *sizes, x, y, weight, *grads)
    cost = fc_cost(types, *sizes)
    assert (cost.forward, cost.backward) == (forward, backward)


@pytest.mark.parametrize("types", LORA_TYPES)
@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_lora(counting: ctypes.CDLL, types: str, rank: int, sizes: tuple[int, int, int]) -> None:
    batch, n_in, n_out = sizes
    x, y, gx = zeros(batch, n_in), zeros(batch, n_out), zeros(batch, n_in)
    wa, wb, hidden = zeros(n_in, rank), zeros(rank, n_out), zeros(batch, rank)
    forward = count(counting, counting.s2_lora_forward, *sizes, rank, x, wa, wb, hidden, y)
    flags = sum(FLAGS[letter] for letter in types)
    grads = (zeros(batch, rank), zeros(n_in, rank), zeros(rank, n_out), gx, zeros(rank * 300))
    backward = count(
        counting, counting.s2_lora_backward, flags, *sizes, rank, x, hidden, y, wa, wb, *grads
    )
    cost = lora_cost(types, *sizes, rank)
    assert (cost.forward, cost.backward) == (forward, backward)


def test_bytes_are_those_of_the_arrays() -> None:
    assert fc_cost("y", 1, 2, 3).n_bytes == 4 * (2 + 6 + 3 + 3)
    assert fc_cost("ywbx", 1, 2, 3).n_bytes == 4 * (2 + 6 + 3 + 3 + 3 + 6 + 3 + 2)
    assert lora_cost("yw", 1, 2, 3, 1).n_bytes == 4 * (2 + 1 + 3 + 2 + 3 + 3 + 1 + 2 + 3)
    assert lora_cost("", 1, 2, 3, 1) == Cost()


def test_methods_of_the_fan_network() -> None:
    costs = method_costs([256, 96, 96, 3], batch=20, rank=4, epochs=300)
    forward = 2 * 20 * (256 * 96 + 96 * 96 + 96 * 3)
    skip = 2 * 20 * 4 * (256 + 96 + 96 + 3 * 3)
    assert costs["ft-all"].forward == costs["ft-last"].forward == forward
    assert costs["skip-lora"].forward == forward + skip
    assert costs["skip2-lora"].forward == pytest.approx(forward / 300 + skip, abs=3)
    assert costs["skip2-lora"].backward == costs["skip-lora"].backward
    all_, skip2 = costs["lora-all"], costs["skip2-lora"]
    # What arithmetic alone allows: 92.5 % less than LoRA-All.
    saved = 1 - (skip2.forward + skip2.backward) / (all_.forward + all_.backward)
    assert saved == pytest.approx(0.925, abs=0.01)
