"""A member that a subclass may define as it likes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pytest

from skip2lora.members import member


class Base:
    factor = 2

    @member
    def size(self) -> int:
        """How large it is."""
        return 3 * self.factor


class OfInstance(Base):
    def __init__(self) -> None:
        self.size = 1


class OfClass(Base):
    size = 1


class Cached(Base):
    @cached_property
    def size(self) -> int:
        return 1


@dataclass(frozen=True)
class Frozen(Base):
    size: int


def test_the_default_is_computed() -> None:
    base = Base()
    assert base.size == 6
    base.factor = 5
    assert base.size == 15
    assert vars(Base)["size"].__doc__ == "How large it is."


@pytest.mark.parametrize("kind", [OfInstance, OfClass, Cached, lambda: Frozen(1)])
def test_a_subclass_defines_it_as_it_likes(kind: type[Base]) -> None:
    assert kind().size == 1


def test_it_is_no_default_of_a_field() -> None:
    with pytest.raises(TypeError, match="size"):
        Frozen()
