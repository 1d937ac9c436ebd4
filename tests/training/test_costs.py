"""Operations by formula against a counter in the loops of the scalar kernels."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kernels.calls import Table, fc_pass, lora_pass
from kernels.core_api import SIGNATURES
from kernels.methods import METHODS as ROWS
from kernels.methods import SKIP_LORA, make_params
from kernels.networks import Layout, Network, SkipAdapter
from skip2lora.training.costs import FC_TYPES, LORA_TYPES, Cost, fc_cost, lora_cost, method_costs

CORE = Path(__file__).parents[2] / "core"
FLAGS = {"y": 1, "w": 2, "b": 4, "x": 8}
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
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(core, name)
        function.restype, function.argtypes = result, arguments
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
    grads = {"gw": zeros(n_in, n_out), "gb": zeros(n_out), "gx": zeros(batch, n_in)}
    given = fc_pass(x, weight, bias=bias, y=y, gy=y, **grads)
    forward = count(counting, counting.s2_fc_forward, given)
    flags = sum(FLAGS[letter] for letter in types)
    backward = count(counting, counting.s2_fc_backward, flags, given)
    cost = fc_cost(types, *sizes)
    assert (cost.forward, cost.backward) == (forward, backward)


@pytest.mark.parametrize("types", LORA_TYPES)
@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_lora(counting: ctypes.CDLL, types: str, rank: int, sizes: tuple[int, int, int]) -> None:
    batch, n_in, n_out = sizes
    x, y, gx = zeros(batch, n_in), zeros(batch, n_out), zeros(batch, n_in)
    wa, wb, hidden = zeros(rank, n_in), zeros(rank, n_out), zeros(batch, rank)
    grads = {"gh": zeros(batch, rank), "gwa": zeros(rank, n_in), "gwb": zeros(rank, n_out)}
    given = lora_pass(x, wa, wb, hidden=hidden, y=y, gy=y, gx=gx, **grads)
    forward = count(counting, counting.s2_lora_forward, given)
    flags = sum(FLAGS[letter] for letter in types)
    backward = count(counting, counting.s2_lora_backward, flags, given)
    cost = lora_cost(types, *sizes, rank)
    assert (cost.forward, cost.backward) == (forward, backward)


def touched_bytes(call: Callable[[list[np.ndarray]], None], arrays: list[np.ndarray]) -> int:
    """Bytes of the arrays that the call writes, or reads: a NaN in one comes out in another."""

    def run(poisoned: int | None) -> list[np.ndarray]:
        mine = [array.copy() for array in arrays]
        if poisoned is not None:
            mine[poisoned][...] = np.nan
        call(mine)
        return mine

    clean = run(None)
    total = 0
    for number, array in enumerate(arrays):
        written = not np.array_equal(clean[number], array)
        after = run(number)
        others = [a for at, a in enumerate(after) if at != number]
        if written or any(np.isnan(other).any() for other in others):
            total += array.nbytes
    return total


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("types", FC_TYPES)
def test_bytes_of_fc(counting: ctypes.CDLL, types: str) -> None:
    batch, n_in, n_out = sizes = (5, 7, 3)
    kernels = counting.s2_kernels_choose(b"scalar")
    flags = sum(FLAGS[letter] for letter in types)

    def call(of: list[np.ndarray]) -> None:
        x, weight, bias, y, gy, gw, gb, gx = of
        given = fc_pass(x, weight, bias=bias, y=y, gy=gy, gw=gw, gb=gb, gx=gx)
        counting.s2_fc_forward(kernels, given)
        counting.s2_fc_backward(kernels, flags, given)

    shapes = [(batch, n_in), (n_in, n_out), (n_out,), (batch, n_out), (batch, n_out)]
    arrays = [random(*shape) for shape in (*shapes, (n_in, n_out), (n_out,), (batch, n_in))]
    assert touched_bytes(call, arrays) == fc_cost(types, *sizes).n_bytes


@pytest.mark.parametrize("types", LORA_TYPES)
def test_bytes_of_lora(counting: ctypes.CDLL, types: str) -> None:
    batch, n_in, n_out = sizes = (5, 7, 3)
    rank, kernels = 2, counting.s2_kernels_choose(b"scalar")
    flags = sum(FLAGS[letter] for letter in types)

    def call(of: list[np.ndarray]) -> None:
        x, wa, wb, hidden, y, gy, gh, gwa, gwb, gx = of
        given = lora_pass(x, wa, wb, hidden=hidden, y=y, gy=gy, gh=gh, gwa=gwa, gwb=gwb, gx=gx)
        counting.s2_lora_forward(kernels, given)
        counting.s2_lora_backward(kernels, flags, given)

    shapes = [(batch, n_in), (rank, n_in), (rank, n_out), (batch, rank), (batch, n_out)]
    shapes += [(batch, n_out), (batch, rank), (rank, n_in), (rank, n_out), (batch, n_in)]
    arrays = [random(*shape) for shape in shapes]
    assert touched_bytes(call, arrays) == lora_cost(types, *sizes, rank).n_bytes


WIDTHS, BATCH, RANK = (33, 16, 9, 5), 24, 3  # a batch that fills its lanes


@pytest.mark.parametrize(
    "name", ["ft-all", "ft-last", "ft-bias", "ft-all-lora", "lora-all", "lora-last"]
)
def test_methods_through_the_network(counting: ctypes.CDLL, name: str) -> None:
    """One step counted, without batch norm, which Table 1 leaves out."""
    rows = [row | {"bn": ""} for row in ROWS[name].rows(len(WIDTHS) - 1)]
    network = Network(Table(counting, "scalar"), make_params(WIDTHS, rows, RANK, batch_norm=False))
    counter = ctypes.c_uint64.in_dll(counting, "s2_operations")
    counter.value = 0
    network.step(rows, random(BATCH, WIDTHS[0]), np.arange(BATCH) % WIDTHS[-1], 0.01)
    costs = method_costs(WIDTHS, batch=BATCH, rank=RANK, epochs=1)
    assert counter.value == costs[name].operations


def test_skip_methods(counting: ctypes.CDLL) -> None:
    rows = SKIP_LORA.rows(len(WIDTHS) - 1)
    table = Table(counting, "scalar")
    params = make_params(WIDTHS, rows, RANK, batch_norm=False, lora_to_last=True)
    bare = [layer | {"lora_a": None, "lora_b": None} for layer in params]
    x, layout = random(BATCH, WIDTHS[0]), Layout(counting, WIDTHS[:-1], WIDTHS[-1])
    counter = ctypes.c_uint64.in_dll(counting, "s2_operations")
    counter.value = 0
    computed = np.array(Network(table, bare).forward(x, layout))
    forward, counter.value = counter.value, 0
    SkipAdapter(table, layout, params).step(x, computed, np.arange(BATCH) % WIDTHS[-1], 0.01)
    costs = method_costs(WIDTHS, batch=BATCH, rank=RANK, epochs=None)
    assert forward + counter.value == costs["skip-lora"].operations
    assert counter.value == costs["skip2-lora"].operations  # all but the first epoch


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
    saved = 1 - skip2.operations / all_.operations
    assert saved == pytest.approx(0.925, abs=0.01)
