"""The rule that chooses one of several outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from skip2lora.backbones.ends import End
from skip2lora.backbones.outputs import (
    NO_LOGITS,
    Candidate,
    OutputSpec,
    candidates_of,
    choose,
    named,
    spec_of,
    task_of,
)
from skip2lora.errors import ParameterError

Refused = Callable[..., str]


def of(*parts: tuple[str, Any, str], feeds: str = "") -> list[Candidate]:
    """Candidates by name, shape and ending; those named in ``feeds`` lead to others."""
    return [
        Candidate(OutputSpec(name, shape, ending), name, name in feeds.split())
        for name, shape, ending in parts
    ]


@pytest.mark.parametrize(
    ("candidates", "taken"),
    [
        (of(("age", (1,), "logits"), ("gender", (2,), "logits"), ("em", (7,), "softmax")), "em"),
        (of(("labels", (4,), "sigmoid"), ("class", (3,), "softmax")), "class"),
        (of(("logits", (3,), "logits"), ("labels", (4,), "sigmoid")), "labels"),
        (of(("pooled", (8,), "unknown"), ("classes", (3,), "logits")), "classes"),
        (of(("e", (8,), "softmax"), ("c", (3,), "unknown"), feeds="e"), "c"),
        (of(("age", (1,), "logits"), ("kind", (4,), "logits")), "kind"),
        (of(("boxes", (4,), "logits"), ("scores", (9,), "logits")), "scores"),
        (of(("aux_logits", (9,), "logits"), ("Logits:0", (9,), "logits")), "Logits:0"),
        (of(("pooler_output", (9,), "unknown"), ("output_1", (9,), "unknown")), "output_1"),
        (of(("map", (4, 8, 8), "softmax"), ("row", (1,), "unknown")), "row"),
        (of(("tokens", (None, 8), "softmax"), ("spread", (5, 1, 1), "unknown")), "spread"),
    ],
)
def test_the_output_that_classifies(candidates: list[Candidate], taken: str) -> None:
    for given in (candidates, candidates[::-1]):
        place = choose(given, None, "m")
        assert place is not None
        assert given[place].spec.name == taken


def test_no_row_of_numbers() -> None:
    assert choose(of(("map", (4, 8, 8), "unknown"), ("", (), "unknown")), None, "m") is None
    assert choose([], None, "m") is None


@pytest.mark.parametrize(
    ("shape", "width"),
    [
        ((7,), 7), ((1, 7, 1), 7), ((1,), 1), ((2, 7), 0), ((None, 7), 0), ((), 0), ((0,), 0),
        ((1 << 20,), 0),
    ],
)  # fmt: skip
def test_what_is_a_row(shape: Any, width: int) -> None:
    assert OutputSpec("y", shape).width == width


def test_equal_ones_are_refused_with_all_that_is_known(refused: Refused) -> None:
    candidates = of(
        ("left", (3,), "logits"), ("map", (4, None), "unknown"), ("right", (2,), "logits")
    )
    said = refused(ParameterError, choose, candidates, None, "m.onnx")
    assert said.startswith("m.onnx has the outputs left 3 (logits), map 4x? (unknown), right 2")
    assert said.endswith("expected one to be told: choose it with output=")
    assert choose(candidates, "right", "m.onnx") == 2


def test_outputs_of_the_same_logits_are_one() -> None:
    specs = [OutputSpec("label", (3,), "softmax"), OutputSpec("probabilities", (3,), "softmax")]
    assert choose([Candidate(spec, "z") for spec in specs], None, "m") == 0


def test_what_another_is_computed_from() -> None:
    specs = [OutputSpec(name, (3,)) for name in ("a", "b", "c")]
    behind = [{"a"}, {"a", "b"}, {"b"}]  # c has the logits of b
    made = candidates_of(specs, ["a", "b", "b"], behind)
    assert [each.feeds for each in made] == [True, False, False]


def test_names_and_numbers(refused: Refused) -> None:
    specs = [OutputSpec("map", (4, 8)), OutputSpec("b", (3,)), OutputSpec("1", (2,))]
    assert [named(specs, asked, "m") for asked in ("b", 1, "1", 2)] == [1, 1, 2, 2]
    for asked in ("c", 3, -1, True, False):
        said = refused(ParameterError, named, specs, asked, "m")
        assert f"output is {asked!r} for m, expected a name or number from 0 of map, b, 1" in said
    said = refused(ParameterError, named, specs, "map", "m")
    assert "which is map 4x8 (unknown), expected a row of numbers a sample" in said


def test_a_model_with_one_output(refused: Refused) -> None:
    one = [OutputSpec("y", (3,))]
    assert named(one, "y", "m") == named(one, 0, "m") == 0
    said = refused(ParameterError, named, one, "z", "m")
    assert said == "output is 'z' for m, expected 'y', as it has one output: leave output out"
    assert "expected none, as it has no logits" in refused(ParameterError, named, [], "z", "m")


def test_an_output_for_a_person_and_as_json() -> None:
    plain, closed = OutputSpec("y", (3, None), "softmax"), OutputSpec("z", (), "labels", "why")
    assert str(plain) == "y 3x? (softmax)"
    assert str(closed) == "z of one number for all samples (why)"
    assert plain.to_json() == {"name": "y", "shape": [3, None], "ending": "softmax"}
    assert closed.to_json() == {"name": "z", "shape": [], "ending": "labels", "reason": "why"}
    refuted = plain.refuted(End("z", "softmax"))
    assert (refuted.ending, refuted.name) == ("probabilities", "y")
    assert refuted.reason == "not what follows from its softmax"


@pytest.mark.parametrize(
    ("end", "shape", "labels", "expected"),
    [
        (End("z", "probabilities", "why"), (3,), False, ((3,), "probabilities", "why")),
        (End("z", "probabilities", "why"), (3,), True, ((3,), "probabilities", "why")),
        (End("z", "unknown"), (3,), True, ((3,), "labels", NO_LOGITS)),
        (End("z", "softmax"), (3,), False, ((3,), "softmax", "")),
        (End("z", "pair", pair=True), (1,), False, ((2,), "softmax", "")),
        (End("z", "pair", pair=True), (4,), False, ((4,), "sigmoid", "")),
    ],
)  # fmt: skip
def test_what_an_output_is(end: End, shape: Any, labels: bool, expected: Any) -> None:
    spec = spec_of("y", shape, end, labels=labels)
    assert (spec.name, spec.shape, spec.ending, spec.reason) == ("y", *expected)
    assert not spec.bare


@pytest.mark.parametrize(
    ("shape", "ending", "task"),
    [
        ((3,), "softmax", "classification"), ((3,), "sigmoid", "multi-label"),
        ((1,), "sigmoid", "multi-label"), ((1,), "logits", "regression"),
        ((3,), "logits", "classification"), ((3,), "numbers", "regression"),
        ((1,), "unknown", "regression"), ((3,), "unknown", "classification"),
    ],
)  # fmt: skip
def test_the_task_that_an_output_tells(shape: Any, ending: str, task: str) -> None:
    assert task_of(OutputSpec("y", shape, ending)) == task
    assert task_of(None) == "classification"


def test_a_label_tells_less_than_probabilities() -> None:
    """But more than a layer; beside closed outputs neither it nor an embedding is taken."""
    label = Candidate(OutputSpec("label", (3,), "softmax", bare=True), "z", feeds=True)
    assert choose([label, *of(("p", (3,), "sigmoid"))], None, "m") == 1
    assert choose([*of(("layer", (3,), "logits")), label], None, "m") == 1
    closed = of(("closed", (3,), "labels"))
    assert choose([label, *closed], None, "m") is None
    assert choose([*of(("e", (8,), "unknown")), *closed], None, "m") is None
    assert choose([*of(("e", (8,), "unknown")), label], None, "m") == 1
    assert choose([*of(("y", (8,), "logits")), *closed], None, "m") == 0
    assert choose([*of(("y", (8,), "numbers")), *closed], None, "m") is None


def test_closed_outputs_are_not_asked_for(refused: Refused) -> None:
    specs = [OutputSpec("p", (3,), "probabilities", "of trees"), OutputSpec("y", (3,))]
    said = refused(ParameterError, named, specs, "p", "m")
    assert said.startswith("output is 'p' for m, which is of trees, expected one with logits")
