"""The core's network and skip adapters on NumPy arrays, guarded as in calls.py.

Parameters are those of oracle.py: a list of dicts of tensors, None where a layer has none.
"""

import ctypes

import numpy as np

from kernels import core_api
from kernels.calls import Workspace, check_guards, copy_of, nans, transposed
from kernels.core_api import LAYER_TENSORS, OK, flags

EPS, MOMENTUM = 1e-5, 0.1  # of oracle.net_step


def addresses(rows):
    """Pointers to the rows of an array, as the core's batches take them."""
    return np.array([row.ctypes.data for row in rows], np.uintp)


class Samples:
    """A batch for the core; the rows are copies, each in memory of its own."""

    def __init__(self, x, rows, labels, targets=(), weight=None):
        self.x = [row.copy() for row in x]
        self.rows = [row.copy() for row in rows]
        self.labels, self.targets = np.int32(labels), [row.copy() for row in targets]
        self.pointers = addresses(self.x), addresses(self.rows), addresses(self.targets)
        at = [array.ctypes.data if len(array) else None for array in self.pointers]
        labels_at = self.labels.ctypes.data if len(self.labels) else None
        self.weight = None if weight is None else copy_of(weight)
        weight_at = None if weight is None else self.weight.ctypes.data
        self.batch = core_api.Batch(len(x), at[0], at[1], labels_at, at[2], weight_at)

    @property
    def pointer(self):
        return ctypes.byref(self.batch)


def _copy(name, tensor):
    """Guarded; lora_a lies transposed in memory."""
    if tensor is None:
        return None
    return copy_of(transposed(tensor)).T if name == "lora_a" else copy_of(tensor)


class Network:
    """s2_net of one kernel table over guarded copies of the parameters."""

    def __init__(self, table, params):
        self.table, self.core = table, table.core
        self.params = [
            {name: _copy(name, layer[name]) for name in LAYER_TENSORS} for layer in params
        ]
        self.layers = (core_api.Layer * len(params))()
        for number, (layer, tensors) in enumerate(zip(self.layers, self.params, strict=True)):
            layer.n_in, layer.n_out = tensors["weight"].shape
            layer.rank = 0 if tensors["lora_a"] is None else tensors["lora_a"].shape[1]
            layer.relu = number + 1 < len(params)
            for name, tensor in tensors.items():
                setattr(layer, name, None if tensor is None else tensor.ctypes.data)
        self.net = core_api.Net(table.kernels, len(params), self.layers, EPS, MOMENTUM)
        assert self.core.s2_net_check(ctypes.byref(self.net)) == OK

    def forward(self, x, layout, first_tap=0):
        """The rows of these samples; floats that are padding stay NaN."""
        samples = [row.copy() for row in x]
        rows, net = nans(len(x), layout.layout.row_stride), ctypes.byref(self.net)
        room = Workspace(self.core.s2_net_forward_workspace_bytes(net, len(x)))
        status = self.core.s2_net_forward(
            net, len(x), addresses(samples), layout.pointer, first_tap, rows, *room.arguments
        )
        assert status == OK
        check_guards(rows)
        room.check()
        return rows

    def step(self, rows, x, labels, learning_rate, weight=None):
        """One batch by rows of compute types (as oracle.net_step); the loss before it."""
        types = (core_api.ComputeTypes * len(rows))(
            *((flags(row["fc"]), flags(row["lora"]), flags(row["bn"])) for row in rows)
        )
        samples = Samples(x, [], labels, weight=weight)
        stats = core_api.BatchStats(np.nan, 0)
        net = ctypes.byref(self.net)
        room = Workspace(self.core.s2_net_step_workspace_bytes(net, types, len(x)))
        status = self.core.s2_net_step(
            net,
            types,
            samples.pointer,
            ctypes.byref(core_api.sgd(learning_rate)),
            None,
            ctypes.byref(stats),
            *room.arguments,
        )
        assert status == OK
        room.check()
        check_guards(*(t for layer in self.params for t in layer.values() if t is not None))
        return stats.loss


class Layout:
    """s2_row_layout; the first tap is the sample itself if first_is_x."""

    def __init__(self, core, tap_widths, n_outputs, *, first_is_x=True):
        self.widths = np.array(tap_widths, np.uint32)
        self.offsets = np.zeros_like(self.widths)
        self.layout = core_api.RowLayout()
        status = core.s2_row_layout_init(
            self.pointer,
            len(self.widths),
            self.widths.ctypes.data,
            n_outputs,
            first_is_x,
            self.offsets.ctypes.data,
        )
        assert status == OK

    @property
    def pointer(self):
        return ctypes.byref(self.layout)

    def rows(self, taps, base_logits):
        """Rows that hold these; what is padding is NaN, for nobody may read it."""
        rows = np.full((len(base_logits), self.layout.row_stride), np.nan, np.float32)
        for offset, tap in zip(self.offsets, taps, strict=True):
            if offset != core_api.TAP_IS_X:
                rows[:, offset : offset + tap.shape[1]] = tap
        start = self.layout.logits_offset
        rows[:, start : start + self.layout.n_outputs] = base_logits
        return rows


class SkipAdapter:
    """s2_adapter of one kernel table with the lora_a and lora_b of these parameters."""

    def __init__(self, table, layout, params, loss=core_api.SOFTMAX, bias=None):
        self.core, self.layout = table.core, layout
        self.shapes = [(layer["lora_a"].shape, layer["lora_b"].shape) for layer in params]
        rank = params[0]["lora_a"].shape[1]
        self.packed = nans(self.core.s2_adapter_floats(layout.pointer, rank, bias is not None))
        self.adapter = core_api.Adapter(
            table.kernels,
            ctypes.pointer(layout.layout),
            rank,
            bias is not None,
            loss,
            self.packed.ctypes.data,
        )
        assert self.core.s2_adapter_check(layout.pointer, rank) == OK
        for tap, layer in enumerate(params):
            self.core.s2_adapter_pack(self.pointer, tap, layer["lora_a"], layer["lora_b"])
        if bias is not None:
            self.bias[...] = bias
        check_guards(self.packed)

    @property
    def bias(self):
        """The bias (n_outputs) itself; None where there is none."""
        at = self.core.s2_adapter_bias(self.pointer)
        if at is None:
            return None
        start = (at - self.packed.ctypes.data) // 4
        return self.packed[start : start + self.layout.layout.n_outputs]

    @property
    def pointer(self):
        return ctypes.byref(self.adapter)

    def tensors(self):
        """(lora_a, lora_b) of each tap."""
        pairs = [(nans(*a), nans(*b)) for a, b in self.shapes]
        for tap, pair in enumerate(pairs):
            self.core.s2_adapter_unpack(self.pointer, tap, *pair)
            check_guards(*pair)
        return pairs

    def _room(self, count):
        return Workspace(self.core.s2_adapter_workspace_bytes(self.pointer, count))

    def forward(self, x, rows):
        samples, logits = Samples(x, rows, []), nans(len(x), self.layout.layout.n_outputs)
        room = self._room(len(x))
        status = self.core.s2_adapter_forward(
            self.pointer, samples.pointer, logits, *room.arguments
        )
        assert status == OK
        check_guards(logits, self.packed)
        room.check()
        return logits

    def step(self, x, rows, labels, learning_rate, targets=(), weight=None):
        """One batch; the loss before it."""
        status, stats = self.run(Samples(x, rows, labels, targets, weight), learning_rate)
        assert status == OK
        return stats.loss

    def correct(self, x, rows, targets):
        """How many samples are right."""
        status, stats = self.run(Samples(x, rows, [], targets), 0.0)
        assert status == OK
        return stats.correct

    def run(self, samples, learning_rate):
        """Status and statistics of one step."""
        stats, room = core_api.BatchStats(np.nan, 0), self._room(samples.batch.count)
        update = ctypes.byref(core_api.sgd(learning_rate))
        given = (self.pointer, samples.pointer, update, ctypes.byref(stats))
        status = self.core.s2_adapter_step(*given, *room.arguments)
        check_guards(self.packed)
        room.check()
        return status, stats
