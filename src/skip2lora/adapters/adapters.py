"""Results of training: skip adapters (Eq. 17), adapters beside each layer, a changed network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.adapters.rows import RowFormat
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.taps import SAMPLES_AT_ONCE
from skip2lora.errors import ModelError
from skip2lora.files import Tensors, take


@dataclass(frozen=True, eq=False)
class SkipAdapters:
    """Low-rank adapters from the inputs of layers ``first_tap``, ... last to the last output.

    ``lora_a[k]`` is (tap_width, rank) and ``lora_b[k]`` is (rank, n_outputs) for the k-th of those
    taps: W_A^{k-1,n} and W_B^{k-1,n} of the paper. ``bias``, (n_outputs,), is None where there is
    none. ``n_outputs`` may be more than the backbone's, whose base logits are 0 there.
    """

    lora_a: tuple[NDArray[np.float32], ...]
    lora_b: tuple[NDArray[np.float32], ...]
    first_tap: int = 0
    bias: NDArray[np.float32] | None = None

    def __repr__(self) -> str:
        n_taps = len(self.lora_a)
        return f"SkipAdapters({n_taps} taps, rank {self.rank}, {self.n_outputs} outputs)"

    @property
    def rank(self) -> int:
        """Columns of each ``lora_a``."""
        return int(self.lora_a[0].shape[1])

    @property
    def n_parameters(self) -> int:
        """Trained numbers: 1,828 for 256-96-96-3 at rank 4 (Eq. 17)."""
        return sum(array.size for array in self.tensors().values())

    @property
    def n_outputs(self) -> int:
        """Columns of each ``lora_b``."""
        return int(self.lora_b[0].shape[1])

    @classmethod
    def unpack(
        cls, packed: _core.SkipAdapter, row_format: RowFormat, rank: int, *, bias: bool = False
    ) -> SkipAdapters:
        """Copy the adapters out of the form that the fused step trains."""
        lora_a = tuple(np.empty((width, rank), np.float32) for width in row_format.tap_widths)
        lora_b = tuple(np.empty((rank, row_format.n_outputs), np.float32) for _ in lora_a)
        for tap, (a, b) in enumerate(zip(lora_a, lora_b, strict=True)):
            packed.unpack(tap, a, b)
        biases = np.empty(row_format.n_outputs, np.float32) if bias else None
        if biases is not None:
            packed.get_bias(biases)
        return cls(lora_a, lora_b, row_format.first_tap, biases)

    def pack(self, row_format: RowFormat) -> _core.SkipAdapter:
        """Copy the adapters into the form that the fused step reads."""
        packed = _core.SkipAdapter(row_format.layout, self.rank, bias=self.bias is not None)
        self.pack_into(packed)
        return packed

    def pack_into(self, packed: _core.SkipAdapter) -> None:
        """Overwrite what ``packed``, of the same shapes, holds."""
        if self.bias is not None:
            packed.set_bias(self.bias)
        for tap, (a, b) in enumerate(zip(self.lora_a, self.lora_b, strict=True)):
            packed.pack(tap, a, b)

    def opened(self, backbone: Backbone) -> Opened:
        """For many calls."""
        row_format = RowFormat.of(backbone, self.first_tap, n_outputs=self.n_outputs)
        return Opened(backbone, row_format, self.pack(row_format))

    def logits(self, backbone: Backbone, x: Any) -> NDArray[np.float32]:
        """As of :meth:`opened`."""
        return self.opened(backbone).logits(x)

    def logits_from_rows(
        self, row_format: RowFormat, rows: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Eq. 17 without a backbone, for ``rows``, (samples, row_stride), that were computed.

        ``features`` are those of ``RowFormat.features``: the samples themselves where the
        first tap is not copied into a row. The result is (samples, n_outputs).
        """
        logits = np.empty((len(rows), self.n_outputs), np.float32)
        if len(rows):
            self.pack(row_format).forward(features, rows, logits)
        return logits

    def tensors(self) -> Tensors:
        """Every tensor by its name, ``bias`` or such as ``taps.0.lora_a`` by the tap's number."""
        pairs = enumerate(zip(self.lora_a, self.lora_b, strict=True), self.first_tap)
        tensors = {
            f"taps.{tap}.{name}": array
            for tap, pair in pairs
            for name, array in zip(("lora_a", "lora_b"), pair, strict=True)
        }
        return tensors if self.bias is None else {**tensors, "bias": self.bias}

    @staticmethod
    def n_outputs_in(tensors: Tensors) -> int:
        """Outputs of what :meth:`tensors` gave, 0 where no tensor says them."""
        shapes = [array.shape for name, array in tensors.items() if name.endswith(".lora_b")]
        return max([0, *(int(shape[-1]) for shape in shapes if shape)])

    @classmethod
    def from_tensors(
        cls,
        file: str | os.PathLike[str],
        tensors: Tensors,
        backbone: Backbone,
        rank: int,
        first_tap: int = 0,
        n_outputs: int | None = None,
    ) -> SkipAdapters:
        """Take the adapters out of ``tensors``.

        Raises:
            ModelError: one is missing or has another shape than ``backbone`` asks for.
        """
        widths = backbone.tap_widths
        outputs = backbone.n_outputs if n_outputs is None else n_outputs
        lora_a, lora_b = [], []
        for tap in range(first_tap, len(widths)):
            lora_a.append(take(file, tensors, f"taps.{tap}.lora_a", (widths[tap], rank)))
            lora_b.append(take(file, tensors, f"taps.{tap}.lora_b", (rank, outputs)))
        bias = take(file, tensors, "bias", (outputs,)) if "bias" in tensors else None
        return cls(tuple(lora_a), tuple(lora_b), first_tap, bias)


@dataclass(frozen=True, eq=False)
class Opened:
    """Skip adapters in the form that the core reads, on ``backbone``: several threads may call."""

    backbone: Backbone
    format: RowFormat
    packed: _core.SkipAdapter

    def logits(self, x: Any) -> NDArray[np.float32]:
        """Eq. 17 for checked samples ``x``: (samples, n_outputs)."""
        logits = np.empty((len(x), self.format.n_outputs), np.float32)
        rows = self.format.empty(min(SAMPLES_AT_ONCE, len(x)))
        for at in range(0, len(x), SAMPLES_AT_ONCE):
            chunk = x[at : at + SAMPLES_AT_ONCE]
            self.format.compute(self.backbone, chunk, rows[: len(chunk)])
            given = self.format.features(chunk)
            self.packed.forward(given, rows[: len(chunk)], logits[at : at + SAMPLES_AT_ONCE])
        return logits


@dataclass(frozen=True, eq=False)
class LayerAdapters:
    """LoRA-All: an adapter beside each layer, and the running statistics that moved with them.

    ``model`` is the base network with the adapters in its layers. Evaluated with the base model's
    statistics the adapters are wrong, so they carry their own.
    """

    model: MLP

    def __repr__(self) -> str:
        return f"LayerAdapters({self.model!r}, rank {self.rank})"

    @property
    def rank(self) -> int:
        """Columns of each ``lora_a``."""
        lora_a = self.model.layers[0].lora_a
        return 0 if lora_a is None else int(lora_a.shape[1])

    @cached_property
    def n_parameters(self) -> int:
        """Trained numbers: 2,572 for 256-96-96-3 at rank 4."""
        return sum(array.size for name, array in self.tensors().items() if "lora" in name)

    def logits(self, backbone: Backbone, x: Any) -> NDArray[np.float32]:
        """Outputs for checked samples ``x``, (samples, features); the backbone is in ``model``."""
        del backbone
        return self.model.logits(x)

    def tensors(self) -> Tensors:
        """Adapters and running statistics by name, such as ``layers.0.lora_a``."""
        saved = ("lora_a", "lora_b", "mean", "var")
        return {
            name: array
            for name, array in self.model.tensors().items()
            if name.rpartition(".")[2] in saved
        }

    @classmethod
    def from_tensors(
        cls,
        file: str | os.PathLike[str],
        tensors: Tensors,
        backbone: Backbone,
        rank: int,
    ) -> LayerAdapters:
        """Take adapters and statistics out of ``tensors`` and put them into ``backbone``.

        Raises:
            ModelError: one is missing, has another shape, or ``backbone`` is not an ``MLP``.
        """
        if not isinstance(backbone, MLP):
            raise ModelError(
                f"{file}: lora-all adapters need an MLP, got {type(backbone).__name__}: load its "
                "model"
            )
        arrays = []
        for number, layer in enumerate(backbone.layers):
            weight, bias, gamma, beta, mean, var, _, _ = layer.arrays()
            n_in, n_out = weight.shape
            if mean is not None:
                mean = take(file, tensors, f"layers.{number}.mean", (n_out,))
                var = take(file, tensors, f"layers.{number}.var", (n_out,))
            lora_a = take(file, tensors, f"layers.{number}.lora_a", (n_in, rank))
            lora_b = take(file, tensors, f"layers.{number}.lora_b", (rank, n_out))
            arrays.append((weight, bias, gamma, beta, mean, var, lora_a, lora_b))
        return cls(backbone.with_layers(arrays))


@dataclass(frozen=True, eq=False)
class TunedNetwork:
    """What the methods that change the network give: another network, LoRA merged into it."""

    model: MLP
    n_parameters: int

    @property
    def rank(self) -> int:
        """There is no adapter left."""
        return 0

    def logits(self, backbone: Backbone, x: Any) -> NDArray[np.float32]:
        """Outputs for checked samples ``x``, (samples, features); ``backbone`` is the old one."""
        del backbone
        return self.model.logits(x)

    def tensors(self) -> Tensors:
        """Every tensor of the network by its name."""
        return self.model.tensors()


#: What adapts without a change of the network, and with it.
Adapters = SkipAdapters | LayerAdapters
Result = Adapters | TunedNetwork
