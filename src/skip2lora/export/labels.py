"""Which outputs of a model say what is predicted, and not how likely it is."""

from __future__ import annotations

import numpy as np

from skip2lora.backbones.ends import End

_PROBES = np.random.default_rng(0).normal(0, 4, (64, 3))


def decides(end: End) -> bool:
    """Whether the output is a label, or a yes or no of each, by what follows from the logits."""
    if end.says is None:
        return end.ending == "labels"
    said = end.says(_PROBES)
    return said.ndim == 1 or len(np.unique(said)) <= 2
