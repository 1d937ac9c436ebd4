"""Samples for a PyTorch module: arrays checked, and what their numbers are meant as."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

import skip2lora as s2
from conformance.torch_networks import REASON
from skip2lora.arrays import Inputs
from skip2lora.errors import DataError

torch = pytest.importorskip("torch", reason=REASON)
from skip2lora.backbones.torch.inputs import (  # noqa: E402
    by_keyword,
    check_array,
    check_inputs,
    converted,
    different,
    extremes,
    made_up,
    readings,
    shapes_of,
    told,
)
from torch_modules import IMAGES, PADDED, TOKENS, Convolutions, Encoder, hooks_of, mlp_like, vectors  # noqa: E402

pytestmark = pytest.mark.usefixtures("torch_generator")


def test_whole_numbers_become_floats_where_the_module_wants_them() -> None:
    backbone = s2.TorchBackbone(Convolutions())
    bytes_ = (IMAGES * 20).astype(np.int8)
    x = backbone.check(bytes_)
    assert x.dtype == np.float32
    assert backbone.check(bytes_.astype(float)).tobytes() == x.tobytes()
    assert s2.TorchBackbone(Encoder()).check(TOKENS.astype(np.int16)).dtype == np.int64


def test_tensors_as_samples() -> None:
    backbone = s2.TorchBackbone(mlp_like())
    x = torch.from_numpy(vectors()).requires_grad_()
    assert backbone.check(x).tobytes() == vectors().tobytes()
    assert backbone.check(x.bfloat16()).dtype == np.float32


def test_several_inputs_in_order() -> None:
    backbone = s2.TorchBackbone(Encoder())
    x = backbone.check((TOKENS, PADDED))
    assert list(x.arrays) == ["ids", "attention_mask"]
    made = backbone.forward(x)
    named = backbone.forward(backbone.check({"attention_mask": PADDED, "ids": TOKENS}))
    assert [a.tobytes() for a in made.taps] == [a.tobytes() for a in named.taps]


Refused = Callable[..., str]


def nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[3, ..., 1] = np.nan
    return x


BAD_IMAGES = {
    "nan": (nan(IMAGES), "X has 30 NaN, infinite or too large values, the first in sample 3"),
    "too big": (IMAGES.astype(np.float64) * 1e39, "too large values, the first in sample 0"),
    "none": (IMAGES[:0], "X has shape (0, 3, 10, 7), expected at least one sample, (samples, ...)"),
    "number": (3.0, "X has shape (), expected at least one sample"),
    "text": (["a", "b"], "X has dtype <U1, expected real numbers: convert it"),
    "ragged": ([[1.0], [1.0, 2.0]], "X cannot become an array"),
    "channels": (IMAGES[:, :2], "X has samples as float32 of shape (2, 10, 7), which Convolutions"),
    "one sample": (IMAGES[0], "X has samples as float32 of shape (10, 7), which Convolu"),
    "too small": (IMAGES[..., :2], "which make 24 numbers at layer first, not 48, expected"),
    "table": ({"x": IMAGES, "y": IMAGES}, "X has input 'y', which Convolutions does not take, exp"),
    "two inputs": ((IMAGES, IMAGES), "X has 2 inputs, Convolutions takes x: pass a mapping by"),
    "nothing": ({}, "X has inputs of different length (nothing), expected as many samples"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_bad_samples(bad: str, refused: Refused) -> None:
    x, said = BAD_IMAGES[bad]
    backbone = s2.TorchBackbone(Convolutions(), example=IMAGES[:1])
    for call in (backbone.check, backbone.logits, backbone.predict):
        message = refused(DataError, call, x)
        assert said in message
        assert ": " in message
    assert hooks_of(backbone.module) == 0
    assert backbone.check(IMAGES).tobytes() == IMAGES.tobytes()


def test_the_shape_that_was_taken_is_told(refused: Refused) -> None:
    fresh, known = (s2.TorchBackbone(Convolutions()) for _ in range(2))
    known.check(IMAGES)
    wrong = np.zeros((2, 5))
    told = "(3, 10, 7) as before: pass samples of that shape and type"
    assert told in refused(DataError, known.check, wrong)
    told = "expected samples the module was trained on: check their shape and type"
    assert told in refused(DataError, fresh.check, wrong)


def test_inputs_of_different_length(refused: Refused) -> None:
    backbone = s2.TorchBackbone(Encoder())
    message = refused(DataError, backbone.check, {"ids": TOKENS, "attention_mask": PADDED[:2]})
    assert "X has inputs of different length (ids 6, attention_mask 2), expected as" in message
    message = refused(DataError, backbone.check, {"ids": TOKENS / 2})
    assert "X has samples as ids float32 of shape (5,), which Encoder cannot take (Expec" in message


def test_types_of_arrays() -> None:
    assert check_array([[True]], "X").dtype == np.bool_
    assert check_array(np.ones((2, 1), np.uint8), "X").dtype == np.int64
    assert check_array(np.ones((2, 1), np.float64), "X").dtype == np.float32
    half = torch.ones(2, 1, dtype=torch.bfloat16)
    assert check_array(half, "X").dtype == np.float32
    own = np.ones((2, 1), np.float32)
    assert check_array(own, "X") is own


def test_masks_by_their_names() -> None:
    """One kind is 1 for what counts, PyTorch's own is True for what does not."""
    hidden = [[0, 1, 1], [0, 0, 1]]
    x = check_inputs({"ids": np.ones((2, 3)), "src_key_padding_mask": hidden})
    assert x.arrays["src_key_padding_mask"].dtype == np.bool_
    y = check_inputs({"ids": np.ones((2, 3)), "attention_mask": hidden})
    assert y.arrays["attention_mask"].dtype == np.int64


def test_shapes_and_a_sample_of_them() -> None:
    """Made-up masks are those by which every token counts."""
    x = check_inputs({"ids": np.ones((4, 7), int), "key_padding_mask": np.zeros((4, 7), bool)})
    shapes = shapes_of(x)
    assert shapes == (("ids", (7,), "i"), ("key_padding_mask", (7,), "b"))
    assert told(shapes) == "ids int64 of shape (7,), key_padding_mask bool of shape (7,)"
    sample = made_up(shapes)
    assert shapes_of(sample) == shapes
    assert len(sample) == 1
    assert sample.arrays["key_padding_mask"].tolist() == [[False] * 7]
    assert made_up((("", (2, 3), "f"),)).shape == (1, 2, 3)


def test_what_numbers_may_be_meant_as() -> None:
    whole = (("ids", (7,), "i"), ("mask", (7,), "b"))
    assert list(readings(whole)) == [{"ids": "i", "mask": "b"}, {"ids": "f", "mask": "f"}]
    assert list(readings((("", (3,), "f"),))) == [{"": "f"}]
    x = check_inputs({"ids": np.ones((4, 7), int)})
    assert converted(x, {"ids": "f"}).arrays["ids"].dtype == np.float32
    assert converted(np.ones((4, 7), int), {"": "b"}).dtype == np.bool_


def test_a_list_of_one_is_an_array_where_one_is_needed(refused: Refused) -> None:
    """Of as many as are needed it is inputs in their order; more than there are is refused."""

    class Two(torch.nn.Module):
        def forward(self, a, b, scale=1.0):
            return a + b * scale

    one, x = mlp_like(), vectors()
    alone, three = [x], [x, x, x]
    assert by_keyword(one, alone) is alone
    assert by_keyword(Two(), [x, x]).keys() == {"a", "b"}
    assert by_keyword(Two(), three) is three  # a list of samples
    assert by_keyword(Two(), (x, x, x)).keys() == {"a", "b", "scale"}
    said = refused(DataError, by_keyword, Two(), (x,) * 4)
    assert "X has 4 inputs, Two takes a, b, scale" in said
    said = refused(DataError, by_keyword, Two(), {"a": x, "c": x, "d": x})
    assert "X has input 'c', which Two does not take, expected a, b, scale" in said


def test_samples_to_look_at_are_the_largest_and_the_smallest() -> None:
    x = np.array([[1, -2], [0.5, 0.1], [3, -9], [7, 7]], np.float32)
    np.testing.assert_array_equal(extremes(x), x[[2, 1]])
    ids = np.array([[5, 6], [900, 7], [1, 2]], np.int64)  # whole numbers are not large or small
    np.testing.assert_array_equal(extremes(ids), ids[[0, 0]])
    both = extremes(Inputs({"ids": ids, "x": x[1:]}))
    assert isinstance(both, Inputs)
    np.testing.assert_array_equal(both.arrays["ids"], ids[[1, 0]])


def test_samples_like_the_last_stand_beside_the_first() -> None:
    pair = np.array([[90, -80, 70], [1, 2, 3]], np.float32)
    drawn = different(pair, 4, varied=True)
    np.testing.assert_array_equal(drawn[0], pair[0])
    assert np.abs(drawn[1:]).max() <= 3
    assert min(np.abs(drawn[a] - drawn[b]).max() for a, b in combinations(range(4), 2)) > 0.05
    np.testing.assert_allclose(drawn[2], drawn[1], atol=0.6)  # another, and much the same
    tokens = np.array([[9, 9, 9, 9], [5, 6, 7, 8]], np.int64)
    assert [sorted(row) for row in different(tokens, 4, varied=True)[1:].tolist()] == [
        [5, 6, 7, 8]
    ] * 3
    np.testing.assert_array_equal(different(pair, 2, varied=True)[0], pair[0])
    alike = different(pair, 4, varied=False)
    np.testing.assert_array_equal(alike, pair[[0] * 4])
    flat = different(np.full((2, 3), 5.0, np.float32), 4, varied=True)  # one number everywhere
    assert (flat[0] == 5).all()
    assert len({row.tobytes() for row in flat}) == 4
