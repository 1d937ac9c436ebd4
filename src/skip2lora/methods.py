"""The paper's fine-tuning methods, each a row of compute types (Table 1, sections 3 and 4.1).

A row is data that one C loop executes. The letters are those of Table 1, y, w, b and x; batch norm
has two kinds of its own: ``s``, normalise by the statistics of the batch and move the running
ones, and ``w``, train gamma and beta.
"""

from __future__ import annotations

from dataclasses import dataclass

from skip2lora import _core
from skip2lora.errors import ParameterError

_FLAGS = {"y": _core.Y, "w": _core.W, "b": _core.B, "x": _core.X, "s": _core.STATS}


@dataclass(frozen=True)
class Method:
    """What a method computes in the layers below the last one, and in the last one.

    The first layer is like the inner ones but without gx, which nothing would receive (section 3).
    ``skip``: the adapters lead from each layer's input to the last layer's output (Eq. 17) instead
    of beside their layer. ``cache``: what the frozen layers computed is kept (section 4.2).
    """

    name: str
    fc_inner: str
    fc_last: str
    lora_inner: str = ""
    lora_last: str = ""
    bn: str = "y"
    skip: bool = False
    cache: bool = False

    @property
    def batch_statistics(self) -> bool:
        """Whether batch norm uses the statistics of the batch."""
        return "s" in self.bn

    def rows(self, n_layers: int) -> tuple[tuple[int, int, int], ...]:
        """(fc, lora, batch norm) flags of each layer, first to last, for the C loop."""
        rows = []
        for layer in range(n_layers):
            last = layer == n_layers - 1
            fc = self.fc_last if last else self.fc_inner
            lora = self.lora_last if last else self.lora_inner
            bn = "" if last else self.bn
            rows.append(tuple(_flags(types, first=layer == 0) for types in (fc, lora, bn)))
        return tuple(rows)  # type: ignore[arg-type]

    def adapted_layers(self, n_layers: int) -> range:
        """Layers that have an adapter: all of them, or the last."""
        return range(0 if self.lora_inner else n_layers - 1, n_layers if self.lora_last else 0)


def _flags(types: str, *, first: bool) -> int:
    kept = types.replace("x", "") if first else types
    return sum(_FLAGS[letter] for letter in kept)


FT_ALL = Method("ft-all", "ywbx", "ywbx", bn="ysw")
LORA_ALL = Method("lora-all", "yx", "yx", "ywx", "ywx", bn="ys")
LORA_LAST = Method("lora-last", "y", "y", "", "yw", skip=True)
SKIP_LORA = Method("skip-lora", "y", "y", "yw", "yw", skip=True)
SKIP2_LORA = Method("skip2-lora", "y", "y", "yw", "yw", skip=True, cache=True)

#: Methods whose result is an adapter. LoRA-Last is Skip-LoRA with the last layer's tap alone.
ADAPTER_METHODS = {method.name: method for method in (SKIP2_LORA, SKIP_LORA, LORA_LAST, LORA_ALL)}


def adapter_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ParameterError: there is none.
    """
    if name not in ADAPTER_METHODS:
        raise ParameterError(
            f"method {name!r} is unknown, expected one of {', '.join(ADAPTER_METHODS)}"
        )
    return ADAPTER_METHODS[name]
