"""The simulated task: seeded, shaped as announced, and with the physics its description names."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.datasets import simulated
from skip2lora.errors import ParameterError

STOP, NORMAL, DAMAGED = range(3)


@pytest.fixture(scope="module")
def split():
    return simulated.make_task(seed=0)


def level(samples, label, hertz, width=2):
    """Mean amplitude of one class around a frequency."""
    return samples.x[samples.y == label][:, hertz - width : hertz + width + 1].mean()


def test_shapes_names_and_range(split):
    for part in split:
        assert part.x.shape == (470, 256)
        assert part.x.dtype == np.float32
        assert part.y.shape == (470,)
        assert part.y.dtype == np.int64
        assert part.class_names == ("stop", "normal", "damaged")
        assert part.feature_names[7] == "7 Hz"
        assert np.isfinite(part.x).all()
        assert part.x.min() >= 0
        assert part.x.max() <= 1
        counts = np.bincount(part.y)
        assert counts.tolist() == [116, 177, 177]


def test_seeded(split):
    again = simulated.make_task(seed=0)
    other = simulated.make_task(seed=1)
    for one, two, three in zip(split, again, other, strict=True):
        assert one.x.tobytes() == two.x.tobytes()
        assert one.x.tobytes() != three.x.tobytes()


def test_the_two_noisy_recordings_differ(split):
    assert split.finetune.x.tobytes() != split.test.x.tobytes()
    means = [part.x[part.y == STOP].mean(axis=0) for part in (split.finetune, split.test)]
    assert np.abs(means[0] - means[1]).max() > 0.01


def test_damage_raises_the_rotation_line_in_the_silent_room(split):
    for rpm in (2500, 2000, 1500):
        hertz = round(rpm / 60)
        part = split.pretrain
        assert level(part, DAMAGED, hertz) > 1.15 * level(part, NORMAL, hertz)
    assert level(split.pretrain, STOP, 42) < 0.3 * level(split.pretrain, NORMAL, 42)


def test_the_soft_stand_swallows_what_the_bracket_passes(split):
    side = round(6 * 2000 / 60)  # beside the blade line at 2,000 rpm
    silent = level(split.pretrain, DAMAGED, side) / level(split.pretrain, DAMAGED, 42)
    noisy = level(split.test, DAMAGED, side) / level(split.test, DAMAGED, 42)
    assert noisy > 2 * silent
    assert level(split.test, DAMAGED, side) > 1.2 * level(split.test, NORMAL, side)


def test_the_ventilation_fan_is_heard_when_the_fan_stands_still(split):
    spectrum = split.test.x[split.test.y == STOP].mean(axis=0)
    assert 22 <= np.argmax(spectrum) <= 26
    assert split.pretrain.x[split.pretrain.y == STOP].max() < 0.1


def test_other_sizes_and_bad_arguments():
    assert [len(part.x) for part in simulated.make_task(n_per_split=41)] == [41] * 3
    for options in ({"n_per_split": 7}, {"seed": -1}):
        with pytest.raises(ParameterError, match="expected at least 8 and 0"):
            simulated.make_task(**options)
