"""A PyTorch module as it is run: in eval mode, without gradients, on its own device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skip2lora.arrays import Inputs
from skip2lora.backbones.torch.ends import End, outputs_in
from skip2lora.backbones.torch.trail import Trail
from skip2lora.errors import ModelError

_ENDINGS = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid)


@contextmanager
def frozen(
    module: nn.Module, threads: int | None = None, *, walked: bool = True
) -> Iterator[Frozen]:
    """The module in eval mode without gradients; hooks put on its stack are removed at the end.

    Every submodule gets its own mode back, also after an error. The fused path of PyTorch's
    attention is off meanwhile: it would pass the submodules by. PyTorch runs on ``threads``
    threads, None for as many as the caller has set. With ``walked`` its last operators are
    remembered, to walk back from an output that no module of its own ends.
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
        yield Frozen(parts, stack, Trail() if walked else None)


def _train(parts: Sequence[nn.Module]) -> None:
    for part in parts:
        part.training = True


class Frozen:
    """A module while it is :func:`frozen`; remembers what softmaxes and sigmoids made of rows."""

    def __init__(
        self, parts: Mapping[str, nn.Module], stack: ExitStack, trail: Trail | None = None
    ) -> None:
        self._trail = trail
        self.stack, self._parts, self._module = stack, parts, parts[""]
        self.name = type(self._module).__name__
        self._device, self._floats = _placed(parts)
        self._endings: list[tuple[nn.Module, Tensor, Tensor]] = []
        for part in parts.values():
            if isinstance(part, _ENDINGS):
                stack.callback(part.register_forward_hook(self._remember).remove)

    def part(self, name: str) -> nn.Module | None:
        """The submodule of that name, None where it is gone; the module goes by its class."""
        return self._parts.get(name, self._module if name == self.name else None)

    def _remember(self, part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if inputs and output.ndim < 3:  # not one called by keyword, nor one of attention
            self._endings.append((part, inputs[0], output))

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """A copy, as the module may write on it, on its device and in its type of floats."""
        tensor = torch.tensor(np.ascontiguousarray(array))
        return tensor.to(self._device, self._floats if tensor.is_floating_point() else None)

    def run(self, x: NDArray[Any] | Inputs) -> Any:
        """What the module makes of one batch."""
        with nullcontext() if self._trail is None else self._trail:
            if isinstance(x, Inputs):
                return self._module(**{of: self.tensor(array) for of, array in x.arrays.items()})
            return self._module(self.tensor(x))

    def ends(self, output: Any) -> dict[str, End]:
        """What stands at each output, by its name, from what the module returned.

        Raises:
            ModelError: it holds no tensor.
        """
        endings, self._endings = self._endings, []
        parts = outputs_in(output)
        if not any(isinstance(part, Tensor) for part in parts.values()):
            raise ModelError(
                f"{self.name} gave {type(output).__name__} without logits, expected a tensor "
                "(samples, outputs), or an object with logits: wrap it in a module whose forward "
                "returns them"
            )
        ends = {}
        for name, part in parts.items():
            before = next(((at, given) for at, given, result in endings if result is part), None)
            if before is None:
                ends[name] = End(part) if self._trail is None else self._trail.ended(part)
            else:
                sigmoid = isinstance(before[0], nn.Sigmoid)
                ends[name] = End(before[1], "sigmoid" if sigmoid else "softmax")
        if self._trail is not None:
            self._trail.clear()
        return ends

    def logits(self, output: Any, n_samples: int, name: str | None) -> Tensor:
        """The logits (n_samples, n_outputs) of the output of that name; of None, no columns.

        Raises:
            ModelError: it is something else.
        """
        ends = self.ends(output)
        if name is None:
            return torch.empty(n_samples, 0)
        rows = ends[name].rows(n_samples) if name in ends else None
        if rows is None:
            shown = ends[name] if name in ends else f"outputs {', '.join(ends)}"
            raise ModelError(
                f"{self.name} gave {shown} for {n_samples} samples, expected logits "
                f"({n_samples}, outputs) as {name}: wrap it in a module whose forward returns them"
            )
        return rows


def _placed(parts: Mapping[str, nn.Module]) -> tuple[torch.device, torch.dtype]:
    """Where a module is, which may change between two calls, and its type of floats."""
    device = None
    for part in parts.values():
        for each in chain(part.parameters(recurse=False), part.buffers(recurse=False)):
            device = device or each.device
            if each.is_floating_point():
                return device, each.dtype
    return device or torch.device("cpu"), torch.float32
