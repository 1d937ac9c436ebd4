"""What a PyTorch module returned: its outputs by name, and what stands at the end of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skip2lora.backbones.ends import End as Walked
from skip2lora.backbones.outputs import OutputSpec


class End(NamedTuple):
    """An output before its activation, anything that is not even a tensor, and what ends it.

    ``walked`` is how its operators were walked back, None where a module of its own ends it.
    """

    values: Any
    ending: str = ""
    walked: Walked | None = None

    def __str__(self) -> str:
        if not isinstance(self.values, Tensor):
            return type(self.values).__name__
        shown = f"{self.values.dtype} of shape {tuple(self.values.shape)}"
        reason = "" if self.walked is None else self.walked.reason
        return f"{shown}, {reason}" if reason else shown

    @property
    def tensor(self) -> bool:
        """Whether it is one."""
        return isinstance(self.values, Tensor)

    @property
    def whole(self) -> bool:
        """Whether it has whole numbers, or truths, of which nothing tells the logits."""
        return self.tensor and not self.values.is_floating_point()

    def rows(self, n_samples: int) -> Tensor | None:
        """Logits (n_samples, n_outputs), None where it is no row of numbers a sample."""
        values, walked = self.values, self.walked
        if not isinstance(values, Tensor) or not values.is_floating_point():
            return None
        if values.ndim not in (1, 2) or len(values) != n_samples:
            return None
        rows = values[:, None] if values.ndim == 1 else values
        if walked is None:
            return rows
        if walked.reason:
            return None
        if walked.pair and rows.shape[1] == 1:
            return torch.cat([-rows, rows], 1) * (0.5 * walked.sign)
        return rows if walked.pair or walked.sign > 0 else -rows

    def spec(self, name: str, n_samples: int, *, layer: bool) -> OutputSpec:
        """How it is described; its sizes are open where it is no row of numbers a sample."""
        rows = self.rows(n_samples)
        if rows is not None:
            ending = self.ending or ("logits" if layer else "unknown")
            if self.walked is not None and self.walked.pair:
                ending = "softmax" if self.values.shape[1:] in ((), (1,)) else "sigmoid"
            bare = self.walked is not None and self.walked.bare
            return OutputSpec(name, (int(rows.shape[1]),), ending, bare=bare)
        if self.walked is not None and self.walked.reason:
            return OutputSpec(name, (), self.walked.ending, self.walked.reason)
        inner = self.values.shape[1:] if isinstance(self.values, Tensor) else ()
        return OutputSpec(name, tuple(None for _ in inner), self.ending or "unknown")


def outputs_in(output: Any) -> dict[str, Any]:
    """What a module returned, by the name of its key or field, or its number in a tuple."""
    if isinstance(output, Tensor):
        return {"output": output}
    if isinstance(output, Mapping):
        return {str(name): part for name, part in output.items()}
    fields = getattr(output, "_fields", None)  # of a named tuple
    if isinstance(output, Sequence) and not isinstance(output, str):
        names = fields or map(str, range(len(output)))
        return dict(zip(names, output, strict=True))
    parts = {
        name: part for name, part in getattr(output, "__dict__", {}).items() if part is not None
    }
    logits = getattr(output, "logits", None)  # maybe a property
    return parts if logits is None else {**parts, "logits": logits}
