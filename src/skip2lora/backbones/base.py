"""Frozen networks. Whatever runs inference can be adapted, since no gradient flows through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import check_samples


@dataclass(frozen=True, eq=False)
class Taps:
    """What a frozen forward pass gives: the input of every layer and the last layer's output.

    ``taps[k]`` is (samples, tap_widths[k]), x^(k+1) of the paper, after batch norm and ReLU;
    ``base_logits`` is (samples, n_outputs), c^n of the paper. All float32.
    """

    taps: tuple[NDArray[np.float32], ...]
    base_logits: NDArray[np.float32]


@runtime_checkable
class Backbone(Protocol):
    """A frozen network. Data of any runtime becomes taps in ``forward`` and nowhere else.

    What takes something else than (samples, features) has a method ``check`` as well, which turns
    what a user passes into what ``forward`` takes, or raises DataError.
    """

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Width of each tap."""

    @property
    def n_outputs(self) -> int:
        """Width of the last layer's output."""

    @property
    def first_tap_is_input(self) -> bool:
        """Whether the first tap is the sample itself, which then needs no copy in the cache."""

    @property
    def fingerprint(self) -> str:
        """Changes when the weights or the preprocessing change."""

    def forward(self, x: Any) -> Taps:
        """Taps and base logits of checked samples ``x``."""


def check_inputs(backbone: Backbone, X: Any) -> Any:
    """``X`` as ``backbone.forward`` takes it: by its own ``check``, or as a table of features.

    Raises:
        DataError: samples the backbone cannot take.
    """
    check = getattr(backbone, "check", None)
    if check is not None:
        return check(X)
    n_features = backbone.tap_widths[0] if backbone.first_tap_is_input else None
    return check_samples(X, n_features=n_features)[0]
