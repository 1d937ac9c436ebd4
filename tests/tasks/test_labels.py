"""Label encoding: text, numbers, numbers as text, names of a file and of a model, new classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skip2lora.errors import DataError
from skip2lora.tasks.labels import (
    MAX_LABEL,
    _check_whole,
    _encode_names,
    encode,
    encode_labels,
    own_labels,
    places_in,
    two_names,
)
from skip2lora.tasks.task import CLASSIFICATION, NO_OUTPUTS, Answers, Encoded, Outputs

ANIMALS = ("cat", "dog", "eel")
NAMED, UNNAMED = Outputs(range(3), ANIMALS), Outputs(range(3))
IN_ORDER = replace(NAMED, in_order=True)


def label(row: int) -> str:
    return f"row {row}"


def of_file(labels: Any, own: tuple[str, ...] | None = None) -> Answers:
    return Answers(np.array(labels), class_names=own, place=label)


def encoded(
    labels: Any, outputs: Outputs, own: tuple[str, ...] | None = None, *, new: bool = False
) -> Encoded:
    return encode_labels(of_file(labels, own), len(labels), outputs, new_classes=new)


def numbered(
    labels: Any, *, own: tuple[str, ...] | None = None, known: tuple[str, ...] | None = None
) -> tuple[list[int], object]:
    outputs = Outputs(None if known is None else range(len(known)), known)
    made = encoded(labels, outputs, own)
    assert made.y.dtype == np.int32
    assert made.new_labels == ()
    return made.y.tolist(), made.outputs.names


def test_text_is_numbered_in_sorted_order_or_as_known() -> None:
    assert numbered(["b", "a", "b"]) == ([1, 0, 1], ("a", "b"))
    assert numbered(["b", "a", "b"], known=("c", "b", "a")) == ([1, 2, 1], ("c", "b", "a"))
    assert encoded(["b", "a"], Outputs()).names_sorted
    assert not encoded(["b", "a"], Outputs(), ("b", "a")).names_sorted


def test_text_that_is_all_numbers() -> None:
    assert numbered(["0", "2.0", "1"]) == ([0, 2, 1], None)
    # known names win over numbers
    assert numbered(["3", "7"], known=("7", "3")) == ([1, 0], ("7", "3"))


def test_codes_with_leading_zeros_are_names_where_numbers_would_be_one() -> None:
    assert numbered(["01", "1", "2", "01"]) == ([0, 1, 2, 0], ("01", "1", "2"))
    assert numbered(["01", "00", "02", "01"]) == ([1, 0, 2, 1], None)


def test_classes_are_renumbered_by_name() -> None:
    own, known = ("stop", "go"), ("go", "wait", "stop")
    assert numbered([0, 1, 1], own=own, known=known) == ([2, 0, 0], known)
    assert numbered(["stop", "go"], own=own, known=known) == ([2, 0], known)


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        (["a", "x"], {"known": ("a", "b")}, 'row 1 has label "x", expected one of a, b'),
        (["a", "1", "x"], {"known": ("a", "b")}, 'row 2 has label "x"'),
        (["a", "1"], {"known": ("a", "b")}, 'row 1 has label "1"'),
        (["0", "1", "2x"], {}, 'row 2 has label "2x", expected a number'),
        (["0", "0.5"], {}, "row 1 has label 0.5, expected a whole number"),
        ([0, 2], {"known": ("a", "b")}, "row 0 has label 0, expected a name"),
        ([0, -1], {}, "row 1 has label -1"),
        ([0, np.nan], {}, "row 1 has label nan"),
        ([0, -(2**31)], {}, "row 1 has label -2147483648"),
        ([0], {"own": ("a", "z"), "known": ("a", "b")}, 'class "z", expected only a, b'),
        ([1j], {}, "dtype complex128"),
        ([[0, 1]], {}, "shape (1, 2), expected one label a sample"),
    ],
)
def test_labels_that_are_refused(labels: Any, names: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        numbered(labels, **names)
    assert said in str(caught.value)


BIG = [20240101, 99, 2**31 + 7, 2**53 + 1]


@pytest.mark.parametrize("number", BIG[::2])
@pytest.mark.parametrize("write", [int, float, str], ids=["int", "float", "text"])
def test_a_large_number_is_a_name_and_no_count_of_outputs(number: int, write: Any) -> None:
    labels = [write(number), write(5), write(number)]
    assert numbered(labels) == ([0, 1, 0], (str(number), "5"))
    assert numbered(labels, known=("5", str(number))) == ([1, 0, 1], ("5", str(number)))
    few = encoded(labels, Outputs(range(6)), new=True)  # the core takes it, or it is a name
    assert few.y.tolist() == [6, 5, 6]
    assert few.new_labels == ((number,) if number < 2**31 else (str(number),))


def test_ids_as_long_as_text_are_kept_apart() -> None:
    ids = [str(2**53), str(2**53 + 1)]
    assert numbered([*ids, ids[0]]) == ([0, 1, 0], tuple(ids))


@pytest.mark.parametrize("labels", [[1, 2, 3], [0, 5, 9], [0, 99], list(range(60, 121))])
def test_a_few_classes_without_samples_make_no_names(labels: list[int]) -> None:
    assert numbered(10 * labels) == (10 * labels, None)


def numbers(n_distinct: int, n_samples: int, step: int, first: int) -> list[int]:
    return [first + step * (at % n_distinct) for at in range(n_samples)]


@pytest.mark.parametrize("write", [int, str, float])
@pytest.mark.parametrize(
    ("n_distinct", "n_samples", "step", "first", "are_classes"),
    [
        (20, 20, 3, 0, True), (21, 42, 1, 0, True), (21, 42, 1, 1, True), (21, 41, 1, 0, False),
        (21, 209, 3, 0, False), (21, 210, 3, 0, True), (73, 300, 1, 18, False),
        (214, 442, 1, 25, False), (200, 300, 5, 1000, False), (956, 956, 1, 0, False),
    ],
)  # fmt: skip
def test_measured_numbers_are_no_classes(
    n_distinct: int, n_samples: int, step: int, first: int, are_classes: bool, write: Any
) -> None:
    labels = [write(number) for number in numbers(n_distinct, n_samples, step, first)]
    for outputs, new in ((Outputs(), False), (NO_OUTPUTS, True), (UNNAMED, True)):
        if are_classes:
            assert encoded(labels, outputs, new=new).y.size == n_samples
            continue
        with pytest.raises(DataError) as caught:
            encoded(labels, outputs, new=new)
        for part in ("whole numbers", f"{n_samples:,} samples", "task='regression'", "target="):
            assert part in str(caught.value)
    if write is int:
        assert encoded(labels, Outputs(range(5000))).y.tolist() == labels  # a model knows them


@pytest.mark.parametrize(
    "labels",
    [[at / 100 for at in range(30)], range(-40, -10), [at - 15.5 for at in range(30)]],
)
def test_measured_numbers_that_are_text_are_no_classes(labels: Any) -> None:
    """In an array nothing but their number of samples tells fractions from names."""
    texts = np.array([str(label) for label in labels])
    for repeats in (1, 9):
        with pytest.raises(DataError) as caught:
            encode_labels(np.tile(texts, repeats), 30 * repeats, NO_OUTPUTS, new_classes=True)
        assert "y has 30 different " in str(caught.value)
        assert f" numbers in {30 * repeats} samples ({', '.join(texts[:8])}" in str(caught.value)
        assert ("whole" in str(caught.value)) == isinstance(labels, range)
    many = encode_labels(np.tile(texts, 10), 300, NO_OUTPUTS, new_classes=True)
    assert sorted(many.new_labels) == sorted(texts)


def test_names_are_classes_however_many() -> None:
    names = [f"c{at}" for at in range(60)]
    assert encoded(names, Outputs()).y.size == 60


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize(
    "labels", [[0, 1, 2], [1, 2, 1], ["0", "1"], [0.0, 2.0], ["1.0", "2.0"], [True, False]]
)
def test_numbers_do_not_count_the_names_of_a_model(labels: Any, new: bool) -> None:
    """Nobody said in which order: the names of a file, say, were sorted."""
    with pytest.raises(DataError) as caught:
        encoded(labels, NAMED, new=new)
    for part in ("expected a name", "cat, dog, eel", "class_names="):
        assert part in str(caught.value)
    expected = [int(float(label)) for label in labels]
    assert encoded(labels, IN_ORDER, new=new).y.tolist() == expected
    assert encoded(labels, UNNAMED, new=new).y.tolist() == expected


@pytest.mark.parametrize(
    ("labels", "own", "outputs", "places"),
    [
        (["eel", "cat"], None, NAMED, [2, 0]),
        ([0, 1], ("eel", "cat"), NAMED, [2, 0]),
        (["eel", "cat"], ("eel", "dog", "cat"), NAMED, [2, 0]),
        (["2", "0.0"], None, UNNAMED, [2, 0]),
        ([0, 2], ("eel", "dog", "cat"), UNNAMED, [0, 2]),
        ([0, 7, 1], None, Outputs((0, 1, 7)), [0, 2, 1]),
        (["7", "dog"], None, Outputs((0, 1, 7), ("cat", "dog", "7")), [2, 1]),
        (["7"], None, Outputs((0, 1, 7), ("cat", "dog", "7")), [2]),
        ([7], None, Outputs((0, 1, 7), ("cat", "dog", "7")), [2]),
        (["10", "9"], None, Outputs(range(2), ("9", "10")), [1, 0]),
    ],
)
def test_labels_of_a_model(labels: Any, own: Any, outputs: Outputs, places: list[int]) -> None:
    made = encoded(labels, outputs, own)
    assert made.y.tolist() == places
    assert made.new_labels == ()


def test_a_model_without_names_takes_those_of_a_file_that_orders_them() -> None:
    made = encoded([0, 2], UNNAMED, ANIMALS[::-1])
    assert (made.outputs.names, made.names_adopted) == (ANIMALS[::-1], True)
    assert not encoded([0, 2], NAMED, ANIMALS[::-1]).names_adopted
    assert not encoded([0, 2], UNNAMED).names_adopted


@pytest.mark.parametrize(
    ("labels", "own", "outputs", "parts"),
    [
        (["cat", "dog"], None, UNNAMED, ["2 classes (cat, dog)", "3 outputs without names"]),
        (["cat", "dog", "eel"], None, UNNAMED, ["in no order", "class_names=", "cat,dog,eel"]),
        ([0, 1], ("a", "b"), UNNAMED, ["2 classes (a, b)", "new_classes=True", "keep_outputs="]),
        (["cat"], ("cat", "ant"), NAMED, ['class "ant"', "cat, dog, eel"]),
        ([3], None, NAMED, ["row 0 has label 3", "expected a name", "cat, dog, eel"]),
        ([3], None, IN_ORDER, ["row 0 has label 3", "0, 1, ..., 2 (cat, dog, eel)"]),
        ([3], None, UNNAMED, ["row 0 has label 3", "..., 2"]),
        (["cat", "7"], None, NAMED, ['row 1 has label "7"']),
    ],
)
def test_labels_that_a_model_does_not_have(
    labels: Any, own: Any, outputs: Outputs, parts: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        encoded(labels, outputs, own)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "own", "outputs", "places", "new"),
    [
        (["ant", "cat", "yak", "ant"], None, NAMED, [3, 0, 4, 3], ("ant", "yak")),
        ([0, 2, 1], ("yak", "cat", "ant"), NAMED, [4, 3, 0], ("ant", "yak")),
        # what the file lists and no sample has is no class
        ([0, 0], ("yak", "ant"), NAMED, [3, 3], ("yak",)),
        (["7", "1", "5"], None, UNNAMED, [4, 1, 3], (5, 7)),
        ([7, 5], None, NAMED, [4, 3], (5, 7)),
        (["b", "a"], None, UNNAMED, [4, 3], ("a", "b")),
        (["9", "10"], None, Outputs(range(2), ("9", "10")), [0, 1], ()),
        (["b", "a"], None, NO_OUTPUTS, [1, 0], ("a", "b")),
        ([40, 3], None, NO_OUTPUTS, [1, 0], (3, 40)),
        ([0, 1], ("b", "a"), NO_OUTPUTS, [1, 0], ("a", "b")),
    ],
)
def test_new_classes_come_after_those_there_are(
    labels: Any, own: Any, outputs: Outputs, places: list[int], new: Any
) -> None:
    made = encoded(labels, outputs, own, new=True)
    assert (made.y.tolist(), made.new_labels) == (places, new)


def test_new_classes_that_are_refused() -> None:
    for labels, said in ((["ant", "7"], '"ant", expected a number'), (["0.5"], "label 0.5")):
        with pytest.raises(DataError, match=said):
            encoded(labels, NAMED, new=True)
    for labels in (["a", "a"], [3, 3]):
        with pytest.raises(DataError, match="expected 2 or more"):
            encoded(labels, NO_OUTPUTS, new=True)


def test_arrays_mean_what_their_type_says() -> None:
    """Text is a name, even where it looks like a number."""
    made = encode_labels(np.array(["7", "1"]), 2, UNNAMED, new_classes=True)
    assert (made.y.tolist(), made.new_labels) == ([3, 1], ("7",))
    made = encode_labels([7, 1], 2, UNNAMED, new_classes=True)
    assert (made.y.tolist(), made.new_labels) == ([3, 1], (7,))
    with pytest.raises(DataError, match=r'label "1.0" at row 1 .* one of 0, 1, 2'):
        encode_labels(["1", "1.0"], 2, UNNAMED, new_classes=False)
    with pytest.raises(DataError, match=r"3 outputs .* got label 3 at row 1"):
        encode_labels([0, 3], 2, UNNAMED, new_classes=False)
    with pytest.raises(DataError, match=r"shape \(2,\), expected \(3,\)"):
        encode_labels(["a", "b"], 3, NAMED, new_classes=False)


DIGITS = ("10", "2", "1")


@pytest.mark.parametrize(
    ("labels", "own", "places"),
    [
        ([1, 2, 10], DIGITS, [2, 1, 0]),
        ([2.0, 1.0], DIGITS, [1, 2]),
        ([1, 2, 0], ("0", "1", "2"), [1, 2, 0]),
        ([1, 2, 0], ("a", "b", "c"), [1, 2, 0]),  # count the outputs, as predict_index does
        ([0, 2], ("10", "b", "1"), [0, 2]),
    ],
)
def test_numbers_are_names_where_names_are_numbers(labels: Any, own: Any, places: Any) -> None:
    """In an array as in a file, unless the user lists the names in the order of 0, 1, ..."""
    outputs = Outputs(range(3), own)
    made = encode_labels(np.array(labels), len(labels), outputs, new_classes=False)
    assert made.y.tolist() == places
    if own == DIGITS:
        assert encoded(labels, outputs).y.tolist() == places
        listed = replace(outputs, in_order=True)
        assert encode_labels([1, 2], 2, listed, new_classes=False).y.tolist() == [1, 2]
        new = encode_labels([7, 10], 2, outputs, new_classes=True)
        assert (new.y.tolist(), new.new_labels) == ([3, 0], ("7",))
        with pytest.raises(DataError, match=r'label "0" at row 1 .* one of 10, 2, 1'):
            encode_labels([1, 0], 2, outputs, new_classes=False)


def test_a_label_between_those_of_the_outputs_is_never_met() -> None:
    """As ``score`` needs it: it counts as wrong, and has a name."""
    made = encode_labels([0, 5, 7], 3, Outputs((0, 1, 7)), new_classes=False)
    assert made.y.tolist() == [0, 3, 2]
    assert made.titles == ("0", "1", "7", "5")


WORDS = st.text("abcxyz", min_size=1, max_size=3)


@given(
    labels=st.one_of(
        st.lists(WORDS, min_size=2, max_size=20),
        st.lists(st.integers(0, 9), min_size=2, max_size=20),
    ),
    names=st.one_of(st.none(), st.lists(WORDS, min_size=1, max_size=5, unique=True).map(tuple)),
    as_file=st.booleans(),
    as_text=st.booleans(),
)
def test_decoding_gives_the_labels_back(
    labels: list[Any], names: tuple[str, ...] | None, as_file: bool, as_text: bool
) -> None:
    outputs = Outputs(range(4 if names is None else len(names)), names)
    values = np.array(labels)
    y: Any = Answers(values.astype(np.str_) if as_text else values) if as_file else values
    text = values.dtype.kind == "U"
    if as_file and names and not text and min(labels) < len(names):  # do they count the names?
        with pytest.raises(DataError, match="expected a name"):
            encode_labels(y, len(labels), outputs, new_classes=True)
        return
    made = encode_labels(y, len(labels), outputs, new_classes=True)
    if text:
        decoded = np.array(made.titles)[made.y]
    else:
        decoded = np.array([*(outputs.numbers or ()), *made.new_labels])[made.y]
    assert decoded.tolist() == labels
    again = encode_labels(y, len(labels), outputs, new_classes=True)
    assert (again.y.tolist(), again.new_labels) == (made.y.tolist(), made.new_labels)


@given(own=st.lists(WORDS, min_size=1, max_size=6, unique=True), data=st.data(), text=st.booleans())
def test_names_find_their_output_in_any_order(own: list[str], data: Any, text: bool) -> None:
    known = tuple(data.draw(st.permutations(own)))
    places = data.draw(st.lists(st.integers(0, len(own) - 1), min_size=1, max_size=10))
    labels = [own[place] for place in places] if text else places
    made = encoded(labels, Outputs(range(len(known)), known), tuple(own))
    assert [known[place] for place in made.y] == [own[place] for place in places]


def test_own_labels_take_the_type_of_those_given() -> None:
    assert own_labels(NAMED, np.array(["x"])).tolist() == list(ANIMALS)
    assert own_labels(UNNAMED, np.array([5.0])).tolist() == [0, 1, 2]
    assert own_labels(NAMED, np.array(["x"], object)).dtype == object
    with pytest.raises(DataError, match="labels such as 5, expected such as 'cat'"):
        own_labels(NAMED, np.array([5]))


def test_places_in_any_order() -> None:
    assert places_in(np.array([7, 0, 3]), np.array([3, 7, 7])).tolist() == [2, 0, 0]


def test_what_is_encoded_stays() -> None:
    made = encode(CLASSIFICATION, [0, 1], 2, UNNAMED)
    assert encode(CLASSIFICATION, made, 2, NAMED) is made
    with pytest.raises(DataError, match="2 answers, expected 3"):
        encode(CLASSIFICATION, made, 3, UNNAMED)


def test_errors_name_the_file_on_one_line() -> None:
    answers = Answers(np.array(["cat", "a\nb"]), place=label, source="field.csv")
    with pytest.raises(DataError) as caught:
        encode(CLASSIFICATION, answers, 2, NAMED)
    assert str(caught.value).startswith('field.csv: row 1 has label "a b", expected one of cat')


def test_two_names_of_a_binary_model() -> None:
    assert two_names(np.array(["on", "off", "on"])) == ("off", "on")
    for other in (None, np.array(["a", "b", "c"]), np.array(["a"]), [0, 1], of_file(["a", "b"])):
        assert two_names(other) is None


def test_labels_that_are_not_there() -> None:
    with pytest.raises(DataError, match="the samples have no labels, expected one each: add y"):
        encode_labels(Answers(None), 3, UNNAMED, new_classes=False)
    with pytest.raises(DataError, match=r"^row 1 has no label, expected one each: fill it in"):
        encoded(["cat", "", "dog"], NAMED)


@pytest.mark.parametrize("kind", [np.float64, np.int64])
@pytest.mark.parametrize(
    ("limit", "largest"), [(3, 2), (None, MAX_LABEL)], ids=["of a model", "of none"]
)
def test_labels_up_to_the_largest(limit: int | None, largest: int, kind: Any) -> None:
    """From 0; the first that is none is named by its place."""
    answers = Answers(None, place=lambda row: f"row {row}")
    good = np.array([0, largest], kind)
    assert _check_whole(answers, good, limit, None).tolist() == [0, largest]
    for bad in (-1, largest + 1, *([0.5] if kind is np.float64 else [])):
        with pytest.raises(DataError, match=f"row 1 has label {bad}, expected a whole number 0, 1"):
            _check_whole(answers, np.array([0, bad, -7], kind), limit, None)


@pytest.mark.parametrize(
    ("names", "fix"),
    [(None, "name the outputs with class_names="), (("a", "b"), "correct the label")],
)
def test_what_to_do_about_a_name_that_is_none(names: Any, fix: str) -> None:
    outputs = Outputs(names=names, numbers=range(2))
    with pytest.raises(DataError) as error:
        _encode_names(
            np.array(["1", "c", "b"] if names is None else ["a", "c", "d"]), outputs, False
        )
    first, row = ("b", 2) if names is None else ("c", 1)
    known = "0, 1" if names is None else "a, b"
    assert str(error.value) == (
        f'got label "{first}" at row {row} (from 0), expected one of {known}: {fix}, or learn it '
        "with adapt and new_classes=True"
    )
