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


def test_damage_raises_the_side_lines_of_the_blades(split):
    side = round(6 * 2000 / 60)  # order 6 at 2,000 rpm
    for part in split:
        assert level(part, DAMAGED, side) > 1.3 * level(part, NORMAL, side)


def test_the_torn_edge_stirs_the_air(split):
    for part in split:
        air = [part.x[part.y == label][:, 235:].mean() for label in (STOP, NORMAL, DAMAGED)]
        assert air[0] < air[1] < air[2]


def test_the_silent_room_is_silent_when_the_fan_stands_still(split):
    assert split.pretrain.x[split.pretrain.y == STOP].max() < 0.15
    assert split.pretrain.x[split.pretrain.y == NORMAL].max() == 1


def test_the_ventilation_shakes_the_wall_at_low_frequencies(split):
    for part in (split.finetune, split.test):
        still = part.x[part.y == STOP]
        assert still[:, 10:150].mean() > 3 * still[:, 220:].mean()


def test_other_sizes_and_bad_arguments():
    assert [len(part.x) for part in simulated.make_task(n_per_split=41)] == [41] * 3
    with pytest.raises(ParameterError, match="got n_per_split 7, expected 8 or more"):
        simulated.make_task(n_per_split=7)
    with pytest.raises(ParameterError, match="got seed -1, expected 0 or more"):
        simulated.make_task(seed=-1)
