"""Columns are what their names say, in whatever order they come."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from frames import Frame
from skip2lora.errors import ColumnsWarning, DataError
from skip2lora.tasks.columns import Columns, Wanted, names_of

ABC = Columns(("a", "b", "c"))


def refusal(call: Any, *args: Any) -> str:
    with pytest.raises(DataError) as caught:
        call(*args)
    return str(caught.value)


@pytest.mark.parametrize("names", [*itertools.permutations("abc")])
def test_any_order_is_put_in_that_of_the_model(names: tuple[str, ...]) -> None:
    assert [names[at] for at in ABC.places(names)] == ["a", "b", "c"]
    frame = Frame(**{name: np.full(2, ord(name)) for name in names})
    np.testing.assert_array_equal(ABC.take(frame), [[97, 98, 99]] * 2)


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ("ab", ['no column "c", ', "add the column"]),
        ("a", ['no columns "b", "c"', "expected a, b, c", "add the columns"]),
        ("abcd", ['the column "d", ', "leave the column out with ignore='d'", "target="]),
        ("dabce", ['the columns "d", "e"', "leave the columns out with ignore='d,e'"]),
        ("abd", ['no column "c" but "d"', "rename"]),
        ("def", ['no columns "a", "b", "c" but "d", "e", "f"']),
        ("012d", ['"d"']),
    ],
)
def test_missing_and_extra_ones_are_named(names: str, parts: list[str]) -> None:
    for part in parts:
        assert part in refusal(ABC.places, list(names))


def test_names_that_count_the_columns_are_none() -> None:
    assert ABC.places(["0", "1", "2"]) == [0, 1, 2]
    counted = Columns(("0", "1", "2"))
    assert counted.places(["a", "b", "c"]) == [0, 1, 2]
    assert counted.places(["2", "0", "1"]) == [1, 2, 0]  # a choice of columns that were counted
    assert '"2"' in refusal(counted.places, ["0", "1"])
    assert names_of(Frame(**{"0": [1], "1": [2]})) == ["0", "1"]
    frame = Frame(a=[1], b=[2])
    frame.columns = [0, 1]  # as pandas counts
    assert names_of(frame) is None
    frame.columns = [np.int64(1), np.int64(0)]
    assert names_of(frame) == ["1", "0"]


def test_what_has_no_names_stays_as_it_is() -> None:
    for x in (np.ones((2, 3)), [[1, 2, 3]], {"columns": [1]}, None):
        assert ABC.take(x) is x
        assert names_of(x) is None


def test_what_is_ignored_and_the_answers_are_aside() -> None:
    columns = Columns(("a", "b"), ("when",), ("kind",))
    assert columns.places(["kind", "b", "when", "a"]) == [3, 1]
    assert Columns(None, ("when",), ("kind",)).places(["kind", "b", "when", "a"]) == [1, 3]


def test_a_frame_becomes_numbers_or_is_refused_by_its_column() -> None:
    mixed = Frame(a=[True, False], b=np.array([1, 2], object), c=np.float32([0.5, 1]))
    np.testing.assert_array_equal(ABC.take(mixed), [[1, 1, 0.5], [0, 2, 1]])
    for values in (["x", "y"], np.array(["1", "2"], object), np.array(["2024-01-01"] * 2, "M8[s]")):
        frame = Frame(a=[1, 2], b=values, c=[1, 2])
        assert f'column "b" has "{str(values[0])[:40]}" (' in refusal(ABC.take, frame)
        assert Columns(("a", "c"), ("b",)).take(frame).shape == (2, 2)
    frame = Frame(a=[1], b=[1])
    frame.columns = ["a", "a"]
    assert "two columns" in refusal(ABC.take, frame)


def test_kept_as_json() -> None:
    for columns in (Columns(), ABC, Columns(None, ("t",)), Columns(("a",), ("t",), ("y", "z"))):
        assert Columns.from_json(columns.to_json() or None) == columns
    for bad in ({"features": "abc"}, {"features": ["a", "a"]}, {"ignored": [1]}, {"more": ["a"]}):
        with pytest.raises(ValueError, match="columns"):
            Columns.from_json(bad)


def split(names: str, **options: Any) -> tuple[list[str], list[str]]:
    columns = names.split()
    answers, features, _ = Wanted(**options).assign(columns)
    return [columns[at] for at in answers], [columns[at] for at in features]


def test_columns_beside_are_neither_features_nor_answers() -> None:
    wanted = Wanted(aside={"group": "speaker", "weight": "w"})
    assert wanted.assign(["w", "a", "speaker", "b", "label"]) == ([4], [1, 3], [2, 0])
    learned = wanted.columns(["a", "b"])
    assert learned.ignored == ("speaker", "w")  # to predict, too
    names = ["a", "b", "w", "speaker"]
    assert Wanted(learned=learned, labels_required=False).features(names) == [0, 1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("d", 'group= names "d", it has columns a, b, label, expected one of them'),
        ("label", 'group= names "label", which is an answer, expected another of its columns'),
        ("target", 'group= names "target", it has columns a, b, label, expected one of them'),
        ("b", 'group= names "b", which is a feature of the model, expected another'),
    ],
)
def test_columns_beside_must_be_there_and_free(name: str, words: str) -> None:
    wanted = Wanted(aside={"group": name}, learned=Columns(("a", "b")))
    with pytest.raises(DataError) as raised:
        wanted.assign(["a", "b", "label"])
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("names", "answers"),
    [
        ("a b label", "label"),
        ("a target b", "target"),
        ("y a b", "y"),
        ("x y", "y"),
        ("x y z label", "label"),  # an accelerometer
        ("y label", "label"),
        ("target y", "target"),
    ],
)
def test_answers_by_their_usual_name(names: str, answers: str) -> None:
    rest = [name for name in names.split() if name != answers]
    assert split(names) == ([answers], rest)


@pytest.mark.parametrize(
    ("names", "known", "features"),
    [
        ("x y z", {"n_features": 3}, "x y z"),
        ("x y z", {"learned": Columns(("z", "y", "x"))}, "z y x"),
        ("x y z", {}, "x y z"),
        ("label a", {"n_features": 2}, "label a"),
        ("a b y", {"n_features": 2}, "a b"),
        ("x z y", {"n_features": 2}, "x z"),
        ("a b y", {"learned": Columns(("b", "a"))}, "b a"),
        ("a b y", {"no_target": True}, "a b y"),
        (
            "a label target",
            {"learned": Columns(("a",), target=("kind",)), "ignore": ["label"]},
            "a",
        ),
        ("a kind", {"learned": Columns(("a",), target=("kind",))}, "a"),
        ("kind a", {"learned": Columns(target=("kind",))}, "a"),
        ("a", {"learned": Columns(("a",), target=("kind",))}, "a"),
        ("y t a", {"learned": Columns(("a", "y"), ("t",))}, "a y"),
    ],
)
def test_predict_needs_no_answers(names: str, known: dict[str, Any], features: str) -> None:
    assert split(names, labels_required=False, **known)[1] == features.split()


@pytest.mark.parametrize(
    ("names", "options", "parts"),
    [
        ("a label target", {}, ["label and target", "ignore=target", "target=label"]),
        ("x y z activity", {}, ["x, y, z, activity", "say which hold them with target="]),
        ("a b", {}, ["expected one called"]),
        ("a b", {"learned": Columns(("a",), target=("kind",))}, ["expected one called"]),
        ("a b", {"target": "kind"}, ['"kind"', "target="]),
        ("a b", {"target": "b", "ignore": ["c"]}, ['"c"', "correct ignore="]),
        ("a y", {"target": "y", "learned": Columns(("a", "y"))}, ['"y"', "feature of the model"]),
        ("a y", {"target": "y", "ignore": ["a"], "learned": Columns(("a",))}, ["feature of the"]),
        ("a b y", {"learned": Columns(("a",))}, ['the column "b"', "ignore='b'"]),
    ],
)
def test_what_is_not_clear_is_refused(names: str, options: Any, parts: list[str]) -> None:
    for part in parts:
        assert part in refusal(lambda: split(names, **options))


def test_what_is_told_is_kept_and_holds_over_what_was() -> None:
    wanted = Wanted(target="kind", ignore=["t"], learned=Columns(("a",), ("s",), ("old",)))
    assert wanted.columns(["a"]) == Columns(("a",), ("s", "t"), ("kind",))
    assert split("a t kind s old", target="kind", ignore=["t"], learned=wanted.learned) == (
        ["kind"], ["a"],
    )  # fmt: skip


def test_arrays_of_an_npz() -> None:
    names = ["y", "subject"]
    assert Wanted().answers(names, "arrays") == [0]
    assert "label and y" in refusal(Wanted().answers, ["label", "y"], "arrays")
    several = Wanted(inputs=("x", "y"), labels_required=False)
    assert several.answers(["x", "y"], "arrays") == []
    assert several.answers(["x", "y", "label"], "arrays") == [2]


def test_names_of_features_are_not_those_of_arrays() -> None:
    learned = Columns(("x", "y", "z"))
    assert Wanted(learned=learned).answers(["y"], "arrays") == [0]
    assert Wanted(learned=learned, target="y").answers(["y"], "arrays") == [0]


def test_as_many_answers_as_features_are_answers_all_the_same() -> None:
    known = {"learned": Columns(("a", "b")), "n_features": 2, "labels_required": False}
    assert split("a label b", **known) == (["label"], ["a", "b"])
    for part in ('"c"', "ignore='c'"):
        assert part in refusal(lambda: split("a label b c", **known))


def test_names_that_nothing_knows_are_taken_in_their_order_with_a_word() -> None:
    with pytest.warns(ColumnsWarning, match="knows no names of columns, b, a are taken in this"):
        np.testing.assert_array_equal(Columns().take(Frame(b=[1, 2], a=[3, 4])), [[1, 3], [2, 4]])


def test_a_frame_of_other_names_is_refused_as_such() -> None:
    frame = Frame(a=[1.0], b=[2.0], c=[3.0], d=[4.0], e=[5.0])
    said = refusal(ABC.take, frame)
    assert said.startswith('X has the columns "d", "e", expected a, b, c')
    assert said.endswith("leave the columns out")
    assert refusal(ABC.take, Frame(a=[1], b=[2], c=[3], d=[4])).endswith("leave the column out")


def test_names_that_are_known_stay() -> None:
    frame = Frame(c=np.zeros(2), a=np.zeros(2))
    assert ABC.of(frame) is ABC
    assert Columns().of(np.zeros((2, 3))) == Columns()
    assert Columns().of(frame).features == ("c", "a")
