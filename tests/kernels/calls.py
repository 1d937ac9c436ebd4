"""The core's functions on NumPy arrays, with a watch on what they write.

Every output is NaN before the call, which shows an element that was not written, and lies between
guard zones, which show one written too many. Names and shapes are those of oracle.py.
"""

import ctypes
import math

import numpy as np

from kernels import core_api
from kernels.core_api import BnPass, FcPass, LoraPass, filled, flags

GUARD = 32  # floats on either side
SENTINEL = np.float32(-1.2345e33)


def nans(*shape):
    """An output between guard zones, not yet written."""
    size = math.prod(shape)
    room = np.full(size + 2 * GUARD, SENTINEL)
    output = room[GUARD : GUARD + size].reshape(shape)
    output[...] = np.nan
    return output


def copy_of(array):
    """An array that the call will change, between guard zones."""
    output = nans(*array.shape)
    output[...] = array
    return output


def transposed(array):
    """As the core takes lora_a of a layer: (rank, n_in)."""
    return np.ascontiguousarray(array.T)


def check_guards(*outputs):
    for output in outputs:
        room = output.base
        assert room.size == output.size + 2 * GUARD
        inside = (room[:GUARD] == SENTINEL).all() and (room[-GUARD:] == SENTINEL).all()
        assert inside, f"wrote outside of an output of shape {output.shape}"


def untouched(*outputs):
    return all(np.isnan(output).all() for output in outputs)


class Workspace:
    """Memory of exactly the bytes asked for, aligned, all NaN, with a guard zone behind it."""

    def __init__(self, size):
        room = np.full(size + core_api.ALIGN + 4 * GUARD, 0xFF, np.uint8)
        start = -room.ctypes.data % core_api.ALIGN
        self.size, self.bytes, self.after = size, room[start:], room[start + size :]
        self.arguments = (self.bytes.ctypes.data, size)

    def check(self):
        assert (self.after == 0xFF).all(), "wrote behind the workspace"


def fc_pass(x, weight, **arrays):
    """A pass of a layer with weight (n_in, n_out) on x (count, n_in)."""
    n_in, n_out = weight.shape
    return filled(FcPass, count=len(x), n_in=n_in, n_out=n_out, x=x, weight=weight, **arrays)


def lora_pass(x, lora_a, lora_b, **arrays):
    """A pass of an adapter with lora_a (rank, n_in), as the core takes it, on x (count, n_in)."""
    (rank, n_in), n_out = lora_a.shape, lora_b.shape[1]
    sizes = {"count": len(x), "n_in": n_in, "n_out": n_out, "rank": rank}
    return filled(LoraPass, **sizes, x=x, lora_a=lora_a, lora_b=lora_b, **arrays)


def bn_pass(z, **fields):
    """A pass of batch norm on z (count, width)."""
    count, width = z.shape
    return filled(BnPass, count=count, width=width, z=z, **fields)


class Table:
    """The layer functions of one kernel table."""

    def __init__(self, core, name):
        self.core, self.name = core, name
        self.kernels = core.s2_kernels_choose(name.encode())
        assert self.kernels, f"no kernel table {name}"

    def fc_forward(self, x, weight, bias):
        y = nans(len(x), weight.shape[1])
        self.core.s2_fc_forward(self.kernels, fc_pass(x, weight, bias=bias, y=y))
        check_guards(y)
        return y

    def fc_backward(self, types, x, gy, weight):
        """The gradients asked for, by letter; the others were not touched."""
        grads = {"w": nans(*weight.shape), "b": nans(weight.shape[1]), "x": nans(*x.shape)}
        outputs = {f"g{name}": grad for name, grad in grads.items()}
        self.core.s2_fc_backward(self.kernels, flags(types), fc_pass(x, weight, gy=gy, **outputs))
        check_guards(*grads.values())
        assert untouched(*(grad for name, grad in grads.items() if name not in types))
        return {name: grad for name, grad in grads.items() if name in types}

    def lora_forward(self, x, wa, wb, y):
        """Hidden, and y with the adapter's output added."""
        hidden, y = nans(len(x), wa.shape[1]), copy_of(y)
        given = lora_pass(x, transposed(wa), wb, hidden=hidden, y=y)
        self.core.s2_lora_forward(self.kernels, given)
        check_guards(hidden, y)
        return hidden, y

    def lora_backward(self, types, x, hidden, gy, wa, wb, gx):
        """Gradients as the oracle names them; "x" is gx with the adapter's part added."""
        grads = {"gh": nans(*hidden.shape), "a": nans(*wa.T.shape), "b": nans(*wb.shape)}
        grads["x"] = copy_of(gx)
        names = ("gh", "gwa", "gwb", "gx")
        outputs = dict(zip(names, grads.values(), strict=True))
        given = lora_pass(x, transposed(wa), wb, hidden=hidden, gy=gy, **outputs)
        self.core.s2_lora_backward(self.kernels, flags(types), given)
        check_guards(*grads.values())
        grads["a"] = grads["a"].T
        if "w" not in types:
            assert untouched(grads.pop("a"), grads.pop("b"))
        if "x" not in types:
            np.testing.assert_array_equal(grads.pop("x"), gx)
        return grads

    def bn_forward_batch(self, z, gamma, beta, running_mean, running_var, eps, momentum):
        """y, mean, inverse deviation, and the running statistics after it."""
        running = copy_of(running_mean), copy_of(running_var)
        mean, inv_std, y = nans(z.shape[1]), nans(z.shape[1]), nans(*z.shape)
        given = bn_pass(
            z, eps=eps, momentum=momentum, running_mean=running[0], running_var=running[1],
            gamma=gamma, beta=beta, mean=mean, inv_std=inv_std, y=y,
        )  # fmt: skip
        self.core.s2_bn_forward_batch(self.kernels, given)
        check_guards(*running, mean, inv_std, y)
        return y, mean, inv_std, *running

    def bn_forward_frozen(self, z, gamma, beta, running_mean, running_var, eps):
        mean, inv_std, y = nans(z.shape[1]), nans(z.shape[1]), nans(*z.shape)
        given = bn_pass(
            z, eps=eps, running_mean=running_mean, running_var=running_var,
            gamma=gamma, beta=beta, mean=mean, inv_std=inv_std, y=y,
        )  # fmt: skip
        self.core.s2_bn_forward_frozen(self.kernels, given)
        check_guards(mean, inv_std, y)
        return y, mean, inv_std

    def bn_backward(self, types, z, gy, gamma, mean, inv_std):
        """gz, and with w in the types ggamma and gbeta."""
        ggamma, gbeta, gz = nans(z.shape[1]), nans(z.shape[1]), nans(*z.shape)
        given = bn_pass(
            z, gamma=gamma, mean=mean, inv_std=inv_std, gy=gy, ggamma=ggamma, gbeta=gbeta, gz=gz
        )
        self.core.s2_bn_backward(self.kernels, flags(types), given)
        check_guards(ggamma, gbeta, gz)
        return gz, ggamma, gbeta

    def relu_forward(self, z):
        y = copy_of(z)
        self.core.s2_relu_forward(self.kernels, y.size, y)
        check_guards(y)
        return y

    def relu_backward(self, y, gy):
        gy = copy_of(gy)
        self.core.s2_relu_backward(self.kernels, gy.size, y, gy)
        check_guards(gy)
        return gy

    def loss(self, logits, labels, weight=None):
        """Mean loss, how many are right, and the gradient; ``weight`` is float32, (count,)."""
        grad, stats = copy_of(logits), core_api.BatchStats(np.nan, 2**32 - 1)
        scratch = nans(self.core.s2_loss_scratch_floats(self.kernels, *logits.shape))
        own = None if weight is None else copy_of(weight)
        where = None if own is None else own.ctypes.data
        rest = (np.int32(labels), where, grad, ctypes.byref(stats), scratch)
        self.core.s2_loss_cross_entropy(self.kernels, *logits.shape, *rest)
        check_guards(grad, scratch)
        return stats.loss, stats.correct, grad
