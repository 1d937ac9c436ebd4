"""What a PyTorch module computes on the way: which layers read which tensors, and their rows.

Shapes and calls are known by running alone, so a network is found by passing two and then three
samples through it: the axis that grows is the axis of the samples, wherever the module put it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skip2lora.arrays import Inputs
from skip2lora.backbones.taps import Tap, tap_of
from skip2lora.errors import ModelError
from skip2lora.tasks.task import TASK_OF_END

#: Have matrices for weights but multiply nothing with them, or call no hook.
_NO_LAYERS = (nn.LayerNorm, nn.Embedding, nn.EmbeddingBag, torch.jit.ScriptModule)
_TABLES = (nn.MultiheadAttention, nn.RNNBase, nn.Bilinear)  # read vectors, whatever their weights
# Of the largest logit: more than kinds of numbers and sizes of batches change.
_SAME = 0.02
_ENDINGS = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid)
_MOST_PLACES = 3  # axes that PyTorch's pooling takes
Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]


class Key(NamedTuple):
    """Which tensor: an argument (from 0) of a call (from 0) of a module in one forward pass."""

    module: str
    call: int
    argument: int

    @property
    def name(self) -> str:
        """``block.conv``; ``block.conv@2`` when it is called again; ``attention.key``."""
        name = self.module + ("", ".key", ".value")[self.argument]
        return name if self.call == 0 else f"{name}@{self.call + 1}"


@dataclass(frozen=True)
class Place:
    """Where a tap is read: ``axis`` of its tensor holds the samples.

    ``aliases`` are the other layers that read the same tensor.
    """

    key: Key
    axis: int
    tap: Tap
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """What running a module has shown: its layers, in order, and its outputs."""

    places: tuple[Place, ...]
    n_outputs: int
    task: str


# --- running --------------------------------------------------------------------------------


@contextmanager
def frozen(module: nn.Module, threads: int | None = None) -> Iterator[Frozen]:
    """The module in eval mode without gradients; hooks put on its stack are removed at the end.

    Every submodule gets its own mode back, also after an error. The fused path of PyTorch's
    attention is off meanwhile: it would pass the submodules by. PyTorch runs on ``threads``
    threads, None for as many as the caller has set.
    """
    parts = dict(module.named_modules())
    training = [part for part in parts.values() if part.training]
    fused = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fused)
        stack.callback(_train, training)
        if threads is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        torch.backends.mha.set_fastpath_enabled(False)
        if training:
            module.eval()
        stack.enter_context(torch.no_grad())
        yield Frozen(parts, stack)


def _train(parts: Sequence[nn.Module]) -> None:
    for part in parts:
        part.training = True


class Frozen:
    """A module while it is :func:`frozen`; remembers its last softmax or sigmoid."""

    def __init__(self, parts: Mapping[str, nn.Module], stack: ExitStack) -> None:
        self.stack, self._parts, self._module = stack, parts, parts[""]
        self.name = type(self._module).__name__
        self._device, self._floats = _placed(parts)
        self._ending: tuple[nn.Module, Tensor, Tensor] | None = None
        for part in parts.values():
            if isinstance(part, _ENDINGS):
                stack.callback(part.register_forward_hook(self._remember).remove)

    def part(self, name: str) -> nn.Module | None:
        """The submodule of that name, None where it is gone; the module goes by its class."""
        return self._parts.get(name, self._module if name == self.name else None)

    def _remember(self, part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if inputs:  # not one called by keyword
            self._ending = (part, inputs[0], output)

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """A copy, as the module may write on it, on its device and in its type of floats."""
        tensor = torch.tensor(array)
        return tensor.to(self._device, self._floats if tensor.is_floating_point() else None)

    def run(self, x: NDArray[Any] | Inputs) -> Any:
        """What the module makes of one batch."""
        if isinstance(x, Inputs):
            return self._module(**{name: self.tensor(array) for name, array in x.arrays.items()})
        return self._module(self.tensor(x))

    def logits(self, output: Any, n_samples: int) -> tuple[Tensor, str]:
        """Logits (n_samples, n_outputs) before a last softmax or sigmoid, and the task.

        Raises:
            ModelError: the output is something else.
        """
        values = _logits_in(output, self.name)
        sigmoid = False
        if self._ending is not None and self._ending[2] is values:
            part, values, _ = self._ending
            sigmoid = isinstance(part, nn.Sigmoid)
        self._ending = None
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2 or len(values) != n_samples or not values.is_floating_point():
            raise ModelError(
                f"{self.name} gave {values.dtype} of shape {tuple(values.shape)} for {n_samples} "
                f"samples, expected logits ({n_samples}, outputs): wrap it in a module whose "
                "forward returns them"
            )
        return values, TASK_OF_END[sigmoid]


def _placed(parts: Mapping[str, nn.Module]) -> tuple[torch.device, torch.dtype]:
    """Where a module is, which may change between two calls, and its type of floats."""
    device = None
    for part in parts.values():
        for each in chain(part.parameters(recurse=False), part.buffers(recurse=False)):
            device = device or each.device
            if each.is_floating_point():
                return device, each.dtype
    return device or torch.device("cpu"), torch.float32


def _logits_in(output: Any, name: str) -> Tensor:
    found = output
    if not isinstance(output, Tensor):
        found = getattr(output, "logits", None)
        if found is None and isinstance(output, Mapping):
            found = output.get("logits")
        elif found is None and isinstance(output, Sequence) and output:
            found = output[0]
    if not isinstance(found, Tensor):
        kind = type(output).__name__
        raise ModelError(
            f"{name} gave {kind} without logits, expected a tensor (samples, outputs), or an "
            "object with logits: wrap it in a module whose forward returns them"
        )
    return found


# --- finding the layers ---------------------------------------------------------------------


def weight_axes(module: nn.Module) -> int:
    """Axes of the weights a module multiplies its input with: 2 for Linear, 4 for Conv2d; or 0."""
    if isinstance(module, _NO_LAYERS):
        return 0
    if type(module).forward is nn.Module.forward:
        return 0  # a husk as exported graphs have: nothing calls it
    if isinstance(module, _TABLES):
        return 2
    weight = getattr(module, "weight", None)
    if callable(weight) and hasattr(module, "scale"):  # a quantised layer
        weight = weight()
    return weight.ndim if isinstance(weight, Tensor) and weight.ndim > 1 else 0


def layers_of(module: nn.Module) -> dict[str, nn.Module]:
    """The submodules that hold weights, by name; the module itself goes by its class.

    Raises:
        ModelError: there is none.
    """
    layers = {
        name or type(part).__name__: part
        for name, part in module.named_modules()
        if weight_axes(part)
    }
    if not layers:
        raise ModelError(
            f"{type(module).__name__} has no module that holds weights, expected layers such as "
            "nn.Linear or nn.Conv2d: pass the nn.Module itself, not a traced or exported one"
        )
    return layers


def read_tensors(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[Tensor]:
    """The tensors a layer multiplies with its weights: query, key and value, or its first input."""
    given = [*args, *kwargs.values()]
    if isinstance(module, nn.MultiheadAttention):
        given = [*args, *(kwargs[name] for name in ("query", "key", "value") if name in kwargs)]
    found = [each for each in given if isinstance(each, Tensor)]
    return found[: 3 if isinstance(module, nn.MultiheadAttention) else 1]


def call_hooks(
    layers: Mapping[str, nn.Module], stack: ExitStack, seen: Callable[[Key, Tensor], None]
) -> Counter[str]:
    """Call ``seen`` with every tensor the layers read.

    The result counts the calls of each layer: clear it before every forward pass.
    """
    calls: Counter[str] = Counter()

    def hook_of(name: str) -> Hook:
        def hook(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for argument, tensor in enumerate(read_tensors(part, args, kwargs)):
                if tensor.is_floating_point() or tensor.is_quantized:
                    seen(Key(name, calls[name], argument), tensor)
            calls[name] += 1

        return hook

    for name, part in layers.items():
        handle = part.register_forward_pre_hook(hook_of(name), with_kwargs=True)
        stack.callback(handle.remove)
    return calls


class _Pass(NamedTuple):
    shapes: dict[Key, tuple[int, ...]]
    same: dict[Key, Key]  # the first reader of each tensor
    logits: Tensor
    task: str


def _observe(module: nn.Module, x: NDArray[Any] | Inputs, n_samples: int) -> _Pass:
    """Run once on so many copies of the first sample: what layers read, and who read it first."""
    tensors: dict[Key, Tensor] = {}  # kept, so that no address is used twice
    first: dict[Any, Key] = {}
    same: dict[Key, Key] = {}

    def seen(key: Key, tensor: Tensor) -> None:
        tensors[key] = tensor
        where = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor._version)
        same[key] = first.setdefault(where, key)

    with frozen(module) as running:
        call_hooks(layers_of(module), running.stack, seen)
        output = running.run(x[np.zeros(n_samples, np.intp)])
        logits, task = running.logits(output, n_samples)
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    return _Pass(shapes, same, logits, task)


def _refuse_state(one: Tensor, other: Tensor, name: str) -> None:
    """Raise ModelError for logits that differ, though all are of the same sample."""
    rows = torch.cat([one, other]).detach().double()
    apart, size = (rows - rows[0]).abs().max(), rows.abs().max()
    if apart > _SAME * size:  # what is no number is refused with the user's samples
        raise ModelError(
            f"{name} gave logits {float(apart):.3g} apart for the same sample, expected the same "
            "each time, as samples are cached: take out what is random or kept between calls"
        )


def find_network(
    module: nn.Module, x: NDArray[Any] | Inputs, *, grid: int, one_by_one: bool = False
) -> Network:
    """Find the layers of ``module`` by running it on the first sample of ``x``, several times.

    Layers that read something else than the samples (such as a table of positions) are left out.

    Raises:
        ModelError: no layer with weights is called, the output is no logits, or not the same for
            the same sample.
    """
    layers, name = layers_of(module), type(module).__name__
    counts = (1, 1) if one_by_one else (2, 3)
    one, other = (_observe(module, x, n_samples) for n_samples in counts)
    n_outputs, also = int(one.logits.shape[1]), int(other.logits.shape[1])
    if n_outputs != also:
        raise ModelError(
            f"{name} gave {n_outputs} outputs for {counts[0]} samples and {also} for {counts[1]}, "
            "expected as many for any: is it a network?"
        )
    _refuse_state(one.logits, other.logits, name)
    places: dict[Key, Place] = {}
    for key, shape in one.shapes.items():
        axis = 0 if one_by_one else _samples_axis(shape, other.shapes.get(key, ()), *counts)
        if axis is not None:
            tap = _tap(key.name, weight_axes(layers[key.module]), shape, axis, counts[0], grid)
            places[key] = Place(key, axis, tap)
    if not places:
        raise ModelError(
            f"{name} called none of its {len(layers)} layers on the samples, expected at least "
            "one: pass the nn.Module itself, not a traced, exported or replaced one"
        )
    return Network(_merged(places, one.same), n_outputs, one.task)


def _samples_axis(
    shape: tuple[int, ...], other: tuple[int, ...], count: int, other_count: int
) -> int | None:
    """The one axis that grows with the samples, or None."""
    if len(shape) != len(other) or len(shape) < 2:
        return None
    grown = [axis for axis, size in enumerate(shape) if size != other[axis]]
    if len(grown) != 1 or shape[grown[0]] * other_count != other[grown[0]] * count:
        return None
    return grown[0] if shape[grown[0]] % count == 0 else None


def _merged(places: Mapping[Key, Place], same: Mapping[Key, Key]) -> tuple[Place, ...]:
    """One place a tensor, named by its first reader; the last layer's tensor is the last one."""
    readers: dict[Key, list[Key]] = {}
    for key in places:
        readers.setdefault(same[key], []).append(key)
    last = same[list(places)[-1]]
    groups = [*(keys for first, keys in readers.items() if first != last), readers[last]]
    return tuple(
        replace(places[key], aliases=tuple(other.name for other in others))
        for key, *others in groups
    )


def _tap(name: str, axes: int, shape: tuple[int, ...], axis: int, count: int, grid: int) -> Tap:
    """The tap of a tensor of this shape; ``axes`` are those of the layer's weights.

    Samples may be folded with windows, frames or tokens into one axis, samples outermost.
    """
    inside = shape[:axis] + shape[axis + 1 :]
    parts = shape[axis] // count
    label = f"input of {name}"
    if axes > 2:  # a convolution: channels, then places
        sizes = (parts, *inside[1:]) if parts > 1 and len(inside) <= _MOST_PLACES else inside[1:]
        return tap_of(name, label, (inside[0], *sizes), channels_first=True, grid=grid)
    if parts == 1 and len(inside) in (1, 3, 4):
        return tap_of(name, label, inside, grid=grid)
    return tap_of(name, label, (parts * math.prod(inside[:-1]), inside[-1]))
