"""Types of the compiled core (bindings/core.cpp). Arrays are C-contiguous and never converted."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

OK: int
NOT_FINITE: int
Y: int
W: int
B: int
X: int
STATS: int
PIN: int
FIFO: int
LRU: int
SGD: int
MOMENTUM: int
ADAM: int
SOFTMAX: int
SIGMOID: int
SQUARED: int
SOLVE_NONE: int
SOLVE_DUAL: int
SOLVE_PRIMAL: int
SOLVE_SUBSET: int
SAMPLE_LANES: int

_Float = NDArray[np.float32]
_Double = NDArray[np.float64]
_Layer = tuple[
    _Float,
    _Float,
    _Float | None,
    _Float | None,
    _Float | None,
    _Float | None,
    _Float | None,
    _Float | None,
]

def kernel_tables() -> list[str]: ...
def kernels() -> str: ...
def pool(
    maps: NDArray[np.generic], grid: tuple[int, int], scale: float, zero_point: int, rows: _Float
) -> None: ...
def crc32(content: NDArray[np.uint8] | memoryview | bytes, before: int = 0) -> int: ...
def block_sums(
    samples: NDArray[np.uint8], key: NDArray[np.uint32], sums: NDArray[np.uint64]
) -> None: ...
def floats(data: list[object], out: _Float) -> bool: ...
def peak_gflops(seconds: float) -> float: ...
def fc_forward(x: _Float, weight: _Float, bias: _Float, y: _Float) -> None: ...
def fc_backward(
    x: _Float,
    gy: _Float,
    weight: _Float,
    gw: _Float | None,
    gb: _Float | None,
    gx: _Float | None,
) -> None: ...

class RowLayout:
    def __init__(
        self, tap_widths: Sequence[int], n_outputs: int, first_tap_is_input: bool
    ) -> None: ...
    @property
    def tap_offsets(self) -> list[int]: ...
    @property
    def logits_offset(self) -> int: ...
    @property
    def n_outputs(self) -> int: ...
    @property
    def row_stride(self) -> int: ...

class Network:
    def __init__(self, layers: Sequence[_Layer], bn_eps: float, bn_momentum: float) -> None: ...
    def forward(
        self,
        x: _Float,
        layout: RowLayout,
        first_tap: int,
        rows: _Float,
        at_a_time: int = ...,
        column: int = ...,
    ) -> None: ...

class SkipAdapter:
    def __init__(self, layout: RowLayout, rank: int, loss: int = ..., bias: bool = ...) -> None: ...
    @property
    def n_bytes(self) -> int: ...
    def set_bias(self, bias: _Float) -> None: ...
    def get_bias(self, bias: _Float) -> None: ...
    def init(self, seed: int) -> None: ...
    def pack(self, tap: int, lora_a: _Float, lora_b: _Float) -> None: ...
    def unpack(self, tap: int, lora_a: _Float, lora_b: _Float) -> None: ...
    def forward(self, x: _Float, rows: _Float, logits: _Float, at_a_time: int = ...) -> None: ...

FLOAT16: int
BFLOAT16: int
INT8: int
INT4: int

def coded_row_bytes(layout: RowLayout, dtype: int) -> int: ...
def code_bytes(dtype: int, n_columns: int) -> int: ...
def code_limit(dtype: int) -> float: ...
def code_scales(dtype: int, ranges: _Float, scales: _Float) -> None: ...

class CodedRows:
    def __init__(
        self,
        layout: RowLayout,
        dtype: int,
        rows: NDArray[np.uint8],
        scale: _Float,
        offset: _Float,
    ) -> None: ...
    def encode(self, first: int, rows: _Float) -> None: ...
    def decode(self, first: int, rows: _Float) -> None: ...
    def gather(self, places: NDArray[np.uint32], rows: _Float) -> None: ...

class RowSource:
    def __init__(
        self,
        layout: RowLayout,
        rows: _Float | CodedRows,
        filled: NDArray[np.uint8],
        forward: Network | Callable[[NDArray[np.uint32], _Float], None],
        policy: int = ...,
        tables: NDArray[np.uint32] | None = ...,
        announce: Callable[[NDArray[np.uint32]], None] | None = ...,
    ) -> None: ...

class Optimizer:
    """A rule and its numbers, and the steps of whoever trains with a copy of it."""

    def __init__(
        self,
        rule: int,
        beta1: float = ...,
        beta2: float = ...,
        eps: float = ...,
        weight_decay: float = ...,
        decoupled: bool = ...,
    ) -> None: ...

class Epoch:
    """What one epoch gave. ``status`` is OK or NOT_FINITE; ``loss`` the mean over its samples."""

    @property
    def status(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def n_correct(self) -> int: ...
    @property
    def n_seen(self) -> int: ...
    @property
    def n_batches(self) -> int: ...
    @property
    def n_forward(self) -> int: ...
    @property
    def forward_seconds(self) -> float: ...
    def __init__(self) -> None:
        """Of no samples yet."""

    def then(self, next: Epoch, n_read: int, seconds: float) -> Epoch:
        """As if ``next`` were the rest of this epoch; ``n_read`` rows were got in ``seconds``."""

class Profile:
    def __init__(self, phases: bool = ..., n_layers: int = ...) -> None: ...
    @property
    def total_ns(self) -> float: ...
    @property
    def phases_ns(self) -> list[float]: ...
    @property
    def parts_ns(self) -> list[list[list[float]]]: ...

class SkipTrainer:
    def __init__(
        self,
        adapter: SkipAdapter,
        batch_size: int,
        optimizer: Optimizer,
        seed: int,
        profile: Profile | None = ...,
    ) -> None: ...
    @property
    def state_bytes(self) -> int: ...
    def workspace_bytes(self, n_samples: int, n_features: int) -> int: ...
    @property
    def reserved_bytes(self) -> int: ...
    def epoch(
        self,
        x: _Float,
        y: NDArray[np.int32] | _Float,
        source: RowSource,
        learning_rate: float,
        weight: _Float | None = ...,
    ) -> Epoch: ...
    @property
    def state_floats(self) -> int: ...
    def copy_state(self, floats: _Float) -> tuple[int, float, float]: ...
    def restore_state(self, numbers: tuple[int, float, float], floats: _Float) -> None: ...

class NetworkTrainer:
    def __init__(
        self,
        network: Network,
        rows: Sequence[tuple[int, int, int]],
        batch_size: int,
        optimizer: Optimizer,
        seed: int,
        profile: Profile | None = ...,
        loss: int = ...,
    ) -> None: ...
    def epoch(
        self,
        x: _Float,
        y: NDArray[np.int32] | _Float,
        source: RowSource | None,
        learning_rate: float,
        weight: _Float | None = ...,
    ) -> Epoch: ...
    @property
    def state_floats(self) -> int: ...
    def copy_state(self, floats: _Float) -> tuple[int, float, float]: ...
    def restore_state(self, numbers: tuple[int, float, float], floats: _Float) -> None: ...

class Ridge:
    def __init__(self, capacity: int) -> None: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...
    def factorize(self, gram: _Float, weights: _Float | None, shift: float) -> None: ...
    def append(self, products: _Float, weight: float = ...) -> None: ...
    def remove(self, sample: int) -> None: ...
    def solve(self, targets: _Float, coefficients: _Float, bias: _Float) -> None: ...
    def leave_one_out(self, coefficients: _Float, residuals: _Float) -> None: ...
    def leave_out(
        self, samples: NDArray[np.uint32], coefficients: _Float, residuals: _Float
    ) -> None: ...

class ColumnMoments:
    """Mean and biased variance of the columns of rows that come in chunks."""

    def __init__(self, width: int) -> None: ...
    def add(self, rows: _Float, weights: _Float | None = ...) -> None: ...
    @property
    def total(self) -> float: ...
    def finish(self, mean: _Double, var: _Double) -> None: ...

def scale_rows(rows: _Float, mean: _Float, scale: _Float) -> None: ...
def gram_add(
    rows: _Float | CodedRows, first: int, width: int, mean: _Float, scale: _Float, gram: _Float
) -> None: ...
def gram_trace(gram: _Float) -> float: ...
def gram_finish(gram: _Float, factor: float) -> None: ...
def column_weights(
    rows: _Float | CodedRows,
    first: int,
    width: int,
    mean: _Float,
    scale: _Float,
    coefficients: _Float,
    weights: _Float,
) -> None: ...
def dual_bytes(n_samples: int, n_outputs: int, n_problems: int = ...) -> int: ...

class DualReport:
    """``decrement`` is about twice what the objective has above its least."""

    @property
    def iterations(self) -> int: ...
    @property
    def objective(self) -> float: ...
    @property
    def decrement(self) -> float: ...
    @property
    def converged(self) -> bool: ...

class DualProblem:
    """Weighted fits on a Gram matrix; the arrays are kept and must not change.

    With weights (problems, lanes) there are several, whose arrays follow each other:
    coefficients (problems * outputs, lanes). Samples that are held out together cost less where
    they lie side by side.
    """

    def __init__(
        self,
        gram: _Float,
        loss: int,
        targets: _Float,
        weights: _Float,
        offsets: _Float | None = ...,
    ) -> None: ...
    def solve(
        self,
        penalty: float,
        tolerance: float,
        coefficients: _Float,
        products: _Float,
        bias: _Float,
    ) -> DualReport: ...
    def solve_all(
        self,
        penalty: float,
        tolerance: float,
        coefficients: _Float,
        products: _Float,
        bias: _Float,
    ) -> list[DualReport]: ...

def exact_choose(n_samples: int, width: int, n_outputs: int, memory: int) -> int: ...
def solver_bytes(solver: int, n_samples: int, width: int, n_outputs: int) -> int: ...
def subset_size(n_samples: int) -> int: ...

class PrimalProblem:
    def __init__(
        self,
        rows: _Float | CodedRows,
        taps: Sequence[tuple[int, int]],
        mean: _Float,
        scale: _Float,
        loss: int,
        targets: _Float,
        weights: _Float,
        offsets: _Float | None = ...,
    ) -> None: ...
    @property
    def width(self) -> int: ...

class Metric:
    def __init__(self, problem: PrimalProblem, subset: NDArray[np.uint32] | None = ...) -> None: ...
    def factorize(
        self,
        problem: PrimalProblem,
        penalty: float,
        weights: _Float,
        products: _Float,
        bias: _Float,
    ) -> None: ...
    def solve(
        self,
        problem: PrimalProblem,
        penalty: float,
        tolerance: float,
        weights: _Float,
        products: _Float,
        bias: _Float,
    ) -> DualReport: ...

class Device:
    def __init__(
        self,
        blob: bytes,
        capacity: int,
        rows: int,
        rank: int,
        bias: bool,
        batch_size: int,
        learning_rate: float,
        seed: int,
        kernels: str | None = ...,
    ) -> None: ...
    @property
    def arena_bytes(self) -> int: ...
    def add(self, x: _Float, y: NDArray[np.int32]) -> int: ...
    def epoch(self) -> Epoch: ...
    def predict(self, x: _Float, logits: _Float) -> None: ...
    def rows(self, x: _Float, out: _Float) -> None: ...
    def adapters(self) -> bytes: ...

class Novelty:
    """A reference: rows (n, width), of which columns are compared as (x - mean) * scale."""

    def __init__(self, rows: _Float, mean: _Float, scale: _Float, centres: _Float) -> None: ...
    @property
    def n_bytes(self) -> int: ...
    def judge(self, rows: _Float, p: _Double, p_all: _Double, novelty: _Double) -> None: ...

class Change:
    """Evidence of a change; ``state`` is the s2_change of skip2_novelty.h, in its order."""

    def __init__(
        self, limit: float, state: tuple[int, int, int, int, float, float] | None = ...
    ) -> None: ...
    def add(self, p: _Double, p_all: _Double) -> None: ...
    @property
    def state(self) -> tuple[int, int, int, int, float, float]: ...
    @property
    def share(self) -> float: ...
