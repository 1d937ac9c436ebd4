"""Which input of a model says which tokens count, by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Keywords of PyTorch's modules and of those built from them, first come first: what a mask of that
#: name holds where a token counts, 1, or 0 where true marks padding.
KEYWORDS = {
    "attention_mask": 1,
    "src_key_padding_mask": 0,
    "key_padding_mask": 0,
    "padding_mask": 0,
}


def counting_value(name: str) -> int:
    """What an input of that name holds where all tokens count; 1 is also a valid token."""
    return KEYWORDS.get(name, 1)


def keyword_mask(n_axes: Mapping[str, int]) -> str | None:
    """The mask among a module's inputs, given by keyword with the number of axes of a sample."""
    return next((name for name in KEYWORDS if n_axes.get(name) == 1), None)


def graph_mask(inputs: Sequence[tuple[str, int]]) -> int | None:
    """The place of the mask among a graph's inputs, each its names and the axes of a sample.

    An exported graph has one that is 1 where a token counts, under a name of the exporter's with
    "mask" in it. The only input is none.
    """
    places = (
        at for at, (name, n_axes) in enumerate(inputs) if n_axes == 1 and "mask" in name.lower()
    )
    return next(places, None) if len(inputs) > 1 else None
