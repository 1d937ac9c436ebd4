"""The simulated fan task: seeded, shaped as promised, and with the physics its text claims."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.data.samples import Samples
from skip2lora.datasets import Split, simulated
from skip2lora.errors import ParameterError


@pytest.fixture(scope="module")
def task() -> Split:
    return simulated.make_task()


def halves(part: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Return the recordings of the normal and of the damaged fan."""
    middle = (len(part.x) + 1) // 2
    return part.x[:middle], part.x[middle:]


def turns(recording: np.ndarray) -> list[np.ndarray]:
    """Return what was heard at 2500, 2000, 1500 and 0 rpm."""
    speed = np.arange(len(recording)) * 4 // len(recording)
    return [recording[speed == number] for number in range(4)]


def line(recording: np.ndarray, hertz: float) -> float:
    """Return the mean amplitude at and beside ``hertz``, where a smeared line lies."""
    place = round(hertz)
    return float(recording[:, place - 1 : place + 2].mean())


def test_shapes_and_names(task: Split) -> None:
    for part in task:
        assert part.x.shape == (470, 256)
        assert part.x.dtype == np.float32
        assert part.x.flags.c_contiguous
        assert np.isfinite(part.x).all()
        assert part.x.min() >= 0.0
        assert part.x.max() == 1.0
        assert (part.x[:, 0] == 0).all()
        assert part.y is not None
        assert part.y.dtype == np.int64
        assert np.abs(np.bincount(part.y) - [117, 177, 176]).max() <= 2
        assert part.class_names == ("stop", "normal", "damaged")
        assert part.feature_names is not None
        assert (part.feature_names[1], len(part.feature_names)) == ("1 Hz", 256)


def test_labels_follow_the_recording(task: Split) -> None:
    y = task.test.y
    assert y is not None
    runs = [int(label) for label in y[np.flatnonzero(np.diff(y, prepend=-1))]]
    assert runs == [1, 0, 2, 0]


def test_seed_decides(task: Split) -> None:
    again, other = simulated.make_task(0), simulated.make_task(1)
    for one, same, different in zip(task, again, other, strict=True):
        assert one.x.tobytes() == same.x.tobytes()
        assert np.abs(one.x - different.x).mean() > 0.01


def test_a_seed_means_the_same_task_in_every_version(task: Split) -> None:
    """Numbers in the documentation are of these samples."""
    means = [float(part.x.mean(dtype=np.float64)) for part in task]
    assert means == pytest.approx([0.246963, 0.475861, 0.475382], rel=1e-5)


def test_nothing_global_is_drawn_from() -> None:
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    simulated.make_task(3, 20)
    after = np.random.get_state()[1]  # type: ignore[index]  # noqa: NPY002
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("n_per_split", [8, 9, 21, 600])
def test_any_size(n_per_split: int) -> None:
    for part in simulated.make_task(2, n_per_split):
        assert part.x.shape == (n_per_split, 256)
        assert part.y is not None
        assert set(part.y.tolist()) == {0, 1, 2}


def test_arguments_out_of_range() -> None:
    with pytest.raises(ParameterError, match="got seed -1, expected 0 or more"):
        simulated.make_task(-1)
    with pytest.raises(ParameterError, match="got n_per_split 7, expected 8 or more"):
        simulated.make_task(0, 7)


def test_rotation_and_blades_stand_out_at_each_speed(task: Split) -> None:
    normal = turns(halves(task.pretrain)[0])
    for recording, rpm in zip(normal, (2500, 2000, 1500), strict=False):
        for order in (1, 2):
            between = line(recording, (order + 0.5) * rpm / 60)
            assert line(recording, order * rpm / 60) > 2 * between
    assert line(normal[1], 7 * 2000 / 60) > 2 * line(normal[1], 6.5 * 2000 / 60)
    assert normal[0].mean() > normal[1].mean() > normal[2].mean() > 5 * normal[3].mean()


def test_silent_room_is_silent_when_the_fan_stands_still(task: Split) -> None:
    rest = turns(halves(task.pretrain)[0])[3]
    assert rest.max() < 0.15
    # No line at all: one place of the spectrum is like another.
    assert rest[:, 20:].mean(axis=0).std() < 0.15 * rest[:, 20:].mean()


def test_damage_is_unbalance_sidebands_and_torn_air(task: Split) -> None:
    normal, damaged = (turns(half) for half in halves(task.pretrain))
    # 1500 rpm: the weakest lines, which the sensor's range does not cut
    for order in (1, 6, 8):
        assert line(damaged[2], order * 25) > 1.1 * line(normal[2], order * 25)
    quiet = [hertz for hertz in range(212, 256) if min(hertz % 25, 25 - hertz % 25) > 6]
    assert damaged[2][:, quiet].mean() > 2.5 * normal[2][:, quiet].mean()
    assert normal[2][:, quiet].mean() > 2 * normal[3][:, quiet].mean()  # whole blades move air, too


def test_ventilation_is_heard_beside_it_only(task: Split) -> None:
    silent = turns(halves(task.pretrain)[0])[3]
    for part in (task.finetune, task.test):
        rest = turns(halves(part)[0])[3]
        assert line(rest, 24.2) > 1.2 * rest[:, [12, 36]].mean()  # amid the noise of its air
        assert line(rest, 24.2) > 15 * line(silent, 24.2)
        # its air shakes the wall below 200 Hz, and hardly above
        assert rest[:, 60:150].mean() > 4 * rest[:, 240:].mean()
        assert rest[:, 60:150].mean() > 10 * silent[:, 60:150].mean()


def test_noise_is_as_strong_in_any_phase() -> None:
    noise = simulated._noise(200, np.random.default_rng(0)).ravel()
    np.testing.assert_allclose(np.cov(noise.real, noise.imag), np.eye(2), atol=0.02)


def test_mount_resonates_and_blocks_what_is_slow() -> None:
    passed = simulated._mount((100.0, 200.0))
    assert passed[0] == 0
    assert (np.diff(passed[:20]) > 0).all()
    for hertz in (100, 200):
        around = passed[hertz - 20 : hertz + 21]
        assert abs(int(around.argmax()) - 20) <= 5
        assert around.max() > 1.2 * max(around[0], around[-1])


def test_the_two_recordings_beside_the_ventilation_differ(task: Split) -> None:
    one, other = task.finetune, task.test
    assert not np.array_equal(one.x, other.x)
    # not the same moments with other noise: levels differ by more than the means' own scatter
    rest = [turns(halves(part)[0])[3][:, 60:150] for part in (one, other)]
    means = [recording.mean() for recording in rest]
    scatter = np.hypot(
        *(recording.mean(axis=1).std() / np.sqrt(len(recording)) for recording in rest)
    )
    assert abs(means[0] - means[1]) < 0.2 * means[0]  # yet it is the same place
    differences = []
    for seed in range(6):
        again = simulated.make_task(seed)
        levels = [turns(halves(part)[0])[3][:, 60:150].mean() for part in again[1:]]
        differences.append(abs(levels[0] - levels[1]))
    assert max(differences) > 2 * scatter


def nearest_mean(learn: Samples, ask: Samples) -> float:
    """Return the accuracy of the simplest classifier there is: the nearest mean spectrum."""
    assert learn.y is not None
    assert ask.y is not None
    means = np.stack([learn.x[learn.y == label].mean(axis=0) for label in range(3)])
    distance = ((ask.x[:, None, :] - means) ** 2).sum(axis=2)
    return float((distance.argmin(axis=1) == ask.y).mean())


@pytest.mark.parametrize("seed", range(3))
def test_moving_breaks_what_was_learned_and_new_data_mends_it(seed: int) -> None:
    pretrain, finetune, test = simulated.make_task(seed)
    at_home = nearest_mean(pretrain, pretrain)
    moved = nearest_mean(pretrain, test)
    adapted = nearest_mean(finetune, test)
    assert at_home > 0.75
    assert moved < 0.75
    assert adapted > moved + 0.1
