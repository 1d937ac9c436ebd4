"""What an ``MLP`` of classes learns by where nothing was asked for: a fixed rule, not a choice.

Samples held out of one recording of a fan did not tell which recipe does best on another of the
same fan, so nothing is chosen by them. Samples without negative numbers, such as spectra, get two
logarithms of them as further taps, and Adam. Others get batch-norm statistics of the field and a
convex fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.adapters.rows import RowFormat, SkipCache
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.derived import LOG, LOG_CENTRED, Derived
from skip2lora.backbones.field_mlp import FieldMLP
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.standins import KnownRows
from skip2lora.training.options import DEFAULT_BATCH_SIZE

RANK, LEARNING_RATE, EPOCHS = 8, 0.003, 30
#: A few samples pass more often than ``EPOCHS`` times: so many steps at least, in all.
STEPS = 1000
#: Of the convex fit.
SMOOTHING = 0.1


@dataclass(frozen=True, eq=False)
class MlpRule:
    """``backbone`` takes the place of the network; ``options`` are keywords of ``adapt`` for it."""

    backbone: Backbone
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: MLP, samples: NDArray[np.float32], n_samples: int) -> MlpRule:
        """The rule for checked ``samples`` of the field, (samples, features).

        ``n_samples`` are trained on, those of the old domain among them.
        """
        if (samples >= 0).all():
            return cls(Derived.of(model, (LOG, LOG_CENTRED), samples), adam_options(n_samples))
        enough = model.batch_norm and len(samples) > 1
        return cls(FieldMLP.of(model, samples) if enough else model, {"solver": "exact"})

    def rows(self, cache: SkipCache) -> SkipCache:
        """The rows of ``backbone`` for samples whose rows of the network are in ``cache``.

        Those have the first tap copied, which is the sample: it passes the network once more only
        where that has other statistics now.
        """
        known, own = cache.format, RowFormat.of(self.backbone, copy_input=True)
        rows = SkipCache.of(own, len(cache.rows))
        if isinstance(self.backbone, Derived):
            below = KnownRows(known.tap_widths, known.n_outputs, known.layout)
            rows.fill(Derived(below, self.backbone.derived), cache.rows)
        else:
            at = known.layout.tap_offsets[0]
            x = cache.rows[:, at : at + known.tap_widths[0]]
            rows.fill(self.backbone, np.ascontiguousarray(x))
        return rows


def adam_options(n_samples: int) -> dict[str, Any]:
    """Standardised taps, Adam, for 30 epochs or 1,000 steps, what is more."""
    steps = -(-n_samples // min(DEFAULT_BATCH_SIZE, n_samples))
    return {
        "rank": RANK, "optimizer": "adam", "learning_rate": LEARNING_RATE, "standardize": True,
        "epochs": max(EPOCHS, math.ceil(STEPS / steps)),
    }  # fmt: skip
