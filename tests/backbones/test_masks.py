"""Which input says which tokens count."""

from __future__ import annotations

import pytest

from skip2lora.backbones.masks import counting_value, graph_mask, keyword_mask


@pytest.mark.parametrize(
    ("inputs", "place"),
    [
        ([("ids", 1), ("attention_mask", 1)], 1),
        ([("Attention_Mask:0 mask", 1), ("ids", 1)], 0),
        ([("ids", 1), ("mask", 2), ("my_mask", 1)], 2),  # one axis of tokens
        ([("masked_ids", 1)], None),  # the only input says nothing of another
        ([("ids", 1), ("types", 1)], None),
    ],
)
def test_mask_of_a_graph(inputs: list[tuple[str, int]], place: int | None) -> None:
    assert graph_mask(inputs) == place


def test_mask_by_keyword() -> None:
    assert keyword_mask({"ids": 1, "padding_mask": 1, "attention_mask": 1}) == "attention_mask"
    assert keyword_mask({"ids": 1, "attention_mask": 2, "padding_mask": 1}) == "padding_mask"
    assert keyword_mask({"ids": 1, "mask": 1}) is None


def test_values_by_which_all_tokens_count() -> None:
    names = ("ids", "attention_mask", "padding_mask", "key_padding_mask", "src_key_padding_mask")
    assert [counting_value(name) for name in names] == [1, 1, 0, 0, 0]
