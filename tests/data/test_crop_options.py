"""How crops are cut: what is told as text and as JSON, and what an adapter keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skip2lora.data.crop_options import Crops, following
from skip2lora.errors import ParameterError

FILE = Path("boxes.json")


def test_parse() -> None:
    assert Crops.parse(category=" animal,big cat", margin=0.1) == Crops(
        category=("animal", "big cat"), margin=0.1
    )
    assert Crops.parse(segments=FILE).least == 0.2
    assert Crops.parse(confidence=0.0).least == 0.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"confidence": 1.1}, "confidence= is 1.1, expected"),
        ({"confidence": math.nan}, "confidence= is nan"),
        ({"margin": -0.1}, "margin= is -0.1, expected"),
        ({"margin": math.inf}, "margin= is inf"),
        ({"category": "animal,"}, "category= is 'animal,', expected names"),
    ],
    ids=str,
)
def test_parse_refuses(words: dict[str, Any], message: str, refused: Callable[..., str]) -> None:
    assert message in refused(ParameterError, Crops.parse, **words)


def test_what_is_kept_has_the_defaults_and_no_paths() -> None:
    known = Crops(segments=FILE, group="seq_id", category=("animal",)).known
    assert known == Crops(confidence=0.2, category=("animal",), margin=0.0, square=False)
    assert known.to_json() == {
        "confidence": 0.2, "category": ["animal"], "margin": 0.0, "square": False,
    }  # fmt: skip
    assert Crops.from_json(known.to_json()) == known
    assert str(known) == "crops of animal from 0.2, margin 0"
    assert str(Crops(margin=0.5, square=True)) == "crops from 0.2, margin 0.5, square"


@pytest.mark.parametrize(
    "damaged",
    [[], {}, {"confidence": "much"}, {"confidence": 3.0}, {"margin": None}],
    ids=str,
)
def test_damaged_json(damaged: Any) -> None:
    entries = damaged if damaged in ([], {}) else Crops().known.to_json() | damaged
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError, ParameterError)):
        Crops.from_json(entries)


def test_margin_and_shape_are_as_they_were(refused: Callable[..., str]) -> None:
    kept = Crops(margin=0.1, square=True, category=("animal",)).known
    other = following(Crops(segments=FILE, confidence=0.5, group="site"), kept)
    assert other == Crops(
        segments=FILE, group="site", confidence=0.5, margin=0.1, square=True, category=("animal",)
    )
    assert following(Crops(segments=FILE, category=("deer",), margin=0.1), kept) == Crops(
        segments=FILE, confidence=0.2, margin=0.1, square=True, category=("deer",)
    )
    for told in (Crops(segments=FILE, margin=0.0), Crops(segments=FILE, square=False)):
        assert "expected the same" in refused(ParameterError, following, told, kept)


def test_whole_images_are_no_crops(refused: Callable[..., str]) -> None:
    """The other way round, crops that another program has cut may stand for boxes."""
    assert following(None, None) is None
    asked = Crops(segments=FILE)
    assert following(asked, None) is asked
    for given in (None, Crops(margin=0.1)):
        said = refused(ParameterError, following, given, Crops(margin=0.1).known)
        assert "learned from crops from 0.2, margin 0.1, got whole images" in said
        assert "add segments=FILE" in said
