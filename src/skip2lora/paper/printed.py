"""Numbers as printed in the paper (Matsutani et al., ASP-DAC 2025)."""

from __future__ import annotations

from typing import NamedTuple

TASK_NAMES = {"damage1": "Damage1", "damage2": "Damage2", "har": "HAR"}


class Printed(NamedTuple):
    """Mean and deviation of the test accuracy over 20 trials, in percent."""

    mean: float
    std: float


def _of(*pairs: float) -> tuple[Printed, ...]:
    return tuple(Printed(*pair) for pair in zip(pairs[::2], pairs[1::2], strict=True))


#: Table 3, by task: before and after the change of surroundings, without fine-tuning.
TABLE3 = {
    "damage1": dict(zip(("before", "after"), _of(60.61, 13.73, 98.99, 2.81), strict=True)),
    "damage2": dict(zip(("before", "after"), _of(51.86, 8.04, 90.88, 5.65), strict=True)),
    "har": dict(zip(("before", "after"), _of(79.97, 5.62, 86.09, 4.40), strict=True)),
}

_METHODS = (
    "ft-all", "ft-last", "ft-bias", "ft-all-lora", "lora-all", "lora-last", "skip-lora",
    "skip2-lora",
)  # fmt: skip
_TABLE4 = {
    "damage1": _of(
        98.73, 2.11, 94.19, 2.24, 79.42, 7.50, 98.63, 2.14,
        98.26, 1.32, 94.67, 2.92, 96.07, 2.14, 96.19, 2.29,
    ),
    "damage2": _of(
        88.12, 6.13, 92.43, 3.67, 79.56, 6.47, 88.88, 5.73,
        86.45, 4.90, 93.55, 3.50, 93.24, 3.86, 93.46, 3.21,
    ),
    "har": _of(
        90.99, 1.86, 89.31, 1.06, 82.21, 1.27, 90.40, 2.49,
        91.09, 1.26, 89.79, 1.46, 92.10, 1.05, 91.99, 1.00,
    ),
}  # fmt: skip
#: Table 4, by task and method.
TABLE4 = {task: dict(zip(_METHODS, row, strict=True)) for task, row in _TABLE4.items()}

#: Table 5, by task and norm: TinyTL on ProxylessNAS.
TABLE5 = {
    "damage1": dict(zip(("gn", "bn"), _of(98.66, 0.76, 99.49, 0.32), strict=True)),
    "damage2": dict(zip(("gn", "bn"), _of(92.09, 3.17, 96.01, 2.74), strict=True)),
    "har": dict(zip(("gn", "bn"), _of(88.76, 0.91, 89.27, 1.13), strict=True)),
}

#: Section 5.4 and Figure 4: Skip2-LoRA on HAR on a Raspberry Pi Zero 2 W. Our copy of the paper has
#: these numbers of the text, not the curves.
FIGURE4 = {
    "epochs": 200,
    "start_s": 9.0,
    "compute_s": 2.79,
    "max_mw": 1455.0,
    "max_degc": 44.5,
    "idle_mhz": 600.0,
    "run_mhz": 1000.0,
}

#: Figure 3: epochs until the accuracy first comes within one point of Table 4's, and the seconds
#: that takes on a Raspberry Pi Zero 2 W.
REQUIRED_EPOCHS = {"damage1": 100, "damage2": 60, "har": 200}
REQUIRED_SECONDS = {"damage1": 1.06, "damage2": 0.64, "har": 2.79}

DATASET_NAMES = {"fan": "Fan", "har": "HAR"}
_FORWARD = (
    "FC1", "LoRA1", "BN1", "Act1", "FC2", "LoRA2", "BN2", "Act2", "FC3", "LoRA3",
)  # fmt: skip
_BACKWARD = (
    "FC3", "LoRA3", "Act2", "BN2", "FC2", "LoRA2", "Act1", "BN1", "FC1", "LoRA1",
)  # fmt: skip


def _breakdown(forward: tuple[float, ...], backward: tuple[float, ...]) -> dict[str, float]:
    shares = {f"forward {part}": of for part, of in zip(_FORWARD, forward, strict=True)}
    return shares | {f"backward {part}": of for part, of in zip(_BACKWARD, backward, strict=True)}


#: Table 2, by data set: percent of the forward and of the backward pass of FT-All-LoRA, loss left
#: out.
TABLE2 = {
    "fan": _breakdown(
        (71.80, 2.75, 2.22, 0.30, 17.52, 1.69, 2.23, 0.30, 0.50, 0.68),
        (1.28, 1.93, 0.29, 2.81, 34.03, 3.30, 0.29, 2.84, 49.47, 3.76),
    ),
    "har": _breakdown(
        (88.58, 1.72, 0.81, 0.11, 6.63, 0.61, 0.81, 0.11, 0.36, 0.25),
        (1.22, 1.05, 0.16, 1.55, 18.29, 1.78, 0.15, 1.53, 70.46, 3.80),
    ),
}

#: Columns of Tables 6 and 7.
TIMES = ("train@batch", "forward", "backward", "weight update", "predict@sample")
_TABLE6 = {
    "train@batch": (5.864, 2.633, 3.721, 6.053, 4.113, 2.642, 2.952, 0.450),
    "forward": (2.812, 2.601, 2.832, 2.868, 2.942, 2.613, 2.807, 0.309),
    "backward": (2.866, 0.030, 0.885, 2.993, 1.157, 0.026, 0.136, 0.131),
    "weight update": (0.186, 0.002, 0.003, 0.192, 0.014, 0.002, 0.010, 0.010),
    "predict@sample": (0.142, 0.144, 0.148, 0.150, 0.155, 0.143, 0.151, 0.154),
}
_TIMES_MS: dict[str, dict[str, dict[str, float]]] = {
    "fan": {
        method: {column: _TABLE6[column][at] for column in TIMES}
        for at, method in enumerate(_METHODS)
    },
    "har": {"skip2-lora": {"train@batch": 0.595}},  # what the text quotes of Table 7 (section 5.3)
}


def time_ms(dataset: str, method: str, column: str) -> float | None:
    """Table 6 (fan) or 7 (har): milliseconds on a Raspberry Pi Zero 2 W, None where unknown."""
    return _TIMES_MS[dataset].get(method, {}).get(column)


#: Section 5.3: percent saved in backward by Skip-LoRA against LoRA-All, in forward by Skip2-LoRA
#: against Skip-LoRA, in all by Skip2-LoRA against LoRA-All; smallest and largest of the data sets.
REDUCTIONS = {"backward": (82.5, 88.3), "forward": (89.0, 93.5), "total": (89.0, 92.0)}
