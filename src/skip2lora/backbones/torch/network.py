"""What a PyTorch module computes on the way: which layers read which tensors, and their rows.

Shapes and calls are known by running alone, so a network is found by passing a few samples through
it, among others and alone (:mod:`skip2lora.backbones.alone`): so is known where it put the samples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skip2lora.arrays import Inputs
from skip2lora.backbones.alone import Batch, Layout, batches_of, note_of, untapped, verdict_of
from skip2lora.backbones.outputs import NO_LOGITS, Candidate, OutputSpec, choose
from skip2lora.backbones.taps import Selection, Tap, chosen, tap_of
from skip2lora.backbones.torch.ends import End
from skip2lora.backbones.torch.frozen import frozen
from skip2lora.backbones.torch.mixing import mixing, numbers_of, rounds_batches
from skip2lora.backbones.torch.refusals import no_layers
from skip2lora.errors import ModelError, warn

#: Have matrices for weights but multiply nothing with them, or call no hook.
_NO_LAYERS = (nn.LayerNorm, nn.Embedding, nn.EmbeddingBag, torch.jit.ScriptModule)
_TABLES = (nn.MultiheadAttention, nn.RNNBase, nn.Bilinear)  # read vectors, whatever their weights
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
    """Where a tap is read, and where its tensor holds the samples.

    ``aliases`` are the other layers that read the same tensor.
    """

    key: Key
    layout: Layout
    tap: Tap
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Network:
    """What running a module has shown: its layers, in order, its outputs, and which is taken.

    ``output`` is None where those that say of classes have no logits.
    """

    places: tuple[Place, ...]
    outputs: tuple[OutputSpec, ...]
    output: str | None
    walked: bool = False  # back from the output over its operators

    @property
    def taken(self) -> OutputSpec | None:
        """The output whose logits are adapted."""
        return next((spec for spec in self.outputs if spec.name == self.output), None)

    @property
    def n_outputs(self) -> int:
        """Width of the logits, 0 where there are none."""
        return 0 if self.taken is None else self.taken.width


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
        raise no_layers(module)
    return layers


def read_tensors(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[Tensor]:
    """The tensors a layer multiplies with its weights: query, key and value, or its first input."""
    given = [*args, *kwargs.values()]
    if isinstance(module, nn.MultiheadAttention):
        given = [*args, *(kwargs[name] for name in ("query", "key", "value") if name in kwargs)]
    tensors = [each for each in given if isinstance(each, Tensor)]
    return tensors[: 3 if isinstance(module, nn.MultiheadAttention) else 1]


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
    batch: Batch
    shapes: dict[Key, tuple[int, ...]]
    values: dict[Key, NDArray[Any]]
    same: dict[Key, Key]  # the first reader of each tensor
    ends: dict[str, End]
    read: frozenset[int]  # where the tensors lie that layers with weights read, and make
    results: frozenset[int]


def _observe(module: nn.Module, x: NDArray[Any] | Inputs, batch: Batch) -> _Pass:
    """Run once on samples of ``x``: what layers read, and who read it first."""
    tensors: dict[Key, Tensor] = {}  # kept, so that no address is used twice
    values: dict[Key, NDArray[Any]] = {}
    first: dict[Any, Key] = {}
    same: dict[Key, Key] = {}
    results: list[Tensor] = []

    def seen(key: Key, tensor: Tensor) -> None:
        tensors[key] = tensor
        values[key] = numbers_of(tensor, len(batch))
        where = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor._version)
        same[key] = first.setdefault(where, key)

    with frozen(module) as running:
        layers = layers_of(module)
        call_hooks(layers, running.stack, seen)
        for part in layers.values():
            handle = part.register_forward_hook(lambda _, __, output: results.append(output))
            running.stack.callback(handle.remove)
        ends = running.ends(running.run(x[np.array(batch)]))
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    return _Pass(
        batch, shapes, values, same, ends, _places_of(tensors.values()), _places_of(results)
    )


def _places_of(tensors: Iterable[Any]) -> frozenset[int]:
    """Where tensors lie in memory."""
    return frozenset(each.data_ptr() for each in tensors if isinstance(each, Tensor))


def _choose(first: _Pass, n_samples: int, asked: str | int | None, name: str) -> Network:
    """The outputs, and the one that is taken; its layers are not known yet.

    Raises:
        ModelError: none is a row of numbers a sample, nor says of classes otherwise.
        ParameterError: there is no such output, or several may be that with the classes.
    """
    ends = first.ends
    at = {of: end.values.data_ptr() if end.tensor else -1 for of, end in ends.items()}
    specs = [end.spec(of, n_samples, layer=at[of] in first.results) for of, end in ends.items()]
    if not any(spec.width for spec in specs):
        specs = [
            replace(spec, ending="labels", reason=NO_LOGITS)
            if end.whole and not spec.closed
            else spec
            for spec, end in zip(specs, ends.values(), strict=True)
        ]
    candidates = [Candidate(spec, at[spec.name], at[spec.name] in first.read) for spec in specs]
    if asked is None and any(spec.name == "logits" and not spec.closed for spec in specs):
        asked = "logits"  # as is usual of such modules
    taken = choose(candidates, asked, name)
    if taken is None:
        if any(spec.closed for spec in specs):
            return Network((), tuple(specs), None)
        shown = next(end for end in ends.values() if end.tensor)
        raise ModelError(
            f"{name} gave {shown} for {n_samples} samples, expected logits ({n_samples}, outputs): "
            "wrap it in a module whose forward returns them"
        )
    own = specs[taken].name
    return Network((), tuple(specs), own, ends[own].walked is not None)


def _said(seen: _Pass, output: str | None) -> Tensor | None:
    """The logits of a pass, or the first real numbers that it gave where nothing has logits."""
    if output is not None:
        return seen.ends[output].rows(len(seen.batch)) if output in seen.ends else None
    for end in seen.ends.values():
        if end.walked is not None and end.walked.reason and end.values.is_floating_point():
            return end.values.reshape(len(end.values), -1) if end.values.ndim else None
    return None


def _rows_of(passes: Sequence[_Pass], output: str | None, name: str) -> list[Tensor]:
    """The logits of each pass; without logits, what is said instead, or nothing.

    Raises:
        ModelError: there are not as many a sample in each.
    """
    rows = [_said(seen, output) for seen in passes]
    if output is None and any(each is None for each in rows):
        return []
    widths = [0 if each is None else int(each.shape[1]) for each in rows]
    for seen, each, width in zip(passes, rows, widths, strict=True):
        if each is None or width != widths[0]:
            raise ModelError(
                f"{name} gave {widths[0]} outputs for {len(passes[0].batch)} samples and {width} "
                f"for {len(seen.batch)}, expected as many for any: is their axis squeezed away?"
            )
    return [each for each in rows if each is not None]


def _refuse_mixing(module: nn.Module, x: Any, passes: Sequence[_Pass], output: str | None) -> None:
    """Raise ModelError where the logits of a sample depend on more than the sample."""
    name, first = type(module).__name__, passes[0]
    rows = [each.detach() for each in _rows_of(passes, output, name)]
    if not rows:
        return  # each tap is looked at by itself
    batches = [seen.batch for seen in passes]
    numbers = [numbers_of(each, len(batch)) for each, batch in zip(rows, batches, strict=True)]
    verdict = verdict_of(list(zip(batches, numbers, strict=True)))
    if verdict.holds(dynamic=rounds_batches(module)):
        if (note := note_of(verdict)) is not None:
            warn(f"{name}: {note}")
        return
    [again] = _rows_of([_observe(module, x, first.batch)], output, name)
    apart = float((again.detach() - rows[0]).abs().max())
    if apart > 0:  # what is no number is refused with the user's samples
        raise ModelError(
            f"{name} gave logits {apart:.3g} apart for the same sample, expected the same "
            "each time, as samples are cached: take out what is random or kept between calls"
        )
    if np.isfinite(numbers[0]).all():
        raise mixing(module, x, batches, verdict)


def find_network(
    module: nn.Module,
    x: NDArray[Any] | Inputs,
    *,
    grid: int,
    one_by_one: bool = False,
    output: str | int | None = None,
) -> Network:
    """Find the layers of ``module`` by running it on samples of ``x``, in three batches.

    Layers that read something else than the samples (such as a table of positions) are left out, as
    are those by which a sample's numbers change with the others.

    Raises:
        ModelError: no layer with weights is called, the output is no logits, not the same for the
            same sample, or changes with the others of a batch.
        ParameterError: there is no such ``output``, or several may be that with the classes.
    """
    layers, name = layers_of(module), type(module).__name__
    *batches, last = batches_of(1 if one_by_one else None)
    passes = [_observe(module, x, batch) for batch in batches]
    network = _choose(passes[0], len(passes[0].batch), output, name)
    try:
        passes.append(_observe(module, x, last))
    except Exception:  # whatever a module raises
        _refuse_mixing(module, x, passes, network.output)  # statistics of one sample, maybe
        raise
    first, *others = passes
    _refuse_mixing(module, x, passes, network.output)
    places: dict[Key, Place] = {}
    unsure: list[str] = []
    for key, shape in first.shapes.items():
        if len(shape) < 2 or not all(key in seen.values for seen in others):
            continue
        verdict = verdict_of([(seen.batch, seen.values[key]) for seen in passes])
        layout = verdict.layout
        if one_by_one:
            layout = Layout(0, 1, shape[0])
        if layout is not None and verdict.holds(dynamic=rounds_batches(module)):
            axes = weight_axes(layers[key.module])
            tap = _tap(key.name, axes, shape, layout.axis, len(first.batch), grid)
            places[key] = Place(key, layout, tap)
        elif verdict.ambiguous(dynamic=rounds_batches(module)):
            unsure.append(key.name)
    if not places:
        raise ModelError(
            f"{name} called none of its {len(layers)} layers on the samples, expected at least "
            "one: pass the nn.Module itself, not a traced, exported or replaced one"
        )
    if (note := untapped(unsure)) is not None:
        warn(f"{name}: {note}")
    return replace(network, places=_merged(places, first.same))


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

    Samples may be folded with windows, frames or tokens into one axis, in any order.
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


def select(places: Sequence[Place], taps: Selection) -> tuple[Place, ...]:
    """The chosen places; a layer that shares another's tensor may be named as well."""
    if isinstance(taps, str):
        taps = [taps]
    names = [place.tap.layer for place in places]
    words: Selection = taps
    if isinstance(taps, Sequence):
        words = []
        for word in taps:
            shared = [
                place.tap.layer
                for place in places
                if isinstance(word, str) and any(fnmatchcase(name, word) for name in place.aliases)
            ]
            own = isinstance(word, str) and any(fnmatchcase(name, word) for name in names)
            words += [*shared, *([word] if own or not shared else [])]
    return tuple(places[at] for at in chosen(names, words))
