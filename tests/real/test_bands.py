"""The fan tasks end to end: accuracy of the whole job, in bands around the paper's Tables 3 and 4.

The split is by recording (pre-train in a silent room, fine-tune and test in noisy ones), so that
nothing of a test recording is seen before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.datasets import fan

SEEDS = range(5)
TRAINING = {"batch_size": 20, "learning_rate": 0.01}


@pytest.mark.parametrize(("task", "least"), [("damage1", 0.975), ("damage2", 0.91)])
def test_accuracy_after_adapting(
    task: Literal["damage1", "damage2"], least: float, data_folder: Path
) -> None:
    recordings = data_folder / "cooling-fan"
    if not recordings.is_dir():
        pytest.skip("the fan recordings are not in the data folder: set SKIP2LORA_DATA")
    source, field, test = fan.load_task(task, recordings)
    before, after = [], []
    for seed in SEEDS:
        model = s2.MLP.create([256, 96, 96, 3], seed=seed)
        model = s2.pretrain(
            model, source.x, source.y, epochs=100, seed=seed, standardize=False, **TRAINING
        )
        adapted = s2.adapt(model, field.x, field.y, rank=4, epochs=300, seed=seed, **TRAINING)
        assert adapted.cache_bytes == 366_600
        assert adapted.trainable_parameters == 1828
        assert model.score(source.x, source.y) > 0.98
        before.append(model.score(test.x, test.y))
        after.append(adapted.score(test.x, test.y))
    assert 0.45 <= np.mean(before) <= 0.75, before
    assert np.mean(after) >= least, after
