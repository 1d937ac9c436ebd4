"""Numbers and words from a user, checked."""

from __future__ import annotations

import numbers
import operator

from skip2lora.errors import ParameterError


def whole(name: str, value: int, low: int, high: int | None = None, why: str = "") -> int:
    """``value`` if it is a whole number in range, else ParameterError."""
    limit = f"from {low}" if high is None else f"from {low} to {high}"
    reason = f", {why}" if why else ""
    try:
        number = operator.index(value if not isinstance(value, bool) else None)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        raise ParameterError(
            f"{name} is {value!r}, expected a whole number {limit}{reason}: choose another"
        )
    return number


def real(name: str, value: float, low: float, high: float, limits: str) -> float:
    """``value`` if it is a number in range, else ParameterError that says ``limits``."""
    if not _is_number(value) or not low <= value <= high:
        raise ParameterError(f"{name} is {value!r}, expected a number {limits}: choose another")
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def choice(name: str, value: str, known: tuple[str, ...]) -> str:
    """``value`` if it is one of ``known``, else ParameterError."""
    if value not in known:
        raise ParameterError(f"{name} is {value!r}, expected one of {', '.join(known)}: choose one")
    return value
