"""A network without its own outputs, so that others can be learned on its taps alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skip2lora.backbones.base import Backbone, Taps, check_inputs


@dataclass(frozen=True, eq=False)
class Headless:
    """``backbone`` with ``n_outputs`` outputs that are 0: adapters and a bias make all of them."""

    backbone: Backbone
    n_outputs: int

    @property
    def tap_widths(self) -> tuple[int, ...]:
        """Those of ``backbone``."""
        return self.backbone.tap_widths

    @property
    def first_tap_is_input(self) -> bool:
        """As of ``backbone``."""
        return self.backbone.first_tap_is_input

    @property
    def fingerprint(self) -> str:
        """That of ``backbone``, marked: an adapter of the one does not fit the other."""
        return f"{self.backbone.fingerprint}-headless-{self.n_outputs}"

    def check(self, X: Any) -> Any:
        """``X`` as ``backbone`` takes it.

        Raises:
            DataError: samples it cannot take.
        """
        return check_inputs(self.backbone, X)

    def forward(self, x: Any) -> Taps:
        """Taps of checked samples, and base logits of 0, (samples, n_outputs)."""
        made = self.backbone.forward(x)
        return replace(made, base_logits=np.zeros((len(x), self.n_outputs), np.float32))


def whole(backbone: Any) -> Any:
    """The network with its own outputs: what is inside a ``Headless``, or ``backbone`` itself."""
    return backbone.backbone if isinstance(backbone, Headless) else backbone
