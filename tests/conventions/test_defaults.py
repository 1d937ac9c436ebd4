"""What is left out is nothing: of an argument or a field the default is none, 0 or false.

What else a default is stands in a table here, once a name, as a caller meets it in several places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from inspect import signature
from types import FunctionType
from typing import Any

from package_modules import members

#: Of arguments and fields, those that are not nothing when they are left out.
DEFAULTS: dict[str, set[float]] = {
    # what changes nothing: a factor, a version, one thread
    "base_factor": {1.0}, "beta": {1.0}, "factor": {1.0}, "groups": {1}, "in_channels": {1},
    "low": {1}, "model_version": {1}, "n_designs": {1}, "n_features": {1}, "orientation": {1},
    "percent": {100}, "scale": {1.0}, "sign": {1}, "solver": {1}, "speed": {1.0}, "stride": {1},
    "threads": {1}, "version": {1}, "width": {1}, "behind": {-1}, "digits": {1},
    # of the paper
    "batch_size": {20, 64}, "batch_norm": {True}, "bn_eps": {1e-5}, "bn_momentum": {0.1},
    "learning_rate": {0.01}, "n_per_split": {470}, "rank": {4},
    # of adapting
    "count": {2, 10}, "epochs": {100, 300}, "keep_outputs": {True}, "n_folds": {4},
    "precision": {0.95}, "pretrain_epochs": {100}, "standardize": {True}, "stop_after": {2},
    "z": {2.25}, "bits": {8}, "capacity": {512}, "grid": {4}, "most": {60, 64, 4096},
    # of a service (bytes in powers of two)
    "all_classes": {True}, "batch": {10}, "candidates": {400}, "candidates_bytes": {16 << 20},
    "events": {10_000}, "first_batch": {20}, "labelled": {10_000}, "learn": {300},
    "learning": {True}, "limit": {100, 1000, 1e5}, "most_bytes": {64 << 20},
    "most_columns": {2048}, "pending": {4096}, "pending_bytes": {16 << 20}, "per_second": {50},
    "records": {200}, "sample_bytes": {1 << 20}, "unlabelled": {2000},
    "unlabelled_bytes": {64 << 20}, "versions": {10},
    # of measuring
    "dpi": {130}, "every": {1.0}, "idle_s": {9.0}, "interval_s": {0.01}, "most_epochs": {1000},
    "near": {2e-3}, "rounds": {5}, "seconds": {0.05, 0.02, 30.0}, "shunt_ohms": {0.1},
    # what is so but where a caller says that it is not
    "batched": {True}, "digest": {True}, "factored": {True}, "first": {True},
    "labels_required": {True}, "open_batch": {True}, "optimised": {True}, "others": {True},
    "resume": {True}, "same": {True}, "strict": {True}, "tapped": {True}, "walked": {True},
    "whole": {True},
}  # fmt: skip


def functions() -> Iterator[FunctionType]:
    """All of the package, methods among them, but for what a dataclass makes of its fields."""
    for member in members():
        if isinstance(member, FunctionType):
            yield member
        else:
            for each in vars(member).values():
                method = getattr(each, "__func__", each)
                if isinstance(method, FunctionType) and method.__module__ == member.__module__:
                    yield method


def defaults() -> Iterator[tuple[str, Any]]:
    """Names of arguments and fields, and their defaults."""
    for function in functions():
        for parameter in signature(function).parameters.values():
            yield parameter.name, parameter.default
    for member in members():
        if is_dataclass(member):
            yield from ((field.name, field.default) for field in fields(member))


def test_what_is_left_out_is_nothing_but_for_what_stands_here() -> None:
    numbers: dict[str, set[float]] = {}
    for name, default in defaults():
        if isinstance(default, int | float) and default:
            numbers.setdefault(name, set()).add(default)
    assert {name: {*map(repr, values)} for name, values in numbers.items()} == {
        name: {*map(repr, values)} for name, values in DEFAULTS.items()
    }
