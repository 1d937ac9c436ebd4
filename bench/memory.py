"""A cache beyond the processor's: the fused step on rows in random order, beside a plain sum.

    python bench/memory.py [--rounds 5] [--quick] [--json]

1,000,000 rows of 448 floats (taps of 256, 96 and 96) and the base logits, 1.9 GB. The plain sum
reads the same 448 floats of the same pages in the very order of the step's epoch, without prefetch;
it is C (bench/plain_sum.c), compiled here with cc -O3. The step's time is that of a whole epoch,
the drawing of the order included. "In cache" is the same step on 470 rows.
"""

from __future__ import annotations

import harness  # first: one thread

# isort: split
import ctypes
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from harness import BATCH, RANK, RATE, Side, options
from skip2lora import _core
from skip2lora.adapters.rows import RowFormat

TAPS, N_OUTPUTS = (256, 96, 96), 3
WIDTH = sum(TAPS)
MOST_RATIO = 0.9
SEED = 0


def compile_sum(folder: Path) -> Any:
    """The C function plain_sum."""
    library = folder / "plain_sum.so"
    source = Path(__file__).with_name("plain_sum.c")
    subprocess.run(["cc", "-O3", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).plain_sum
    function.restype = ctypes.c_float
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_size_t] * 3]
    return function


class Cached:
    """Rows of random numbers in a full cache, as a backbone that gives its own taps leaves them."""

    def __init__(self, n_rows: int) -> None:
        layout = _core.RowLayout(TAPS, N_OUTPUTS, False)
        self.format = RowFormat(TAPS, N_OUTPUTS, 0, False, layout)
        self.rows = self.format.empty(n_rows)
        random = np.random.default_rng(0)
        self.labels = random.integers(0, N_OUTPUTS, n_rows, dtype=np.int32)
        block = random.standard_normal((1000, layout.row_stride), dtype=np.float32)
        for at in range(0, n_rows, len(block)):
            self.rows[at : at + len(block)] = block[: n_rows - at]
        self.x = np.zeros((n_rows, 1), np.float32)  # no tap is the sample itself
        self.adapter = _core.SkipAdapter(layout, RANK)
        self.adapter.init(SEED)

    def _trainer(self) -> _core.SkipTrainer:
        """A fresh one draws the same order in its first epoch."""
        return _core.SkipTrainer(self.adapter, BATCH, options().core_optimizer(), SEED)

    def step(self, epochs: int = 1) -> Side:
        source = _core.RowSource(
            self.format.layout, self.rows, np.ones(len(self.rows), np.uint8), _refuse
        )

        def run() -> None:
            trainer = self._trainer()
            for _ in range(epochs):
                trainer.epoch(self.x, self.labels, source, RATE)

        return Side(run, epochs * len(self.rows))

    def order(self) -> np.ndarray:
        """The order of that first epoch, as the samples are asked for where there is no cache."""
        asked: list[np.ndarray] = []

        def record(indices: np.ndarray, rows: np.ndarray) -> None:
            asked.append(indices.copy())
            rows[...] = 0

        nothing = np.empty((0, self.format.layout.row_stride), np.float32)
        source = _core.RowSource(self.format.layout, nothing, np.empty(0, np.uint8), record)
        self._trainer().epoch(self.x, self.labels, source, RATE)
        return np.concatenate(asked)

    def sum(self, function: Any, order: np.ndarray) -> Side:
        arguments = (
            self.rows.ctypes.data, order.ctypes.data, len(order), self.format.layout.row_stride,
            WIDTH,
        )  # fmt: skip
        return Side(lambda: function(*arguments), len(order))


def _refuse(indices: np.ndarray, rows: np.ndarray) -> None:
    del rows
    raise RuntimeError(f"{len(indices)} rows are not in the cache")


def huge_kib() -> int:
    """How much of this process lies on huge pages."""
    try:
        text = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = [line.split()[1] for line in text.splitlines() if line.startswith("AnonHugePages")]
    return int(found[0]) if found else 0


def measure(arguments: Any) -> dict[str, Any]:
    n_rows = 20_000 if arguments.quick else 1_000_000
    small, large = Cached(470), Cached(n_rows)
    order = large.order()
    straight = np.arange(n_rows, dtype=np.uint32)
    with tempfile.TemporaryDirectory() as folder:
        function = compile_sum(Path(folder))
        check(function, large, order)
        sides = {
            "step, random order": large.step(),
            "plain sum, random order": large.sum(function, order),
            "plain sum, sequential": large.sum(function, straight),
            "step, in cache": small.step(epochs=1000),
        }
        took = harness.in_turn(sides, rounds=arguments.rounds, seconds=0.0)
    ratio = harness.ratios(took["step, random order"], took["plain sum, random order"])
    return {
        "versions": {"numpy": np.__version__},
        "threads": {"skip2lora": 1, "plain sum": 1},
        "n_rows": n_rows,
        "row_floats": WIDTH,
        "bytes": large.rows.nbytes,
        "huge_page_share": round(min(1.0, 1024 * huge_kib() / large.rows.nbytes), 3),
        "ns_a_row": {name: harness.spread(of, 1e9) for name, of in took.items()},
        "ratio": ratio,
        "targets": [
            harness.target(
                f"{n_rows:,} rows in random order: step over plain sum",
                ratio["median"], MOST_RATIO, at_least=False,
            )
        ],
    }  # fmt: skip


def check(function: Any, of: Cached, order: np.ndarray) -> None:
    """The order is a permutation, and the sum reads what it should."""
    assert np.array_equal(np.sort(order), np.arange(len(order)))
    few = order[:10]
    got = of.sum(function, few).run()
    expected = of.rows[few, :WIDTH].astype(np.float64).sum()
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-2)


def lines(result: dict[str, Any]) -> list[str]:
    made = [
        f"{result['n_rows']:,} rows of {result['row_floats']} floats, "
        f"{result['bytes'] / 1e9:.2f} GB, {100 * result['huge_page_share']:.0f} % of it on huge "
        f"pages, rank {RANK}, batch {BATCH}; threads: {result['threads']}"
    ]
    made += [f"  {name:<24} {harness.shown(of, 'ns a row')}" for name, of in
             result["ns_a_row"].items()]  # fmt: skip
    made.append(f"  step over sum, random order: {harness.shown(result['ratio'])}")
    return made


if __name__ == "__main__":
    harness.run(__doc__, measure, lines)
