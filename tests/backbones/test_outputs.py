"""The rule that chooses one of several outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from skip2lora.backbones.outputs import (
    Candidate,
    OutputSpec,
    candidates_of,
    choose,
    named,
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
