"""The paper's fine-tuning methods, each a row of compute types (Table 1, sections 3 and 4.1).

A row is data that one C loop executes. The letters are those of Table 1, y, w, b and x; batch norm
has two kinds of its own: ``s``, normalise by the statistics of the batch and move the running
ones, and ``w``, train gamma and beta.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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

    @cached_property
    def batch_statistics(self) -> bool:
        """Whether batch norm uses the statistics of the batch."""
        return "s" in self.bn

    @cached_property
    def tunes_network(self) -> bool:
        """Whether weights or biases of the network are trained, so that the result is a model."""
        return any(letter in self.fc_last + self.fc_inner for letter in "wb")

    @cached_property
    def freezes_below(self) -> bool:
        """Whether nothing below the last layer changes: what Skip-Cache needs (section 4.2)."""
        return self.fc_inner == "y" and self.bn == "y" and (self.skip or not self.lora_inner)

    def rows(self, n_layers: int) -> tuple[tuple[int, int, int], ...]:
        """(fc, lora, batch norm) flags of each layer, first to last, for the C loop."""
        return tuple(
            (_flags(fc), _flags(lora), _flags(bn)) for fc, lora, bn in self.letters(n_layers)
        )

    def letters(self, n_layers: int) -> tuple[tuple[str, str, str], ...]:
        """Compute types of FC, LoRA and batch norm of each layer, first to last (Table 1)."""
        rows = []
        for layer in range(n_layers):
            last = layer == n_layers - 1
            fc = self.fc_last if last else self.fc_inner
            lora = self.lora_last if last else self.lora_inner
            if layer == 0:
                fc, lora = fc.replace("x", ""), lora.replace("x", "")
            rows.append((fc, lora, "" if last else self.bn))
        return tuple(rows)

    @cached_property
    def adapted(self) -> slice:
        """Which layers have an adapter: all of them, the last, or none."""
        if not self.lora_last:
            return slice(0, 0)
        return slice(0 if self.lora_inner else -1, None)


def _flags(types: str) -> int:
    return sum(_FLAGS[letter] for letter in types)


class _Methods(dict[str, Method]):
    """Methods by name, and the error for a name that there is not."""

    def __missing__(self, name: object) -> Method:
        raise ParameterError(
            f"method {name!r} is unknown, expected one of {', '.join(self)}: choose one"
        )


#: The methods of sections 3 and 4, in the order of the paper's Table 4. FT-All-LoRA is FT-All and
#: LoRA-All at once (section 3.1). LoRA-Last is Skip-LoRA with the last layer's tap alone.
METHODS = _Methods(
    (method.name, method)
    for method in (
        Method("ft-all", "ywbx", "ywbx", bn="ysw"),
        Method("ft-last", "y", "ywb"),
        Method("ft-bias", "ybx", "ybx", bn="ys"),
        Method("ft-all-lora", "ywbx", "ywbx", "ywx", "ywx", bn="ysw"),
        Method("lora-all", "yx", "yx", "ywx", "ywx", bn="ys"),
        Method("lora-last", "y", "y", "", "yw", skip=True),
        Method("skip-lora", "y", "y", "yw", "yw", skip=True),
        Method("skip2-lora", "y", "y", "yw", "yw", skip=True, cache=True),
    )
)
FT_ALL = METHODS["ft-all"]
