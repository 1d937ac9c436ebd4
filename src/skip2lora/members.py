"""Members of a class that a subclass may define as it likes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # To type checkers it is what it acts as: a property that anything may override.
    from builtins import property as member
else:

    class member:  # noqa: N801, it stands where property would
        """A property with which nothing collides.

        A subclass may define the member as a property, a cached property, an attribute of the
        class or of the instance, or a field of a dataclass, frozen or not: unlike a ``property``
        it lets instances have a value of that name, and a dataclass does not take it for the
        default of a field.
        """

        def __init__(self, compute: Callable[[Any], Any]) -> None:
            self.compute = compute
            self.__doc__ = compute.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                raise AttributeError(f"{self.name} is a member of the instances")
            return self.compute(instance)


__all__ = ["member"]
