"""How a model of another runtime is tapped: what must be the same for an adapter to fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skip2lora.backbones.base import Backbone

#: Name, shape of one sample and kind of numbers of each input.
Shapes = tuple[tuple[str, tuple[int, ...], str], ...]


@dataclass(frozen=True)
class Tapping:
    """Names of the tapped layers, the grid of their maps, and what fixes the shapes of these.

    ``size`` is the height and width that open axes of images were fixed to. ``inputs`` are the
    shapes of the samples that a module was run on to find its layers. Each is None where it does
    not matter or is not known.
    """

    taps: tuple[str, ...] | None = None
    grid: int | None = None
    size: tuple[int, int] | None = None
    inputs: Shapes | None = None

    @classmethod
    def of(cls, backbone: Backbone) -> Tapping:
        """That of a backbone; nothing of one without a choice of taps."""
        if not backbone.chooses_taps:
            return cls()
        layers = tuple(tap.layer for tap in backbone.taps)
        return cls(layers, backbone.grid, backbone.size, backbone.sample_shapes)

    def to_json(self) -> dict[str, Any]:
        """What is known of it, as JSON holds it."""
        said: dict[str, Any] = {}
        if self.taps is not None:
            said["taps"] = list(self.taps)
        if self.grid is not None:
            said["grid"] = self.grid
        if self.size is not None:
            said["input_size"] = list(self.size)
        if self.inputs is not None:
            said["inputs"] = [[name, list(shape), kind] for name, shape, kind in self.inputs]
        return said

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Tapping:
        """What :meth:`to_json` gave, among other keys.

        Raises:
            TypeError, ValueError: it gave something else.
        """
        taps, grid, size = found.get("taps"), found.get("grid"), found.get("input_size")
        inputs = found.get("inputs")
        return cls(
            None if taps is None else tuple(map(str, taps)),
            None if grid is None else _whole(grid),
            None if size is None else _pair(size),
            None
            if inputs is None
            else tuple((str(name), tuple(map(_whole, shape)), str(k)) for name, shape, k in inputs),
        )

    def apply(self, backbone: Backbone) -> Backbone:
        """The same model, tapped so.

        Raises:
            ParameterError: a layer or a size that it does not have.
        """
        if self.taps is None:
            return backbone
        if self.inputs is not None:
            backbone = backbone.with_shapes(self.inputs)
        return backbone.with_taps(list(self.taps), grid=self.grid, size=self.size)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def _pair(value: Any) -> tuple[int, int]:
    height, width = value
    return _whole(height), _whole(width)
