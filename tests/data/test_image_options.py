"""How images become numbers: what is told as text, and as JSON."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from skip2lora.backbones.inputs import InputSpec
from skip2lora.data.crop_options import Crops
from skip2lora.data.image_layout import Layout
from skip2lora.data.image_options import Images, find_size
from skip2lora.errors import ParameterError


def test_parse() -> None:
    assert Images.parse(None, None, None) == Images()
    assert not Images.parse(None, None, None).asked
    imagenet = Images.parse("224", "imagenet", None)
    assert imagenet.size == (224, 224)
    assert imagenet.mean == (0.485, 0.456, 0.406)
    assert imagenet.std == (0.229, 0.224, 0.225)
    assert Images.parse("8x9", "imagenet", "1").std == (1.0,)
    assert Images.parse("8x9", "0.5", "1/255, 1,2").std == (1 / 255, 1.0, 2.0)


@pytest.mark.parametrize(
    "words",
    [("0",), ("12x",), ("-4",), ("big",), ("4x4x4",), ("99999",), ("4.5",), (None, "a"),
     (None, "1,2"), (None, None, "0"), (None, None, "1/0"), (None, "nan"), (None, None, "-1"),
     ("9" * 5000,), (None, "1e999999999"), (None, "inf"), (None, None, "1,nan,1")],
    ids=lambda words: str(words)[:20],
)  # fmt: skip
def test_parse_refuses(words: tuple[str | None, ...]) -> None:
    size, mean, std = (*words, None, None)[:3]
    with pytest.raises(ParameterError, match="expected"):
        Images.parse(size, mean, std)


TOLD = Images(size=(4, 6), mean=(0.1, 0.2, 0.3), std=(0.5,), axes="chw")


def test_json_round_trip() -> None:
    assert TOLD.to_json() == {
        "size": [4, 6], "mean": [0.1, 0.2, 0.3], "std": [0.5], "layout": "chw",
    }  # fmt: skip
    assert Images.from_json(TOLD.to_json()) == TOLD
    assert Images().to_json() == {}
    assert Images.from_json({}) == Images()
    assert str(TOLD) == "size 4x6, mean 0.1,0.2,0.3, std 0.5, layout chw"


@pytest.mark.parametrize(
    "damaged", [{"size": [4]}, {"size": 4}, {"mean": ["a"]}, {"std": [math.nan]}], ids=str
)
def test_damaged_json(damaged: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Images.from_json(damaged)


def test_defaults() -> None:
    assert Images().scale == ((0.0,), (1.0,))
    assert not Images(mean=(0.0,), std=(1.0,)).scaled
    assert Images(std=(2.0,)).scaled
    assert Images(size=(4, 6)).asked
    assert Images(std=(2.0,)).resolved([InputSpec("x", (4, 6, 3), "float32")]) == Images(
        size=(4, 6), mean=(0.0,), std=(2.0,), axes="hwc"
    )


def test_what_was_kept_is_followed() -> None:
    assert Images(size=(4, 6)).following(None) == Images(size=(4, 6))
    assert Images().following(TOLD) is TOLD
    # one number stands for all channels
    assert Images(size=(4, 6), std=(0.5, 0.5, 0.5)).following(TOLD) is TOLD


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (Images(size=(6, 4)), "size=? is 6x4, .* 4x6"),
        (Images(mean=(0.1,)), "mean=? is 0.1, .* 0.1,0.2,0.3"),
        (Images(std=(0.5, 0.5, 0.6)), "std=? is 0.5,0.5,0.6, .* with 0.5,"),
    ],
    ids=["size", "mean", "std"],
)
def test_another_than_was_kept_is_refused(told: Images, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        told.following(TOLD)


def test_size_is_the_models_or_the_one_asked_for() -> None:
    assert find_size(Images(), Layout("chw", 4, 6, 3)) == (4, 6)
    assert find_size(Images(size=(5, 7)), Layout("chw", None, None, 3)) == (5, 7)
    assert find_size(Images(size=(5, 7)), Layout("flat", n_features=35)) == (5, 7)


@pytest.mark.parametrize(
    ("images", "layout", "message"),
    [
        (Images(), Layout("chw", None, 6, 3), "takes images of any size"),
        (Images(), Layout("flat"), "takes rows:"),
        (Images(), Layout("flat", n_features=30), "takes rows of 30 numbers"),
        (Images(size=(4, 7)), Layout("chw", 4, 6, 3), "size=? is 4x7, the model takes 4x6"),
        (Images(size=(5, 6)), Layout("chw", 4, None, 3), "size=? is 5x6, the model takes 4xany"),
    ],
    ids=["open", "rows", "wide rows", "width", "height"],
)
def test_sizes_that_do_not_fit(images: Images, layout: Layout, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        find_size(images, layout)


def test_crops_are_kept_and_followed() -> None:
    asked = Images.parse("4x6", None, None, segments=Path("boxes.json"), margin=0.1, category="a,b")
    assert asked.asked
    kept = asked.resolved([InputSpec("x", (4, 6), "float32")])
    assert kept.crops == Crops(confidence=0.2, category=("a", "b"), margin=0.1, square=False)
    assert Images.from_json(kept.to_json()) == kept
    assert str(kept).endswith("layout hw, crops of a, b from 0.2, margin 0.1")
    other = Images(crops=Crops(segments=Path("other.json")))
    again = other.following(kept)
    assert (again.size, again.mean) == (kept.size, kept.mean)
    assert again.crops == Crops(
        segments=Path("other.json"), confidence=0.2, category=("a", "b"), margin=0.1, square=False
    )
    assert other.following(TOLD).crops is other.crops  # crops that others have cut
    with pytest.raises(ParameterError, match="add segments=FILE"):
        Images().following(kept)


def test_bits_are_8_to_16() -> None:
    for bits in (8, 12, 16):
        images = Images.from_json({"size": [4, 6], "bits": bits, "layout": "hw"})
        assert (images.bits, images.to_json()["bits"]) == (bits, bits)
        said = "size 4x6, mean none, std none, layout hw"
        assert str(images) == f"{said}, {bits} of 16 bits"
        assert images.resolved([InputSpec("x", (4, 6), "float32")]).bits == bits
    for bits in (7, 17, "9"):
        with pytest.raises(ValueError, match="images"):
            Images.from_json({"bits": bits})


def test_sizes_up_to_the_most_pixels() -> None:
    assert Images.parse("1", None, None).size == (1, 1)
    assert Images.parse("16384X1", None, None).size == (16384, 1)
    for text in ("16385", "1x16385", "000000001x0"):
        with pytest.raises(ParameterError, match="expected pixels from 1 to 16384"):
            Images.parse(text, None, None)


def test_every_is_kept_and_may_be_another() -> None:
    kept = Images.parse("4x6", None, None, 0.5).resolved([InputSpec("x", (4, 6), "float32")])
    assert kept.every == 0.5
    assert Images.from_json(kept.to_json()) == kept
    assert str(kept).endswith("layout hw, frames every 0.5 s")
    assert Images().following(kept) is kept
    assert Images(every=2.0).following(kept).every == 2.0
    assert Images(every=2.0).following(TOLD).every == 2.0
    for every in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ParameterError, match="expected seconds from 0"):
            Images.parse(None, None, None, every)
        with pytest.raises(ParameterError, match="every="):
            Images.from_json({"every": every})
