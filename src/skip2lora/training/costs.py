"""What the paper omits for space (section 3): operations and bytes of each compute type.

Floating-point operations: a multiplication and an addition count one each. ``B`` samples, ``N``
inputs, ``M`` outputs, rank ``R``. Bytes: every array that a compute type reads or writes, once, as
float32; what a cache of the processor saves is not in it. Batch norm, ReLU, loss and the update of
weights are left out, as in Table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skip2lora.adapters.rows import FLOAT_BYTES
from skip2lora.methods import METHODS, Method

FC_TYPES = ("y", "ywbx", "ywb", "ybx", "yb", "yx")
LORA_TYPES = ("ywx", "yw")


@dataclass(frozen=True)
class Cost:
    """Floating-point operations and bytes of one batch, forward and backward."""

    forward: int = 0
    backward: int = 0
    n_bytes: int = 0

    @property
    def operations(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.forward + other.forward,
            self.backward + other.backward,
            self.n_bytes + other.n_bytes,
        )


def fc_cost(types: str, batch: int, n_in: int, n_out: int) -> Cost:
    """Eqs. 1-4: each matrix product costs 2 B N M, gb costs B M."""
    x, y, weight = batch * n_in, batch * n_out, n_in * n_out
    product = 2 * batch * n_in * n_out
    backward = product * (("w" in types) + ("x" in types)) + y * ("b" in types)
    arrays = x + weight + n_out + y  # y = x . W + b
    arrays += (y if set(types) & set("wbx") else 0) + weight * ("w" in types)  # gy, gW
    arrays += n_out * ("b" in types) + x * ("x" in types)  # gb, gx
    return Cost(product if "y" in types else 0, backward, FLOAT_BYTES * arrays)


def lora_cost(types: str, batch: int, n_in: int, n_out: int, rank: int) -> Cost:
    """Eqs. 7-14: products of x and W_A cost 2 B N R, those of y_A and W_B 2 B R M."""
    if not types:
        return Cost()
    with_a, with_b = 2 * batch * n_in * rank, 2 * batch * rank * n_out
    w, x = "w" in types, "x" in types
    backward = (w or x) * with_b + w * (with_a + with_b) + x * with_a  # gx_B; gW_A, gW_B; gx_A
    weights = n_in * rank + rank * n_out
    arrays = batch * (n_in + rank + n_out) + weights  # x, y_A, y, W_A, W_B
    arrays += (batch * (n_out + rank) + weights) * w + batch * n_in * x  # gy, gx_B, gW; gx
    return Cost(with_a + with_b, backward, FLOAT_BYTES * arrays)


def method_cost(
    method: Method, widths: Sequence[int], batch: int, rank: int, epochs: int | None
) -> Cost:
    """One batch in the mean over ``epochs``: a cache leaves the FC layers to the first of them.

    ``epochs`` None is a batch on rows that are all in the cache. With the skip adapters n_out of
    every adapter is the network's output (Eq. 17).
    """
    total = Cost()
    for number, (fc, lora, _) in enumerate(method.letters(len(widths) - 1)):
        n_in, n_out = widths[number], widths[number + 1]
        of_fc = fc_cost(fc, batch, n_in, n_out)
        if method.cache:
            share = 0.0 if epochs is None else 1 / epochs
            of_fc = Cost(round(of_fc.forward * share), 0, round(of_fc.n_bytes * share))
        to = widths[-1] if method.skip else n_out
        total = total + of_fc + lora_cost(lora, batch, n_in, to, rank)
    return total


def method_costs(
    widths: Sequence[int], *, batch: int, rank: int, epochs: int | None
) -> dict[str, Cost]:
    """:func:`method_cost` of all eight methods."""
    return {
        name: method_cost(method, widths, batch, rank, epochs) for name, method in METHODS.items()
    }


def skip_cost(tap_widths: Sequence[int], n_outputs: int, batch: int, rank: int) -> Cost:
    """One batch of Skip2-LoRA on cached rows of any network: each tap to the output (Eq. 17)."""
    total = Cost()
    for width in tap_widths:
        total = total + lora_cost("yw", batch, width, n_outputs, rank)
    return total
