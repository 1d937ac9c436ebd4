"""skip2.h and skip2_layers.h for ctypes: the declarations, and the library built and loaded."""

import ctypes
import fcntl
import functools
import subprocess
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_size_t, c_uint32, c_void_p
from pathlib import Path

import numpy as np
from numpy.ctypeslib import ndpointer

CORE = Path(__file__).parents[2] / "core"
SOFTMAX, SIGMOID, SQUARED = range(3)
OK, BAD_SHAPE, BAD_VALUE, NO_ROOM, NOT_FINITE, FORWARD_FAILED = range(6)
FLAGS = {"y": 1, "w": 2, "b": 4, "x": 8, "s": 16}  # Table 1; s: statistics of the batch
TAP_IS_X = 2**32 - 1
ALIGN = 64  # bytes

FLOATS = ndpointer(np.float32, flags="C_CONTIGUOUS")
LABELS = ndpointer(np.int32, flags="C_CONTIGUOUS")
POINTERS = ndpointer(np.uintp, flags="C_CONTIGUOUS")


class BatchStats(ctypes.Structure):
    _fields_ = (("loss", c_float), ("correct", c_uint32))


class RowLayout(ctypes.Structure):
    _fields_ = (
        ("n_taps", c_uint32),
        ("n_outputs", c_uint32),
        ("tap_width", POINTER(c_uint32)),
        ("tap_offset", POINTER(c_uint32)),
        ("logits_offset", c_uint32),
        ("row_stride", c_uint32),
    )


class Batch(ctypes.Structure):
    _fields_ = (
        ("count", c_uint32),
        *(
            (name, c_void_p)
            for name in ("x", "row", "label", "target", "weight", "next_x", "next_row")
        ),
        ("n_next", c_uint32),
    )


PHASES = ("rows", "forward", "backward", "update", "rest")
PARTS = ("fc", "lora", "bn", "act")
CLOCK = ctypes.CFUNCTYPE(ctypes.c_uint64)


class Profile(ctypes.Structure):
    _fields_ = (
        ("now", CLOCK),
        ("last", ctypes.c_uint64),
        ("phase", ctypes.c_uint64 * len(PHASES)),
        ("part", POINTER(ctypes.c_uint64 * len(PARTS) * 2)),
    )


class Adapter(ctypes.Structure):
    _fields_ = (
        ("kernels", c_void_p),
        ("layout", POINTER(RowLayout)),
        ("rank", c_uint32),
        ("has_bias", c_int),
        ("loss", c_int),
        ("packed", c_void_p),
        ("moments", c_void_p * 2),
        ("profile", POINTER(Profile)),
        ("reader", c_void_p),
    )


class Update(ctypes.Structure):
    _fields_ = (
        ("rule", c_int),
        *(
            (name, c_float)
            for name in (
                "rate", "keep", "decay", "beta1", "blend1", "beta2", "blend2", "root_scale", "eps",
            )
        ),
    )  # fmt: skip


class Optimizer(ctypes.Structure):
    _fields_ = (
        ("rule", c_int),
        ("beta1", c_double),
        ("beta2", c_double),
        ("eps", c_double),
        ("weight_decay", c_double),
        ("decoupled", c_int),
        ("beta1_power", c_double),
        ("beta2_power", c_double),
    )


def sgd(rate):
    """One step of plain gradient descent."""
    return Update(rule=0, rate=rate, keep=1.0)


LAYER_TENSORS = ("weight", "bias", "gamma", "beta", "mean", "var", "lora_a", "lora_b")


class Layer(ctypes.Structure):
    _fields_ = (
        ("n_in", c_uint32),
        ("n_out", c_uint32),
        ("rank", c_uint32),
        *((name, c_void_p) for name in LAYER_TENSORS),
        ("relu", c_int),
    )


class ComputeTypes(ctypes.Structure):
    _fields_ = (("fc", ctypes.c_uint8), ("lora", ctypes.c_uint8), ("bn", ctypes.c_uint8))


class Net(ctypes.Structure):
    _fields_ = (
        ("kernels", c_void_p),
        ("n_layers", c_uint32),
        ("layers", POINTER(Layer)),
        ("bn_eps", c_float),
        ("bn_momentum", c_float),
        ("profile", POINTER(Profile)),
    )


class FcPass(ctypes.Structure):
    _fields_ = (
        *((name, c_uint32) for name in ("count", "n_in", "n_out")),
        *((name, c_void_p) for name in ("x", "weight", "bias", "y", "gy", "gw", "gb", "gx")),
    )


LORA_ARRAYS = ("x", "lora_a", "lora_b", "hidden", "y", "gy", "gh", "gwa", "gwb", "gx")


class LoraPass(ctypes.Structure):
    _fields_ = (
        *((name, c_uint32) for name in ("count", "n_in", "n_out", "rank")),
        *((name, c_void_p) for name in LORA_ARRAYS),
    )


BN_ARRAYS = (
    "running_mean", "running_var", "z", "gamma", "beta", "mean", "inv_std", "y", "gy", "ggamma",
    "gbeta", "gz",
)  # fmt: skip


class BnPass(ctypes.Structure):
    _fields_ = (
        *((name, c_uint32) for name in ("count", "width")),
        *((name, c_float) for name in ("eps", "momentum")),
        *((name, c_void_p) for name in BN_ARRAYS),
    )


def filled(kind, **fields):
    """A pass of one layer, which keeps its arrays alive."""
    made = kind(**{name: _address(value) for name, value in fields.items()})
    made.arrays = fields
    return made


def _address(value):
    if not isinstance(value, np.ndarray):
        return value
    assert value.dtype == np.float32
    assert value.flags.c_contiguous
    return value.ctypes.data


U32 = c_uint32
FC, LORA, BN = map(POINTER, (FcPass, LoraPass, BnPass))
LAYOUT, STATS, NET, ADAPTER, BATCH, TYPES, UPDATE, OPTIMIZER = map(
    POINTER, (RowLayout, BatchStats, Net, Adapter, Batch, ComputeTypes, Update, Optimizer)
)
ROOM = (c_void_p, c_size_t)  # a workspace and its bytes
SIGNATURES = {  # function: (result, arguments); most begin with a kernel table
    "s2_kernels_names": (POINTER(c_char_p), ()),
    "s2_kernels_choose": (c_void_p, (c_char_p,)),
    "s2_kernels_multiply_adds": (c_double, (c_void_p, c_size_t, POINTER(c_float))),
    "s2_loss_scratch_floats": (c_size_t, (c_void_p, U32, U32)),
    "s2_fc_forward": (None, (c_void_p, FC)),
    "s2_fc_backward": (None, (c_void_p, c_int, FC)),
    "s2_lora_forward": (None, (c_void_p, LORA)),
    "s2_lora_backward": (None, (c_void_p, c_int, LORA)),
    "s2_bn_forward_batch": (None, (c_void_p, BN)),
    "s2_bn_forward_frozen": (None, (c_void_p, BN)),
    "s2_bn_backward": (None, (c_void_p, c_int, BN)),
    "s2_relu_forward": (None, (c_void_p, c_size_t, FLOATS)),
    "s2_relu_backward": (None, (c_void_p, c_size_t, FLOATS, FLOATS)),
    "s2_loss_cross_entropy": (
        None,
        (c_void_p, U32, U32, LABELS, c_void_p, FLOATS, STATS, FLOATS),
    ),
    "s2_row_layout_init": (c_int, (LAYOUT, U32, c_void_p, U32, c_int, c_void_p)),
    "s2_adapter_check": (c_int, (LAYOUT, U32)),
    "s2_adapter_floats": (c_size_t, (LAYOUT, U32, c_int)),
    "s2_adapter_bias": (c_void_p, (ADAPTER,)),
    "s2_adapter_pack": (None, (ADAPTER, U32, FLOATS, FLOATS)),
    "s2_adapter_unpack": (None, (ADAPTER, U32, FLOATS, FLOATS)),
    "s2_adapter_workspace_bytes": (c_size_t, (ADAPTER, U32)),
    "s2_adapter_forward": (c_int, (ADAPTER, BATCH, FLOATS, *ROOM)),
    "s2_adapter_step": (c_int, (ADAPTER, BATCH, UPDATE, STATS, *ROOM)),
    "s2_optimizer_check": (c_int, (OPTIMIZER,)),
    "s2_optimizer_moments": (U32, (c_int,)),
    "s2_optimizer_step": (Update, (OPTIMIZER, c_double)),
    "s2_net_check": (c_int, (NET,)),
    "s2_net_forward_workspace_bytes": (c_size_t, (NET, U32)),
    "s2_net_forward": (c_int, (NET, U32, POINTERS, LAYOUT, U32, FLOATS, *ROOM)),
    "s2_net_step_workspace_bytes": (c_size_t, (NET, TYPES, U32)),
    "s2_net_step": (c_int, (NET, TYPES, BATCH, UPDATE, c_void_p, STATS, *ROOM)),
}


@functools.cache
def load():
    """The library, built from the sources as they are, by one process of tests at a time."""
    with (CORE / "Makefile").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = subprocess.run(
            ["make", "-C", CORE, "shared"], capture_output=True, text=True, check=False
        )
    assert made.returncode == 0, made.stdout + made.stderr
    library = ctypes.CDLL(CORE / "build" / "libskip2.so")
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def table_names():
    """Kernel tables that this processor runs."""
    names = []
    for name in load().s2_kernels_names():
        if name is None:
            return names
        names += [name.decode()] if load().s2_kernels_choose(name) else []
    return names


def flags(types):
    return sum(FLAGS[letter] for letter in types)
