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
