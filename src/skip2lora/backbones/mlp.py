"""The paper's network: fully connected layers, batch norm and ReLU after each but the last."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora import _core
from skip2lora.arrays import SamplesLike, check_samples, whole
from skip2lora.backbones.base import Backbone, Size, Taps
from skip2lora.backbones.formats import refuse
from skip2lora.backbones.outputs import OutputSpec
from skip2lora.backbones.recipe import ANY_MODEL, PAPER, Recipe
from skip2lora.backbones.taps import SAMPLES_AT_ONCE, Selection
from skip2lora.data.media import Media, media_in
from skip2lora.errors import ModelError, ParameterError
from skip2lora.files import Tensors, digest, read_tensors, take, to_bytes, write_bytes
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.labels import check_names
from skip2lora.tasks.task import CLASSIFICATION, TASKS

KIND = "mlp"
_MAX_LAYERS = 64  # S2_MAX_LAYERS
_MAX_WIDTH = 1 << 24  # S2_MAX_WIDTH


@dataclass(frozen=True, eq=False)
class Layer:
    """One fully connected layer and what follows it; the arrays are read-only.

    ``weight`` is (n_in, n_out), the others are (n_out,); ``gamma``, ``beta``, ``mean`` and ``var``
    are all None where no batch norm follows. ``lora_a``, (n_in, rank), and ``lora_b``,
    (rank, n_out), are None without an adapter of the layer's own (LoRA-All); ``lora_a`` lies in
    Fortran order, as the core reads it.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    gamma: NDArray[np.float32] | None = None
    beta: NDArray[np.float32] | None = None
    mean: NDArray[np.float32] | None = None
    var: NDArray[np.float32] | None = None
    lora_a: NDArray[np.float32] | None = None
    lora_b: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.lora_a is not None:
            object.__setattr__(self, "lora_a", np.asfortranarray(self.lora_a))
        for array in self.arrays():
            if array is not None:
                array.flags.writeable = False

    def __reduce__(self) -> tuple[Any, ...]:
        """For other processes: made again, so that the arrays are read-only there too."""
        return Layer, self.arrays()

    def arrays(self) -> tuple[Any, ...]:
        """All tensors in the order of the fields, None where there is none."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def copy(self) -> tuple[Any, ...]:
        """Writable copies of :meth:`arrays`, for training."""
        return tuple(None if array is None else array.copy(order="K") for array in self.arrays())


@dataclass(frozen=True, eq=False)
class MLP(Backbone):
    """A multi-layer perceptron that runs in the C core; also the :class:`Backbone` of the paper.

    ``class_names[label]`` is None when the classes have no names; ``columns`` are those of the
    samples that it learned, ``task`` says what the outputs mean, ``images`` how files became the
    samples.
    """

    layers: tuple[Layer, ...]
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1
    class_names: tuple[str, ...] | None = None
    path: str | os.PathLike[str] | None = None
    columns: Columns = field(default_factory=Columns)
    task: str = CLASSIFICATION.name
    images: Media | None = None

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """Its one row of logits."""
        return (OutputSpec("output", (self.n_outputs,), "logits"),)

    @property
    def recipe(self) -> Recipe:
        """The paper's where classes are learned."""
        return PAPER if self.task == CLASSIFICATION.name else ANY_MODEL

    def __repr__(self) -> str:
        return f"MLP({'-'.join(map(str, self.widths))})"

    @classmethod
    def create(
        cls,
        widths: Sequence[int],
        *,
        seed: int = 0,
        batch_norm: bool = True,
        class_names: Sequence[str] | None = None,
        task: str = CLASSIFICATION.name,
    ) -> MLP:
        """A network with random weights, such as ``MLP.create([256, 96, 96, 3])``.

        ``widths`` are the features, the hidden widths and the outputs; ``task`` is what these will
        mean. Weights are drawn from N(0, 1/n_in), biases are 0.

        Raises:
            ParameterError: fewer than two widths, a width below 1, or names that do not fit.
        """
        sizes = _check_widths(widths)
        names = check_names(class_names, sizes[-1])
        random = np.random.Generator(np.random.PCG64(whole("seed", seed, 0)))
        layers: list[Layer] = []
        for n_in, n_out in pairwise(sizes):
            weight = random.standard_normal((n_in, n_out), dtype=np.float32)
            weight *= np.float32(1.0 / np.sqrt(n_in))
            bias = np.zeros(n_out, np.float32)
            last = len(layers) + 2 == len(sizes)
            norm = _fresh_norm(n_out) if batch_norm and not last else {}
            layers.append(Layer(weight, bias, **norm))
        return cls(tuple(layers), class_names=names, task=TASKS[task].name)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features, hidden widths, outputs."""
        return (self.n_features, *(layer.weight.shape[1] for layer in self.layers))

    @property
    def n_features(self) -> int:
        """Width of a sample."""
        return int(self.layers[0].weight.shape[0])

    @property
    def n_outputs(self) -> int:
        """Number of classes."""
        return int(self.layers[-1].weight.shape[1])

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Input width of each layer."""
        return self.widths[:-1]

    @property
    def first_tap_is_input(self) -> bool:
        """Always: x^1 is the sample."""
        return True

    @property
    def batch_norm(self) -> bool:
        """Whether batch norm follows the hidden layers."""
        return any(layer.gamma is not None for layer in self.layers)

    @property
    def n_parameters(self) -> int:
        """Weights, biases, gamma and beta (not the running statistics)."""
        return sum(
            array.size
            for layer in self.layers
            for array in (layer.weight, layer.bias, layer.gamma, layer.beta)
            if array is not None
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that changes an output; names do not."""
        return digest(self.tensors(), self._numbers())

    @cached_property
    def network(self) -> _core.Network:
        """This network in the C core, over the same arrays."""
        arrays = [layer.arrays() for layer in self.layers]
        return _core.Network(arrays, self.bn_eps, self.bn_momentum)

    def __reduce__(self) -> tuple[Any, ...]:
        """For other processes: the arrays alone, without the network in the C core."""
        own = (self.class_names, None, self.columns, self.task, self.images)
        return MLP, (self.layers, self.bn_eps, self.bn_momentum, *own)

    def forward(self, x: NDArray[np.float32]) -> Taps:
        """Taps and base logits of ``x``, (samples, features); ``taps[0]`` is ``x`` itself.

        Raises:
            DataError: another width, NaN, no samples.
        """
        samples, _ = check_samples(x, n_features=self.n_features)
        layout = _core.RowLayout(self.tap_widths, self.n_outputs, True)
        rows = np.empty((len(samples), layout.row_stride), np.float32)
        self.network.forward(samples, layout, 0, rows)
        places = zip(layout.tap_offsets, self.tap_widths, strict=True)
        taps = tuple(samples if at < 0 else rows[:, at : at + width] for at, width in places)
        at = layout.logits_offset
        return Taps(taps, rows[:, at : at + self.n_outputs])

    def logits(self, x: SamplesLike) -> NDArray[np.float32]:
        """Outputs before softmax, (samples, n_outputs); raises as :meth:`forward`."""
        samples = self.check(x)
        last = len(self.layers) - 1
        layout = _core.RowLayout(self.tap_widths[last:], self.n_outputs, False)
        rows = np.empty((min(SAMPLES_AT_ONCE, len(samples)), layout.row_stride), np.float32)
        logits = np.empty((len(samples), self.n_outputs), np.float32)
        for at in range(0, len(samples), SAMPLES_AT_ONCE):
            chunk = samples[at : at + SAMPLES_AT_ONCE]
            self.network.forward(chunk, layout, last, rows[: len(chunk)])
            outputs = rows[: len(chunk), layout.logits_offset :][:, : self.n_outputs]
            logits[at : at + SAMPLES_AT_ONCE] = outputs
        return logits

    def tensors(self) -> Tensors:
        """Every tensor by its name, such as ``layers.0.weight``."""
        return {
            f"layers.{number}.{field.name}": array
            for number, layer in enumerate(self.layers)
            for field, array in zip(fields(layer), layer.arrays(), strict=True)
            if array is not None
        }

    def _numbers(self) -> dict[str, Any]:
        return {"bn_eps": self.bn_eps, "bn_momentum": self.bn_momentum}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network as ``.safetensors``, whole or not at all.

        Equal networks give equal bytes. Adapters in the layers are merged into the weights.

        Raises:
            FileError: the system refused.
        """
        write_bytes(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """What :meth:`save` writes."""
        description = {
            "kind": KIND,
            "version": 1,
            "widths": self.widths,
            "batch_norm": self.batch_norm,
            "class_names": self.class_names,
            **({"columns": self.columns.to_json()} if self.columns != Columns() else {}),
            **({"task": self.task} if self.task != CLASSIFICATION.name else {}),
            **({} if self.images is None else {self.images.key: self.images.to_json()}),
            **self._numbers(),
        }
        return to_bytes(self.merged().tensors(), description)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        taps: Selection = None,
        grid: int | None = None,
        size: Size | None = None,
        threads: int = 1,
        class_names: Sequence[str] | None = None,
        output: str | int | None = None,
        mask: str | None = None,
    ) -> MLP:
        """Read what :meth:`save` wrote; ``class_names`` replace those of the file.

        Raises:
            FileError: no such file.
            ModelError: truncated, foreign, or not a network.
            ParameterError: an option that the network has no use for, or names that do not fit.
        """
        refuse(path, "whose adapters start at every layer", taps=taps, grid=grid, size=size)
        refuse(path, "whose samples have no tokens", mask=mask)
        refuse(path, "which runs on one thread", threads=None if threads == 1 else threads)
        tensors, description = read_tensors(path, kind=KIND)
        try:
            sizes = _check_widths(description["widths"])
            batch_norm = bool(description["batch_norm"])
            numbers = {name: float(description[name]) for name in ("bn_eps", "bn_momentum")}
            names = check_names(description["class_names"], sizes[-1])
            columns = Columns.from_json(description.get("columns"))
            task = TASKS[description.get("task", CLASSIFICATION.name)].name
            images = media_in(description)
            if columns.features is not None and len(columns.features) != sizes[0]:
                raise ValueError("columns")
        except (
            AttributeError, KeyError, TypeError, ValueError, OverflowError, ParameterError,
        ) as error:  # fmt: skip
            raise ModelError(
                f"{path}: its description is damaged ({error}), expected it as save wrote it: save "
                "it again"
            ) from error
        layers = []
        for number, (n_in, n_out) in enumerate(pairwise(sizes)):
            norm = batch_norm and number + 2 < len(sizes)
            shapes = {"weight": (n_in, n_out), "bias": (n_out,)}
            shapes |= dict.fromkeys(("gamma", "beta", "mean", "var"), (n_out,)) if norm else {}
            layers.append(
                Layer(
                    **{
                        name: take(path, tensors, f"layers.{number}.{name}", shape)
                        for name, shape in shapes.items()
                    }
                )
            )
        model = cls(
            tuple(layers), class_names=names, path=path, columns=columns, task=task, images=images,
            **numbers,
        )  # fmt: skip
        if tensors:
            raise ModelError(
                f"{path}: tensor {min(tensors)} is unknown, expected a network alone: save it again"
            )
        if output is not None:
            model.with_output(output)
        return model.named(class_names)

    def with_layers(self, arrays: Sequence[Sequence[Any]]) -> MLP:
        """The same network with other tensors, in the order of ``Layer.arrays``."""
        layers = tuple(Layer(*of_layer) for of_layer in arrays)
        return replace(self, layers=layers, path=None)

    def merged(self) -> MLP:
        """The same function without adapters in its layers: weight + lora_a . lora_b."""
        layers = []
        for layer in self.layers:
            weight, *others, lora_a, lora_b = layer.arrays()
            if lora_a is not None:
                weight = weight + lora_a @ lora_b
            layers.append((weight, *others, None, None))
        return self.with_layers(layers)


def _fresh_norm(width: int) -> dict[str, NDArray[np.float32]]:
    return {
        "gamma": np.ones(width, np.float32),
        "beta": np.zeros(width, np.float32),
        "mean": np.zeros(width, np.float32),
        "var": np.ones(width, np.float32),
    }


def _check_widths(widths: Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(operator.index(width) for width in widths)
    except TypeError as error:
        raise ParameterError(f"widths are {widths!r}, expected whole numbers: pass such") from error
    if not 2 <= len(sizes) <= _MAX_LAYERS + 1:
        raise ParameterError(
            f"got {len(sizes)} widths, expected 2 to {_MAX_LAYERS + 1}: "
            "pass features, hidden widths, outputs"
        )
    for place, size in enumerate(sizes):
        if not 1 <= size <= _MAX_WIDTH:
            raise ParameterError(
                f"width {size} at place {place} of {list(sizes)}, expected 1 to {_MAX_WIDTH}: "
                "choose another"
            )
    return sizes
