"""Measures for a person: one line of the whole, a table of classes or targets."""

from __future__ import annotations

from collections.abc import Sequence

from skip2lora.tasks.task import Measures, Task

#: What each measure is called, and how it is printed. JSON has more of them.
_SHOWN = {
    "n_samples": ("samples", "{:,}"),
    "accuracy": ("accuracy", "{:.1%}"),
    "exact_match": ("exact match", "{:.1%}"),
    "f1_micro": ("F1 micro", "{:.3f}"),
    "f1_macro": ("F1 macro", "{:.3f}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "f1": ("F1", "{:.3f}"),
    "r2": ("R2", "{:.3f}"),
    "mean_absolute_error": ("MAE", "{:.4g}"),
    "root_mean_squared_error": ("RMSE", "{:.4g}"),
}


def whole(task: Task, scores: Measures) -> str:
    """Such as ``R2 0.981, MAE 0.12``; errors of several targets may differ in unit: R2 alone."""
    several = task.name == "regression" and len(scores.parts) > 1
    names = ["r2"] if several else [name for name in _SHOWN if name in scores.overall]
    line = ", ".join(f"{_SHOWN[name][0]} {_text(name, scores.overall[name])}" for name in names)
    return f"mean {line}" if several else line


def lines(task: Task, scores: Measures, n_samples: int) -> list[str]:
    """What ``evaluate`` prints."""
    head = f"{whole(task, scores)} of {n_samples:,} samples"
    if task.name != "regression":
        return [head, *_table(scores)]
    if len(scores.parts) == 1:
        return [head, "MAE and RMSE are in the unit of the target"]
    return [head, *_table(scores), "MAE and RMSE are each in the unit of its target"]


def _table(scores: Measures) -> list[str]:
    keys = [key for key in _SHOWN if key in scores.parts[0]]
    rows: list[Sequence[str]] = [["", *(_SHOWN[key][0] for key in keys)]]
    rows += [[str(of["name"]), *(_text(key, of[key]) for key in keys)] for of in scores.parts]
    wide = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(["", row[0].ljust(wide[0]), *map(str.rjust, row[1:], wide[1:])]) for row in rows
    ]


def _text(name: str, value: float) -> str:
    return _SHOWN[name][1].format(value).replace("%", " %")
