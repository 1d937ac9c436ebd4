"""How measures are printed: a line, and a table a class or target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skip2lora.tasks.evaluation import Evaluation
from skip2lora.tasks.task import Measures, Task
from skip2lora.tasks.thresholds import FEWEST, NEVER, NONE_OF_THESE, Thresholds

#: What each measure is called, and how it is printed. JSON has more of them.
_SHOWN = {
    "n_samples": ("samples", "{:,}"),
    "accuracy": ("accuracy", "{:.1%}"),
    "balanced_accuracy": ("balanced accuracy", "{:.1%}"),
    "exact_match": ("exact match", "{:.1%}"),
    "f1_micro": ("F1 micro", "{:.3f}"),
    "f1_macro": ("F1 macro", "{:.3f}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "f1": ("F1", "{:.3f}"),
    "auroc": ("AUROC", "{:.3f}"),
    "average_precision": ("average precision", "{:.3f}"),
    "expected_calibration_error": ("calibration error", "{:.3f}"),
    "r2": ("R2", "{:.3f}"),
    "mean_absolute_error": ("MAE", "{:.4g}"),
    "root_mean_squared_error": ("RMSE", "{:.4g}"),
}
_MOST_CLASSES, _MOST_ERRORS = 12, 8  # of a confusion matrix, of a list of errors


def measures_line(task: Task, scores: Measures) -> str:
    """Such as ``R2 0.981, MAE 0.12``; errors of several targets may differ in unit: R2 alone."""
    several = task.name == "regression" and len(scores.parts) > 1
    names = ["r2"] if several else [name for name in _SHOWN if name in scores.overall]
    line = ", ".join(f"{_SHOWN[name][0]} {_shown(name, scores.overall[name])}" for name in names)
    return f"mean {line}" if several else line


def measures_table(task: Task, scores: Evaluation, n_samples: int) -> list[str]:
    """What ``evaluate`` prints."""
    head = f"{measures_line(task, scores)} of {n_samples:,} samples"
    if task.name != "regression":
        return [head, *_parts(scores), *_confusion(scores)]
    if len(scores.parts) == 1:
        return [head, "MAE and RMSE are in the unit of the target"]
    return [head, *_parts(scores), "MAE and RMSE are each in the unit of its target"]


def named_thresholds(values: Iterable[Any], names: Iterable[str]) -> dict[str, float | None]:
    """By name, as JSON has them: null where a class is never predicted."""
    return {
        name: None if value == NEVER else float(value)
        for name, value in zip(names, values, strict=True)
        if value is not None
    }


def chosen_facts(chosen: Thresholds, names: Sequence[str]) -> dict[str, Any]:
    """What ``adapt --json`` tells of thresholds: those chosen, and classes with too few samples."""
    few = {
        name: count
        for name, count, value in zip(names, chosen.counts, chosen.values, strict=True)
        if value is None
    }
    of = named_thresholds(chosen.values, names)
    return {"precision": chosen.precision, "of": of, "too_few": few}


def thresholds_line(chosen: Mapping[str, float | None]) -> str:
    """Such as ``cat 0.412, dog never``."""
    return ", ".join(
        f"{name} {'never' if value is None else f'{value:.3f}'}" for name, value in chosen.items()
    )


def chosen_lines(chosen: dict[str, Any]) -> list[str]:
    """What ``adapt`` prints of what :func:`chosen_facts` gave."""
    right = f"{chosen['precision']:.1%}".replace("%", " %")
    lines = []
    if chosen["of"]:
        listed = thresholds_line(chosen["of"])
        lines = [f"thresholds where {right} of held-out predictions are right: {listed}"]
    if chosen["too_few"]:
        few = ", ".join(f"{name} {count:,}" for name, count in chosen["too_few"].items())
        lines.append(f"no threshold, as fewer than {FEWEST} samples are held out: {few}")
    return lines


def thresholds_table(done: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What ``evaluate`` prints of predictions by the thresholds of an adapter."""
    none, right = (
        "-" if value is None else f"{value:.1%}".replace("%", " %")
        for value in (done["none_of_these"], done["accuracy"])
    )
    cells = [
        [str(row["class"]), f"{row['n_predicted']:,}",
         *("-" if row[key] is None else f"{row[key]:.3f}" for key in ("precision", "recall"))]
        for row in rows
    ]  # fmt: skip
    head = f"by the thresholds of the adapter: {NONE_OF_THESE} {none}, of the others {right} right"
    return [head, *_table([["", "predicted", "precision", "recall"], *cells])]


def _parts(scores: Measures) -> list[str]:
    keys = [key for key in _SHOWN if key in scores.parts[0]]
    if "recall" in keys and "accuracy" in keys:  # which is the same of a class
        keys.remove("accuracy")
    rows = [[str(of["name"]), *(_shown(key, of[key]) for key in keys)] for of in scores.parts]
    return _table([["", *(_SHOWN[key][0] for key in keys)], *rows])


def _confusion(scores: Evaluation) -> list[str]:
    """The confusion matrix, or of many classes the commonest errors."""
    names = scores.classes
    if 1 < len(names) <= _MOST_CLASSES:
        rows = [[name, *map(str, row)] for name, row in zip(names, scores.confusion, strict=True)]
        return ["samples of a class (rows) taken for (columns)", *_table([["", *names], *rows])]
    errors = sorted(
        (-count, names[true], names[taken])
        for true, row in enumerate(scores.confusion)
        for taken, count in enumerate(row)
        if count and taken != true
    )
    shown = [f"{true} for {taken} {-count:,}" for count, true, taken in errors[:_MOST_ERRORS]]
    return [f"most often taken: {', '.join(shown)}"] if shown else []


def _table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with cells below each other, the first column to the left."""
    cells = list(rows)
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(["", row[0].ljust(wide[0]), *map(str.rjust, row[1:], wide[1:])]) for row in cells
    ]


def _shown(name: str, value: float | None) -> str:
    return "-" if value is None else _SHOWN[name][1].format(value).replace("%", " %")
