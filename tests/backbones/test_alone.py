"""A sample alone and among others, told by numbers alone: of any runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skip2lora.backbones.alone import (
    Layout,
    Verdict,
    _candidates,
    _may_fit,
    batches_of,
    depends_on_samples,
    mixed,
    note_of,
    note_of_one_by_one,
    told,
    unseen,
    untapped,
    unvaried,
    verdict_of,
)

X = np.random.default_rng(0).normal(size=(128, 5, 3, 4)).astype(np.float32)
X[1] /= 2  # is never the largest
SIZES = (None, 1, 2, 3, 4, 64)


def verdict(function: Callable[[Any], Any], size: int | None = None) -> Verdict:
    return verdict_of([(batch, function(X[list(batch)])) for batch in batches_of(size)])


@pytest.mark.parametrize("size", SIZES)
def test_one_sample_keeps_its_place_while_the_others_change(size: int | None) -> None:
    first, second, *rest = batches_of(size)
    if size == 1:
        assert (first, second, rest) == ((0,), (1,), [(0,)])
        return
    assert len(first) == len(second) == (size or 3)
    assert first[1] == second[1]
    changed = [one != other for one, other in zip(first, second, strict=True)]
    assert changed == [at != 1 for at in range(len(first))]
    where = {(sample, place) for batch in batches_of(size) for place, sample in enumerate(batch)}
    assert len(where) > len({sample for sample, _ in where})  # one moves
    assert (rest == [(0,)]) == (size is None)


@pytest.mark.parametrize("size", [None, 2])
def test_whichever_sample_all_depend_on(size: int | None) -> None:
    """As where one of them has the largest number, by which those of all are divided."""
    everyone = {sample for batch in batches_of(size) for sample in batch}
    for one in everyone:
        x = X.copy()
        x[one] *= 100

        def scaled(some: Any) -> Any:
            return some / np.abs(some).max()

        runs = [(batch, scaled(x[list(batch)])) for batch in batches_of(size)]
        assert not verdict_of(runs).holds(), f"all depend on {one}"


ORDERS: dict[str, tuple[Callable[[Any], Any], Layout]] = {
    "as they are": (lambda x: x, Layout(0)),
    "second": (lambda x: x.swapaxes(0, 1), Layout(1)),
    "last": (lambda x: np.moveaxis(x, 0, -1), Layout(3)),
    "first in an axis": (lambda x: x.reshape(-1, 3, 4), Layout(0, 1, 5)),
    "last in an axis": (lambda x: x.swapaxes(0, 1).reshape(-1, 3, 4), Layout(0, 5, 1)),
    "between": (lambda x: x.swapaxes(0, 1).reshape(-1, 4), Layout(0, 5, 3)),
    "in the second": (lambda x: x.transpose(2, 0, 1, 3).reshape(3, -1, 4), Layout(1, 1, 5)),
}


@pytest.mark.parametrize("size", [each for each in SIZES if each != 1])
@pytest.mark.parametrize("order", ORDERS)
def test_where_the_samples_are(order: str, size: int | None) -> None:
    function, layout = ORDERS[order]
    seen = verdict(function, size)
    assert (seen.layout, seen.apart) == (layout, 0)
    assert seen.holds()
    values = function(X[:7])
    assert layout.by_sample(values, 7).reshape(7, -1).shape[1] == 60
    np.testing.assert_array_equal(
        np.sort(layout.by_sample(values, 7).reshape(7, -1)), np.sort(X[:7].reshape(7, -1))
    )


MIXED: dict[str, Callable[[Any], Any]] = {
    "a little of the mean": lambda x: x - 1e-3 * x.mean(axis=0),
    "the largest": lambda x: x / x.max(),
    "the one before": lambda x: x + np.roll(x, 1, axis=0),
    "the place": lambda x: x + np.arange(len(x))[:, None, None, None],
    "the number": lambda x: x / len(x),
    "sorted": lambda x: np.sort(x, axis=0),
    "one for all": lambda x: x.mean(axis=0, keepdims=True),
    "each with each": lambda x: x.reshape(len(x), -1) @ x.reshape(len(x), -1).T,
    "as many as there are": lambda x: x[x > 0],
}


@pytest.mark.parametrize("size", [None, 3, 4])
@pytest.mark.parametrize("way", MIXED)
def test_what_mixes_samples(way: str, size: int | None) -> None:
    if size is not None and way == "the number":
        pytest.skip("their number is fixed")
    seen = verdict(MIXED[way], size)
    assert not seen.holds()
    assert "mixes the samples of a batch" in str(mixed("m", "it", seen))


def test_rounding_is_not_mixing() -> None:
    """Another number of samples changes the order of sums; other samples do not."""
    seen = verdict(lambda x: x * (1 + 1e-4 * len(x)))
    assert 0 < seen.moved < 1e-3
    assert seen.holds()
    assert verdict(lambda x: x.astype(np.float16)).holds()
    quantised = verdict(lambda x: np.rint(x / np.abs(x).max() * 127) * np.abs(x).max() / 127)
    assert not quantised.holds()
    assert quantised.holds(dynamic=True)
    assert not verdict(MIXED["the one before"]).holds(dynamic=True)


def test_equal_samples_do_not_tell_where_each_is() -> None:
    """What is the same for all is no fold of samples; along an axis of their own it may stay."""
    same = verdict(lambda x: np.ones((len(x) * 5, 4)))
    assert (same.fits(), same.holds(), same.ambiguous()) == (True, False, True)
    assert verdict(lambda x: np.zeros((len(x), 4))).layout == Layout(0)
    assert verdict(lambda x: np.zeros((len(x), 4))).holds()


SIGNS = np.array([[-1, 1], [1, -1], [-1, 1]])  # of three tokens, whatever the samples


@pytest.mark.parametrize(("size", "is_told"), [(None, True), (1, True), (2, True), (3, False)])
@pytest.mark.parametrize("axis", [0, 1])
def test_as_many_tokens_as_samples(axis: int, size: int | None, is_told: bool) -> None:
    """Of numbers that samples share, either axis may be that of the samples."""
    seen = verdict(lambda x: np.stack([SIGNS] * len(x), axis), size)
    assert seen.holds() == is_told
    assert seen.ambiguous() != is_told
    if is_told and size != 1:
        assert seen.layout == Layout(axis)
    assert verdict(lambda x: x[:, :3, 0].swapaxes(0, axis), size).holds()  # of their own


@pytest.mark.parametrize("size", [3, 4])
def test_which_order_of_a_fold_does_not_show(size: int) -> None:
    """The same tokens of each sample, as many as samples: so are the samples of each token."""
    both = verdict(lambda x: np.sign(np.resize([-1, 1, -1], (len(x), 3, 2))).reshape(-1, 2), size)
    assert not both.holds()
    assert "the same numbers in several orders" in str(mixed("m", "it", both))
    assert untapped(["a", "b"]) == (
        "what a, b reads is not tapped, as its numbers are the same in several orders of the "
        "samples, of noise"
    )
    assert "what a, b, c, d, e, f, g, h, ... (9 in all) reads" in str(untapped(list("abcdefghi")))
    assert untapped([]) is None


def test_an_order_that_fits_by_its_tolerance_alone_is_none() -> None:
    """Two of three outputs, the same for all samples, are 0.2 % apart."""
    seen = verdict(lambda x: np.array([[-0.7063, 0.7996, -0.7081]] * len(x)), 3)
    assert seen.layout == Layout(0)
    assert seen.rival is not None
    assert seen.rival.fits()
    assert seen.holds()
    assert not verdict(lambda x: np.array([[-0.7063, 0.7996, -0.7063]] * len(x)), 3).holds()


def test_one_scale_for_all_samples_of_a_fold() -> None:
    rounded = verdict(lambda x: (np.rint(x / np.abs(x).max() * 127) * np.abs(x).max()).reshape(-1))
    assert (rounded.holds(), rounded.holds(dynamic=True)) == (False, True)
    assert rounded.layout == Layout(0, 1, 60)
    assert rounded.rival is not None
    assert not rounded.ambiguous(dynamic=True)


def test_what_is_no_number_equals_itself() -> None:
    def logarithm(x: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.log(np.where(x > 0, x, np.minimum(x, 0) * 0))

    assert verdict(logarithm).holds()
    assert verdict(lambda x: np.where(x > 0, np.nan, x)).holds()
    assert not verdict(lambda x: np.where(x > x.mean(axis=0), np.nan, x)).holds()


def test_a_model_of_one_sample_that_keeps_something() -> None:
    calls = iter(range(9))
    assert not verdict(lambda x: x + next(calls), 1).holds()
    assert verdict(lambda x: x + 1, 1).holds()


def test_what_depends_on_the_number_of_samples_alone() -> None:
    def depends(function: Callable[[Any], Any]) -> bool:
        return depends_on_samples([(each, function(X[list(each)])) for each in batches_of(None)])

    assert not depends(lambda x: np.array(x.shape))
    assert not depends(lambda x: np.full((2, 2), np.nan))
    assert not depends(lambda x: np.float32(1) + np.float32(1e-7) * x)
    assert depends(lambda x: x.mean(axis=0))
    assert depends(lambda x: np.flatnonzero(x.reshape(-1) > 0))
    assert "is random" in str(mixed("m", "it", Verdict(None), random=True))


def test_what_is_said_of_rounding() -> None:
    assert note_of(Verdict(Layout(0), 0, 1e-4, 1, 1)) is None
    said = note_of(Verdict(Layout(0), 0.02, 0.01, 2, 3))
    assert said is not None
    assert "up to 0.02 apart, of 3, from the same one in a batch" in said
    assert said.endswith("with one scale for all samples of a batch")
    assert str(note_of(Verdict(Layout(0), 0, 0.01, 2, 3))).endswith("rounded differently there")


@pytest.mark.parametrize("factor", [1.0, 1e5])
@pytest.mark.parametrize(
    ("swayed", "moved", "spread", "largest", "fits", "fits_dynamic"),
    [
        (0, 0, 0, 0, True, True), (0.9e-4, 0, 1, 1, True, True), (1.1e-4, 0, 1, 1, False, True),
        (0, 0.019, 1, 1, True, True), (0, 0.021, 1, 1, False, True),
        (0.19, 0, 1, 1, False, True), (0.21, 0, 1, 1, False, False),
        (0, 0.21, 1, 1, False, False), (0.9e-6, 0.9e-6, 0, 1, True, True),
        (1.1e-6, 0, 0, 1, False, False), (0, 1.1e-6, 0, 1, False, False),
        (np.inf, 0, np.inf, 1, False, False), (0, np.inf, np.inf, 1, False, False),
    ],
)  # fmt: skip
def test_what_may_change_at_most(
    swayed: float, moved: float, spread: float, largest: float, fits: bool, fits_dynamic: bool,
    factor: float,
) -> None:  # fmt: skip
    """By other samples 1e-4 of what samples differ by, by place 0.02, by one scale 0.2."""
    numbers = [factor * each for each in (swayed, moved, spread, largest)]
    seen = Verdict(Layout(0), *numbers)
    assert (seen.fits(), seen.fits(dynamic=True)) == (fits, fits_dynamic)
    assert (seen.holds(), seen.holds(dynamic=True)) == (fits, fits_dynamic)
    assert not Verdict(None, *numbers).fits()
    assert seen.apart == max(numbers[:2])


@pytest.mark.parametrize(
    ("best", "rival", "ambiguous"),
    [
        ((0.0, 1.0), (0.9e-5, 1.0), True), ((0.0, 1.0), (1.1e-5, 1.0), False),
        ((1e-4, 1.0), (0.9e-3, 1.0), True), ((1e-4, 1.0), (1.1e-3, 1.0), False),
        ((0.0, 9.0), (8.9e-5, 1.0), True), ((0.0, 1.0), (8.9e-5, 9.0), True),
        ((0.0, 1.0), (0.5, 1.0), False),
    ],
)  # fmt: skip
def test_another_order_that_fits_about_as_well(
    best: tuple[float, float], rival: tuple[float, float], ambiguous: bool
) -> None:
    one, other = (Verdict(Layout(0), 0, apart, 1, most) for apart, most in (best, rival))
    seen = Verdict(Layout(0), 0, best[0], 1, best[1], other)
    assert (seen.ambiguous(), seen.holds()) == (ambiguous, not ambiguous)
    assert one.holds()
    sure, unsure = told({"seen": seen, "one": one, "none": Verdict(None)})
    assert (sure, unsure) == ({"one"} | ({"seen"} - unsure), {"seen"} if ambiguous else set())


def test_what_is_said_of_samples_that_run_one_by_one() -> None:
    steady, rounded = Verdict(Layout(0)), Verdict(Layout(0), 0, 0.01, 2, 3)
    assert note_of_one_by_one(steady) is None
    assert note_of_one_by_one(rounded) == note_of(rounded) is not None
    said = str(note_of_one_by_one(Verdict(Layout(0), 0.5, 0.25, 2, 3)))
    assert "their logits change by 0.5 of 3 with the others" in said
    assert "no samples of noise (why), so it is not known" in unseen("why")
    assert "the same logits for all samples of noise, so it is not known" in unvaried()


@pytest.mark.parametrize(("apart", "noted"), [(0.9e-3, False), (1.1e-3, True)])
def test_rounding_that_is_worth_a_word(apart: float, noted: bool) -> None:
    assert (note_of(Verdict(Layout(0), 0, apart, 1, 1)) is not None) == noted
    assert (note_of(Verdict(Layout(0), 0, apart * 1e-3, 0, 1)) is not None) == noted
    assert "3 more" not in str(untapped(list("abc")))
    assert "what a, b, c reads is" in str(untapped(list("abc")))


@pytest.mark.parametrize(
    ("swayed", "moved", "may"),
    [(1.9e-4, 0, True), (2.1e-4, 0, False), (0, 0.039, True), (0, 0.041, False), (0, 0, True)],
)
def test_an_order_that_a_few_numbers_speak_against(swayed: float, moved: float, may: bool) -> None:
    """Twice what other samples, and another place, may change of the largest number."""
    values = np.zeros((3, 9))
    values[:, 8] = 1  # the largest, beyond the few
    other = values.copy()
    other[1, 0], other[2, 1] = swayed, moved
    runs = [((0, 1, 2), values), ((3, 1, 0), other)]
    assert _may_fit(runs, Layout(0)) == may


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (Layout(0), (3, 2, 4)), (Layout(1), (2, 3, 4)), (Layout(2), (2, 4, 3)),
        (Layout(0, 1, 2), (6, 4)), (Layout(0, 2, 1), (6, 4)), (Layout(1, 2, 4), (5, 24)),
        (Layout(0, 2, 2), (12,)),
    ],
)  # fmt: skip
def test_samples_come_first_wherever_they_are(layout: Layout, shape: tuple[int, ...]) -> None:
    """Each number says of which sample it is: outer x samples x inner places along the axis."""
    place = np.arange(shape[layout.axis]) // layout.inner % 3
    along = [1] * len(shape)
    along[layout.axis] = -1
    values = np.broadcast_to(place.reshape(along), shape)
    rows = layout.by_sample(values, 3)
    assert layout.parts == layout.outer * layout.inner == shape[layout.axis] // 3
    for sample in range(3):
        assert (rows[sample] == sample).all()
    assert rows.size == values.size


@pytest.mark.parametrize(
    ("shapes", "counts", "layouts"),
    [
        ([(3, 4), (2, 4)], [3, 2], [Layout(0)]),
        ([(4, 3), (4, 2)], [3, 2], [Layout(1)]),
        ([(12, 4), (8, 4)], [3, 2], [Layout(0, 1, 4), Layout(0, 4, 1), Layout(0, 2, 2)]),
        ([(3, 4), (3, 4)], [3, 2], []),  # as many, whatever the samples
        ([(7, 4), (5, 4)], [3, 2], []),
        ([(3, 4), (2,)], [3, 2], []),
        ([(3, 6), (3, 6)], [3, 3], [Layout(0), Layout(1, 1, 2), Layout(1, 2, 1)]),
    ],
)
def test_where_samples_might_be(shapes: Any, counts: Any, layouts: list[Layout]) -> None:
    """An axis of their own first, then folds: samples outside, inside, or in the middle."""
    assert list(_candidates(shapes, counts)) == layouts


def test_what_fits_by_one_scale_alone_is_not_told_unless_asked() -> None:
    dynamic = Verdict(Layout(0), 0.1, 0.1, 1, 1)
    assert told({"x": dynamic}) == (set(), set())
    assert told({"x": dynamic}, dynamic=True) == ({"x"}, set())
    assert Verdict(Layout(0)).spread == Verdict(Layout(0)).largest == Verdict(Layout(0)).apart == 0


def test_what_mixes_samples_is_said_as_it_was_seen() -> None:
    beginning = "m.onnx: node a mixes the samples of a batch, whose numbers "
    said = str(mixed("m.onnx", "node a", Verdict(None)))
    assert said.startswith(beginning + "have no axis of their own in it, expected")
    said = str(mixed("m.onnx", "node a", Verdict(Layout(0), 0.5, 0.25, 2, 3)))
    assert said.startswith(beginning + "change by 0.5 of 3 with the others, expected")
    said = str(mixed("m.onnx", "node a", Verdict(Layout(0), 0.5, 0.25, 2, 3), random=True))
    assert "node a is random or keeps something from call to call" in said
    rival = Verdict(Layout(1), 0, 0.0, 1, 1.0)
    said = str(mixed("m.onnx", "node a", Verdict(Layout(0), 0, 0.0, 1, 1.0, rival)))
    assert "node a has the same numbers in several orders of its samples" in said
