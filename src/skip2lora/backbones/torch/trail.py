"""The last operators that a PyTorch module ran, so that its ends can be walked back to logits."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from skip2lora.backbones import ends
from skip2lora.backbones.ends import End, Op, end_of
from skip2lora.backbones.torch import ends as ends_of

_MOST = 96  # operators that are remembered, with their tensors
_SAME = (
    "view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze", "permute", "t",
    "transpose", "clone", "detach", "alias", "contiguous", "flatten",
)  # fmt: skip
_LAYERS = ("addmm", "mm", "linear", "convolution", "_convolution", "bmm")
_CLOSED = ("hardsigmoid", "sigmoid_", "hardtanh")


class Trail(TorchDispatchMode):  # type: ignore[misc]
    """Remembers the last operators while it is on, with the tensors that they read and made."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: deque[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = deque(maxlen=_MOST)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operator and remember it."""
        del types
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self._steps.append((name, tuple(args), dict(kwargs or {}), result))
        return result

    def clear(self) -> None:
        """Forget what was run."""
        self._steps.clear()

    def ended(self, output: Any) -> ends_of.End:
        """An output with its logits, of which only its operators tell; itself where none do."""
        if not isinstance(output, Tensor):
            return ends_of.End(output)
        end, logits = self.end(output)
        if end.reason:
            return ends_of.End(output, end.ending, end)
        flat = logits.reshape(len(logits), -1) if logits.ndim else logits.reshape(1, 1)
        finite = bool(logits.isfinite().all())  # what is not is refused with the samples
        near = 0.03 if output.dtype == torch.bfloat16 else 2e-3  # 8 bits
        if finite and not end.agrees(_numbers(flat), _numbers(output), near):
            end = end.refuted()
            return ends_of.End(output, end.ending, end)
        return ends_of.End(output) if logits is output else ends_of.End(logits, end.ending, end)

    def end(self, output: Tensor) -> tuple[End, Tensor]:
        """What stands at an output, and the tensor of its logits."""
        makers: dict[int, tuple[str, tuple[Any, ...], dict[str, Any]]] = {}
        tensors: dict[int, Tensor] = {id(output): output}
        for name, args, kwargs, result in self._steps:
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, Tensor):
                    makers[id(tensor)] = name, args, kwargs
            for given in _flat(args):
                tensors[id(given)] = given
        end = end_of(id(output), lambda key: _op(key, makers))
        return end, tensors[end.logits]


def _numbers(tensor: Tensor) -> NDArray[Any]:
    """As NumPy has them, which knows no bfloat16."""
    reals = tensor.float() if tensor.is_floating_point() else tensor
    numbers: NDArray[Any] = reals.numpy(force=True)
    return numbers


def _flat(args: Sequence[Any]) -> list[Tensor]:
    parts = [each for arg in args for each in (arg if isinstance(arg, list | tuple) else (arg,))]
    return [part for part in parts if isinstance(part, Tensor)]


def _op(key: int, makers: dict[int, tuple[str, tuple[Any, ...], dict[str, Any]]]) -> Op | None:
    """What makes a tensor, as :mod:`skip2lora.backbones.ends` takes it."""
    if key not in makers:
        return None
    name, args, kwargs = makers[key]
    read = [each for each in _flat(args) if id(each) != key]
    data, title = tuple(map(id, read)), name.strip("_")
    if name in _LAYERS:
        return Op(ends.LAYER, data, title)
    if name in _CLOSED:
        return Op(ends.CLOSED, data, title)
    if len(data) < len(_flat(args)) or not data:  # in place
        return Op(ends.OTHER, data, title)
    if name in _SAME:
        return Op(ends.SAME, data, title)
    if name == "_to_copy":
        real = kwargs.get("dtype") is None or kwargs["dtype"].is_floating_point
        cut = not real and read[0].is_floating_point()
        return ends.cast(Op(ends.OTHER, data, title), to_truth=False, to_whole=cut)
    if name in ("argmax", "topk", "max"):
        return Op(ends.LARGEST, data[:1], title)
    if name in ("cat", "stack"):
        return Op(ends.JOIN, data, title)
    if name == "softplus" or (name == "exp" and id(read[0]) not in makers):
        return Op(ends.NUMBERS, data, title)
    return _function(name, args, kwargs, data, title) or Op(ends.OTHER, data, title)


def _function(
    name: str, args: Sequence[Any], kwargs: dict[str, Any], data: tuple[int, ...], title: str
) -> Op | None:
    """A function of each number, where all other operands are numbers."""
    if len(data) != 1 or kwargs.get("alpha", 1) != 1:
        return None
    op = Op(ends.OTHER, data, title)
    if function := ends.of_one(name, op):
        return function
    if name.startswith("clamp"):
        low, high = (*args[1:], None, None)[:2]
        low, high = kwargs.get("min", low), kwargs.get("max", high)
        if name == "clamp_max":
            low, high = None, low
        low, high = (-np.inf if low is None else low), (np.inf if high is None else high)
        return Op(ends.EACH, data, title, lambda values: np.clip(values, low, high))
    if ends.takes_two(name) and len(args) >= 2 and isinstance(args[1], int | float):
        return ends.of_two(name, op, args[1])
    return None
