"""Every exception the package raises on purpose.

Each message says what was got, what was expected and what to do, on one line. The command line
prints that line and exits with 2.
"""

from __future__ import annotations

import inspect
import warnings


def brief(value: object, most: int = 60) -> str:
    """What a message shows of a value: at most that many characters, both ends of what is longer.

    Every message cuts by this; lists of names are cut by ``listing`` in arrays.py.
    """
    text = str(value)
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def first_line(error: object) -> str:
    """What an error of others says, on one line of at most 300 characters; or its class."""
    lines = (line.strip() for line in str(error).splitlines())
    return brief(next(filter(None, lines), type(error).__name__), 300)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called this package, however many calls of its own lie between."""
    package, frame, level, depth = __name__.partition(".")[0], inspect.currentframe(), 1, 1
    while frame is not None:
        depth += 1
        if frame.f_globals.get("__name__", "").partition(".")[0] == package:
            level = depth  # of its caller; others, such as contextlib, may lie between
        frame = frame.f_back
    warnings.warn(message, category, stacklevel=level)


class Skip2LoraError(Exception):
    """Base of all errors of this package."""


class DataError(Skip2LoraError, ValueError):
    """Samples or labels that cannot be used: shape, type, NaN, unknown label, malformed file."""


class ParameterError(Skip2LoraError, ValueError):
    """An argument out of its range, such as a rank of 0."""


class ColumnsWarning(UserWarning):
    """Columns with names that a model does not know, which go by their place; no error."""


class ForgettingWarning(UserWarning):
    """Classes of a model without a sample, which it may lose as it is adapted; no error."""


class FewSamplesWarning(UserWarning):
    """Classes of which there are fewer than three samples to learn from; no error."""


class SuspectLabelsWarning(UserWarning):
    """Labels that answers held out contradict, more than a few of them; no error."""


class DamagedCacheWarning(UserWarning):
    """A file of a cache that is dropped, whose rows are computed again; no error."""


class TaskWarning(UserWarning):
    """Answers that are learned as numbers and may be two classes; no error."""


class ModelError(Skip2LoraError, ValueError):
    """A model or adapter file that cannot be read, or one that does not fit the other."""


class FileError(Skip2LoraError, OSError):
    """A path that cannot be read or written: missing, exists already, no permission, disk full."""


class DivergedError(Skip2LoraError, ArithmeticError):
    """Training left the finite numbers."""


class ClusterError(Skip2LoraError, RuntimeError):
    """A cluster that does not answer, has no workers, or loses what runs on it."""


class MissingExtraError(Skip2LoraError, ImportError):
    """An optional dependency is not installed; the message names the extra."""


class SensorError(Skip2LoraError, OSError):
    """A sensor of power, temperature or clock that cannot be used or read."""
