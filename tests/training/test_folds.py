"""Folds: neighbours and groups stay together, each fold can learn every class."""

from __future__ import annotations

import numpy as np
import pytest

from skip2lora.errors import DataError
from skip2lora.tasks.task import CLASSIFICATION, TASKS
from skip2lora.training.folds import Folds, block_folds, check_groups, folds_for

LABELS = np.repeat(np.int32([0, 1, 2]), [40, 23, 9])


def changes(of: np.ndarray) -> int:
    """How often the fold changes from one sample to the next."""
    return int(np.count_nonzero(of[1:] != of[:-1]))


@pytest.mark.parametrize("order", ["by class", "in turn", "by chance"])
def test_a_fold_is_a_run_of_neighbouring_rows_of_each_class(order: str) -> None:
    random = np.random.default_rng(3)
    labels = {
        "by class": LABELS,
        "in turn": np.arange(72, dtype=np.int32) % 3,
        "by chance": random.permutation(LABELS),
    }[order]
    folds = block_folds(labels)
    assert folds.count == 4
    assert folds.notes == ()
    for label in range(3):
        of = folds.of[labels == label]
        assert changes(of) == 3
        assert (np.diff(of) >= 0).all()
        assert np.ptp(np.bincount(of)) <= 1


def test_every_sample_is_held_out_once_and_trained_on_otherwise() -> None:
    folds = block_folds(LABELS)
    trained = np.array([folds.trained(fold) for fold in range(4)])
    assert (trained.sum(axis=0) == 3).all()
    assert folds.held_out.all()
    assert folds.trained().all()
    for fold in range(4):
        assert set(LABELS[folds.trained(fold)]) == {0, 1, 2}


def test_fewer_samples_of_every_class_give_fewer_folds() -> None:
    folds = block_folds(np.int32([0, 0, 1, 1, 1]))
    assert folds.count == 3
    assert folds.notes == ("3 folds, as there are but 3 samples of a class",)
    sets = np.float32([[1, 0], [0, 1], [1, 0], [0, 1]])
    assert block_folds(sets, TASKS["multi-label"]).notes == (
        "2 folds, as there are but 2 samples of a class",
    )
    assert block_folds(sets[:3], TASKS["regression"]).notes == (
        "3 folds, as there are but 3 samples",
    )


def test_fewer_samples_are_cut_into_more_folds() -> None:
    assert [folds_for(n) for n in (0, 1, 100, 125, 200, 201, 100_000)] == [10, 10, 10, 8, 5, 4, 4]
    folds = block_folds(np.repeat(np.int32([0, 1]), 5), n_folds=folds_for(10))
    assert folds.count == 5
    assert folds.notes == ()  # still more than where samples are many


def test_a_class_of_few_samples_is_held_out_in_some_folds() -> None:
    labels = np.int32([0] * 20 + [1] * 2 + [2] * 2)
    folds = block_folds(labels)
    assert folds.count == 4
    assert len(set(folds.of[20:22])) == len(set(folds.of[22:])) == 2
    assert set(folds.of[20:22]) != set(folds.of[22:])  # not the same folds again


def test_a_class_of_one_sample_is_always_trained_on() -> None:
    labels = np.int32([0] * 8 + [1] * 8 + [2])
    folds = block_folds(labels, names=["ok", "worn", "broken"])
    assert folds.of[-1] == -1
    assert folds.held_out.sum() == 16
    assert folds.notes == ("never held out, as all of it would be in one fold: broken",)


def test_nothing_is_held_out_where_every_class_has_one_sample() -> None:
    folds = block_folds(np.int32([0, 1, 2]))
    assert folds.count == 0
    assert not folds.held_out.any()
    assert folds.trained().all()


def test_one_sample_of_numbers_or_one_group_is_never_held_out() -> None:
    numbers = np.ones((3, 2), np.float32)
    for task, answers, groups in (
        (TASKS["regression"], numbers[:1], None),
        (TASKS["regression"], numbers, np.zeros(3, np.int64)),
        (CLASSIFICATION, np.array([0, 1, 1]), np.zeros(3, np.int64)),
    ):
        folds = block_folds(answers, task, groups=groups)
        assert (folds.count, folds.of.tolist()) == (0, [-1] * len(answers))


def test_numbers_are_cut_into_runs_of_rows() -> None:
    folds = block_folds(np.zeros((10, 2), np.float32), TASKS["regression"])
    assert folds.of.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert block_folds(np.zeros((3, 1), np.float32), TASKS["regression"]).count == 3


def test_each_fold_can_learn_every_label_of_several_and_its_absence() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((60, 4)) < [0.5, 0.1, 0.03, 0.9]).astype(np.float32)
    targets[:, 2] = 0
    targets[7, 2] = 1  # one sample has it
    folds = block_folds(targets, TASKS["multi-label"], names=["a", "b", "c", "d"])
    assert folds.of[7] == -1
    assert folds.notes == ("never held out, as all of it would be in one fold: c",)
    for fold in range(folds.count):
        part = targets[folds.trained(fold)]
        assert (part.min(axis=0) == 0).all()
        assert (part.max(axis=0) == 1).all()


def test_sets_of_labels_that_come_once_are_spread_among_themselves() -> None:
    """They are as one class, and no more of any set: each fold has its share of both."""
    common = np.zeros((8, 5), np.float32)
    once = np.array([[n >> bit & 1 for bit in range(5)] for n in range(1, 9)], np.float32)
    folds = block_folds(np.concatenate([common, once]), TASKS["multi-label"], n_folds=4)
    expected = block_folds(np.repeat(np.int32([1, 0]), 8), n_folds=4)
    held = folds.held_out
    assert held[:8].all()
    assert held[8:].any()
    assert np.array_equal(folds.of[held], expected.of[held])


def test_groups_stay_whole_and_folds_have_their_share_of_each_class() -> None:
    random = np.random.default_rng(1)
    groups = random.integers(0, 12, 300)
    labels = random.integers(0, 3, 300).astype(np.int32)
    folds = block_folds(labels, groups=groups)
    assert folds.count == 4
    assert folds.held_out.all()
    for group in range(12):
        assert len(set(folds.of[groups == group])) == 1
    for fold in range(4):
        counts = np.bincount(labels[folds.of == fold], minlength=3)
        np.testing.assert_allclose(counts / np.bincount(labels), 0.25, atol=0.1)


def test_a_large_group_and_several_small_ones_are_folds_of_like_size() -> None:
    sizes = [10, 10, 10, 10, 10, 10, 20, 30, 40]
    groups = np.repeat(np.arange(9), sizes)
    folds = block_folds(np.arange(150, dtype=np.int32) % 2, groups=groups)
    assert sorted(np.bincount(folds.of)) == [30, 40, 40, 40]


def test_fewer_groups_than_folds_give_fewer_folds() -> None:
    labels, groups = np.int32([0, 1] * 6), np.repeat([0, 1, 2], 4)
    folds = block_folds(labels, groups=groups)
    assert folds.count == 3
    assert folds.notes == ("3 folds, as there are but 3 groups",)


def test_a_class_of_one_group_is_never_held_out() -> None:
    groups = np.repeat([0, 1, 2, 3], 5)
    labels = np.int32([0, 1, 0, 1, 0] * 4)
    labels[groups == 2] = [0, 1, 2, 2, 2]
    folds = block_folds(labels, groups=groups)
    assert (folds.of[labels == 2] == -1).all()
    assert folds.held_out.sum() == 17
    assert folds.notes == ("never held out, as all of it would be in one fold: class 2",)


def test_validation_samples_are_never_trained_on() -> None:
    folds = Folds.validation(3, 2)
    assert folds.count == 1
    assert folds.held_out.tolist() == [False, False, False, True, True]
    assert folds.trained().tolist() == folds.trained(0).tolist() == [True, True, True, False, False]


def test_groups_are_numbers_or_names() -> None:
    assert check_groups(["b", "a", "b"], 3).tolist() == [1, 0, 1]
    assert check_groups(np.array([[7.0], [7.0], [2.0]]), 3).tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([1, 2], "groups has shape (2,), expected (3,)"),
        ([[1, 2], [1, 2], [3, 4]], "groups has shape (3, 2), expected (3,)"),
        ([1.0, np.nan, 2.0], "groups has nan at row 1"),
        (["a", None, "b"], "groups has None at row 1"),
        (["a", "a", "a"], 'groups has 1 group ("a"), expected at least 2'),
    ],
)
def test_other_groups_are_refused(groups: list, words: str) -> None:
    with pytest.raises(DataError) as raised:
        check_groups(groups, 3)
    assert words in str(raised.value)


def test_samples_that_are_the_same_are_held_out_together() -> None:
    """A fold is a run of different rows, and has all copies of each."""
    copies = np.concatenate([np.arange(40), np.arange(40), [3, 3]])
    labels = np.int32([0, 1] * 41)
    folds = block_folds(labels, copies=copies)
    assert folds.count == 4
    assert folds.notes == ("42 samples are there more than once, and held out together",)
    for number in range(40):
        assert len({*folds.of[copies == number].tolist()}) == 1
    assert np.array_equal(folds.of[:40], block_folds(labels[:40]).of)


def test_a_class_of_one_sample_again_and_again_is_never_held_out() -> None:
    labels = np.repeat(np.int32([0, 1]), [20, 5])
    copies = np.minimum(np.arange(25), 20)
    folds = block_folds(labels, copies=copies)
    assert folds.notes[0] == "never held out, as all of it would be in one fold: class 1"
    assert np.array_equal(folds.held_out, labels == 0)


def test_what_is_told_of_groups_counts_more_than_copies() -> None:
    groups, labels = np.repeat(np.arange(8), 5), np.int32([0, 1] * 20)
    apart = block_folds(labels, groups=groups, copies=np.arange(40) % 5)
    assert np.array_equal(apart.of, block_folds(labels, groups=groups).of)
