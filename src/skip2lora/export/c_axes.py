"""How a tensor of one sample lies: its axes as ONNX orders them, and as the C core does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

#: The axis of the samples, which C has one of at a time.
SAMPLES = "samples"


@dataclass(frozen=True)
class Axes:
    """Names of the axes: ``onnx`` with that of the samples, ``memory`` without, slowest first."""

    onnx: tuple[str, ...]
    memory: tuple[str, ...]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, tensor: str, shape: Sequence[int], samples: int = 0) -> Axes:
        """Those of a tensor that lies as ONNX has it; ``shape`` is that of one sample."""
        names = tuple(f"{tensor}.{place}" for place in range(len(shape)))
        onnx = (*names[:samples], SAMPLES, *names[samples:])
        return cls(onnx, names, dict(zip(names, map(int, shape), strict=True)))

    @property
    def width(self) -> int:
        """Numbers of one sample."""
        return self.size(self.memory)

    @property
    def inner(self) -> tuple[str, ...]:
        """The axes of one sample in ONNX's order."""
        return tuple(name for name in self.onnx if name != SAMPLES)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one sample in ONNX's order."""
        return tuple(self.sizes[name] for name in self.inner)

    def size(self, names: Sequence[str]) -> int:
        """Of these axes together."""
        return math.prod(self.sizes[name] for name in names)

    def permuted(self, order: Sequence[int]) -> Axes:
        """With ONNX's axes in that order."""
        return replace(self, onnx=tuple(self.onnx[place] for place in order))

    def without(self, places: Sequence[int]) -> Axes | None:
        """Without axes of ONNX of size 1; None where one is larger, or that of the samples."""
        gone = {self.onnx[place] for place in places}
        if SAMPLES in gone or self.size(tuple(gone)) != 1:
            return None
        onnx = tuple(name for name in self.onnx if name not in gone)
        memory = tuple(name for name in self.memory if name not in gone)
        return Axes(onnx, memory, self.sizes)

    def without_ones(self) -> Axes:
        """Without all axes of size 1 but that of the samples."""
        gone = {name for name in self.inner if self.sizes[name] == 1}
        onnx = tuple(name for name in self.onnx if name not in gone)
        return Axes(onnx, tuple(name for name in self.memory if name not in gone), self.sizes)

    def with_ones(self, tensor: str, places: Sequence[int]) -> Axes:
        """With further axes of size 1, at these places of the result."""
        onnx, sizes = list(self.onnx), dict(self.sizes)
        for place in sorted(places):
            name = f"{tensor}.{place}"
            onnx.insert(place, name)
            sizes[name] = 1
        added = tuple(f"{tensor}.{place}" for place in places)
        return Axes(tuple(onnx), (*self.memory, *added), sizes)

    def turned(self, memory: Sequence[str]) -> tuple[int, int] | None:
        """Rows and columns of the transposition that brings memory into that order.

        (1, 1) where it has it already, None where no one transposition does.
        """
        now, then = self._long(self.memory), self._long(memory)
        if sorted(now) != sorted(then):
            return None
        if now == then:
            return 1, 1
        for count in range(1, len(now)):
            if now[count:] + now[:count] == then:
                return self.size(now[:count]), self.size(now[count:])
        return None

    def _long(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in names if self.sizes[name] != 1)
