"""Which tokens of a sequence count: the input that says so, and what its numbers mean.

Exporters and people disagree: Hugging Face masks hold 1 where a token counts, PyTorch's padding
masks where there is none, additive masks are 0 or very negative, others are lengths. So a model is
asked, by running it: what stands under padding changes none of its answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.backbones.inputs import NO_MASK, InputSpec
from skip2lora.errors import DataError, ModelError, ParameterError

if TYPE_CHECKING:
    from skip2lora.backbones.base import Backbone

#: What the numbers of a mask may mean.
MEANINGS = {
    "tokens": "1 or true where a token counts",
    "padding": "1 or true where there is padding",
    "additive": "0 where a token counts, very negative where there is padding",
    "lengths": "the number of tokens that count, from the first on",
}
#: What padding adds to attention, the least of float16; above what an additive mask counts a token.
_MINUS, COUNTING = -65504.0, -1.0
_SUGGESTS = re.compile(r"mask|pad|valid|(^|[\W_])lens?($|[\W_])|length|(n|num)_tokens", re.I)
_COUNTS = re.compile(r"(^|[\W_])lens?($|[\W_])|length|(n|num)_tokens", re.I)
#: Sequences of other meaning, which are not tried.
_OTHER = re.compile(r"(?<!val)ids?($|[\W_])|type|segment|position|value|feature|pixel|embed", re.I)
#: Whole numbers that are few, and say nothing by themselves.
_STEADY = re.compile(r"type|segment|position", re.I)
_MOST_TRIED, _MOST_READ = 2, 3
_TOKENS = (12, 96)  # tried where their number is open
# Of the largest answer: what is an effect; and what padding may have of that of tokens.
_EFFECT, _NOTHING = 1e-5, 1e-3


@dataclass(frozen=True)
class Mask:
    """The input ``name`` says which tokens of the input ``of`` count, as ``meaning`` says."""

    name: str
    meaning: str
    of: str

    def __str__(self) -> str:
        return f"{self.name}={self.meaning}"

    def counts(self, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """1 for the tokens that count, else 0: (samples, tokens)."""
        given = arrays[self.name]
        flat = given.reshape(len(given), -1)
        if self.meaning == "lengths":
            counting = np.arange(arrays[self.of].shape[1]) < flat
        elif self.meaning == "additive":
            counting = flat > COUNTING
        else:
            counting = (flat != 0) == (self.meaning == "tokens")
        return counting.astype(np.float32)


def candidates(inputs: Sequence[InputSpec]) -> list[str]:
    """Inputs that may be masks by their shape, those whose name says so first."""
    names = [spec.name for spec in inputs if _may_mask(spec, inputs)]
    return sorted(names, key=lambda name: _SUGGESTS.search(name) is None)


def _may_mask(spec: InputSpec, inputs: Sequence[InputSpec]) -> bool:
    """Whether it has one number a token, or one a sample, of another input's tokens."""
    others = [each for each in inputs if each is not spec and each.shape]
    *ones, tokens = spec.shape or (1,)
    if not others or any(size != 1 for size in ones):
        return False
    if tokens == 1:
        counts = not spec.reals and not _OTHER.search(spec.title)
        return counts or _COUNTS.search(spec.title) is not None
    if _SUGGESTS.search(spec.title):
        return True
    if _OTHER.search(spec.title):
        return False
    return tokens is None or any(tokens in each.shape for each in others)


def mask_of(text: str | None, inputs: Sequence[InputSpec], path: object) -> Mask | None:
    """The mask that a text such as ``attention_mask=tokens`` says; None for ``none``.

    The name may be left out where one input alone may be meant. Without a text the name tells.

    Raises:
        ParameterError: no such input or meaning, or it is not said which input.
    """
    names = candidates(inputs)
    if text is None:
        name = next((each for each in names if _SUGGESTS.search(_title(each, inputs))), None)
        if name is None:
            return None
        return _mask(name, _usual(name, inputs) or "tokens", inputs)
    if text == NO_MASK:
        return None
    name, _, meaning = text.rpartition("=")
    known = {spec.name: spec.name for spec in inputs} | {spec.title: spec.name for spec in inputs}
    if meaning not in MEANINGS or (name and name not in known):
        raise ParameterError(
            f"mask is {text!r} for {path}, expected none, {', '.join(MEANINGS)}, or one of the "
            f"inputs {', '.join(spec.name for spec in inputs)} before it, as in NAME=padding: "
            "choose one"
        )
    if name:
        return _mask(known[name], meaning, inputs)
    suggested = [each for each in names if _SUGGESTS.search(_title(each, inputs))] or names
    if len(suggested) != 1:
        raise ParameterError(
            f"mask is {text!r} for {path}, in which {len(suggested)} inputs may be one "
            f"({', '.join(suggested) or 'none'}), expected the name of the input before it: give "
            f"mask='NAME={text}'"
        )
    return _mask(suggested[0], meaning, inputs)


def _title(name: str, inputs: Sequence[InputSpec]) -> str:
    return next(spec.title for spec in inputs if spec.name == name)


def _mask(name: str, meaning: str, inputs: Sequence[InputSpec]) -> Mask:
    of = next(spec.name for spec in inputs if spec.name != name and spec.shape)
    return Mask(name, meaning, of)


def by_name(title: str) -> str | None:
    """What a mask of a usual name means, None for a name that people use either way."""
    name = title.lower()
    if "padding_mask" in name:
        return "padding"
    if "attention_mask" in name or "input_mask" in name:
        return "tokens"
    return "lengths" if _COUNTS.search(name) else None


def _usual(name: str, inputs: Sequence[InputSpec]) -> str | None:
    """What a mask means by its name and shape: one number a sample says how many, no other does."""
    spec = next(each for each in inputs if each.name == name)
    if (spec.shape or (1,))[-1] == 1:
        return "lengths"
    meaning = by_name(spec.title)
    return None if meaning == "lengths" else meaning


def find_mask(
    model: Backbone,
    inputs: Sequence[InputSpec] | None = None,
    sample: Mapping[str, NDArray[Any]] | None = None,
) -> str | None:
    """The mask of a model as text, found out by running it; None where none can matter.

    It runs on ``sample``, (1, ...) an input, or on made-up ones; ``inputs`` are the model's.

    Raises:
        ParameterError: its name says that an input is a mask, but nothing what it means; or two
            inputs are masks.
    """
    inputs = model.inputs if inputs is None else inputs
    names = candidates(inputs)
    if not names or all(tap.kind != "sequence" for tap in model.tappable):
        return None
    tried = [(name, probed(model, name, inputs, sample)) for name in names[:_MOST_TRIED]]
    masks = [f"{name}={meaning}" for name, meaning in tried if meaning is not None]
    if len(masks) > 1:
        raise ParameterError(
            f"inputs {tried[0][0]} and {tried[1][0]} of {model.path or type(model).__name__} both "
            f"say which tokens count, expected one of them to go by: choose mask='{masks[0]}' or "
            f"mask='{masks[1]}'"
        )
    if masks:
        return masks[0]
    if not _SUGGESTS.search(_title(names[0], inputs)):
        return NO_MASK
    meaning = _usual(names[0], inputs)
    if meaning is None:
        raise ParameterError(
            f"input {names[0]} of {model.path or type(model).__name__} may say which tokens count, "
            "but neither its name nor running the model tells what its numbers mean, expected it "
            f"to be told: choose mask='tokens' ({MEANINGS['tokens']}), mask='padding', "
            "mask='additive', mask='lengths' or mask='none'"
        )
    return f"{names[0]}={meaning}"


# --- asking a model -------------------------------------------------------------------------


def probed(
    model: Backbone,
    name: str,
    inputs: Sequence[InputSpec],
    sample: Mapping[str, NDArray[Any]] | None = None,
) -> str | None:
    """What the input ``name`` means by what it hides; None where running does not tell."""
    spec = next(each for each in inputs if each.name == name)
    # 0 may be padding, 2 no token at all.
    samples = (_sample(inputs, tokens, least) for tokens, least in product(_TOKENS, (1, 0)))
    for base in samples if sample is None else (sample,):
        try:
            return judged(model, spec, base)
        except (DataError, ModelError):
            continue
    return None


def _sample(inputs: Sequence[InputSpec], tokens: int, lowest: int) -> dict[str, NDArray[Any]]:
    """One sample of noise, and of tokens ``lowest`` and the next."""
    random = np.random.Generator(np.random.PCG64(0))
    arrays: dict[str, NDArray[Any]] = {}
    for spec in inputs:
        shape = (1, *(size or tokens for size in spec.shape))
        if spec.reals:
            arrays[spec.name] = random.random(shape, np.float32)
        elif _STEADY.search(spec.title):
            arrays[spec.name] = np.zeros(shape, np.int64)
        else:
            arrays[spec.name] = random.integers(lowest, lowest + 2, shape)
    return arrays


def judged(model: Backbone, spec: InputSpec, base: Mapping[str, NDArray[Any]]) -> str | None:
    """What an input means by how the answers change when half of the others' tokens do.

    ``base`` is one sample. One run of six samples tells, or ten of two inputs with tokens, and
    twice as many for an input of real numbers.

    Raises:
        DataError, ModelError: the model cannot take such samples.
    """
    name, lengths = spec.name, base[spec.name].size == 1
    of = next(key for key, array in base.items() if key != name and array.ndim > 1)
    n_tokens = base[of].shape[1] if lengths else base[name].size
    halves = np.arange(n_tokens) < n_tokens // 2, np.arange(n_tokens) >= n_tokens // 2
    patterns: list[NDArray[Any]] = [halves[0], halves[1]]
    if lengths:
        patterns = [np.array([n_tokens // 2]), np.array([n_tokens])]
    elif spec.reals:
        patterns += [np.where(half, _MINUS, 0.0) for half in halves]
    read = [key for key in base if key != name and _changes(key, base[key], n_tokens)]
    changes = [(None, halves[0]), *((key, half) for key in read[:_MOST_READ] for half in halves)]
    arrays = {
        key: np.concatenate([
            pattern.reshape(array.shape).astype(array.dtype) if key == name
            else _changed(array, half) if key == other else array
            for pattern in patterns
            for other, half in changes
        ])
        for key, array in base.items()
    }  # fmt: skip
    answers = _answers(model, arrays)
    blocks = np.split(answers, len(patterns))
    seen = set()
    for at in range(1, len(changes), 2):  # the two halves of each that is read
        effects = [_effects(block[0], block[at], block[at + 1]) for block in blocks]
        seen.add(_meaning(effects, lengths=lengths, first=model.n_outputs > 0))
    seen.discard(None)
    return seen.pop() if len(seen) == 1 else None


def _changes(name: str, sample: NDArray[Any], n_tokens: int) -> bool:
    """Whether it has tokens to be changed."""
    return n_tokens in sample.shape[1:] and not _STEADY.search(name)


def _changed(sample: NDArray[Any], half: NDArray[np.bool_]) -> NDArray[Any]:
    """A sample, (1, ...), with other tokens in one half of the axis that is as long as it."""
    axis = sample.shape.index(len(half), 1)
    places = half.reshape([-1 if at == axis else 1 for at in range(sample.ndim)])
    if sample.dtype.kind == "f":
        return np.where(places, 1 - sample, sample)
    # One token for all: others in another order would leave a mean as it is.
    tokens = np.unique(sample)
    counts = [int(((sample == token) & places).sum()) for token in tokens]
    return np.where(places, tokens[int(np.argmin(counts))], sample)


def _answers(model: Backbone, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """What the model says of each sample: its logits, or of an encoder the first token's vector."""
    rows = model.forward(model.check(dict(arrays)))
    if model.n_outputs:
        return rows.base_logits
    width = rows.taps[-1].shape[1]
    return rows.taps[-1][:, width // 2 if model.taps[-1].kind == "sequence" else 0 :]


def _effects(same: Any, *changed: Any) -> tuple[float, ...]:
    """By how much the answers change with the first half, and with the second, as shares."""
    largest = max(float(np.abs(same).max()), 1e-30)
    return tuple(float(np.abs(each - same).max()) / largest for each in changed)


def _meaning(effects: Sequence[tuple[float, ...]], *, lengths: bool, first: bool) -> str | None:
    """The one meaning by which a half is hidden; ``first`` says whether the first half tells.

    The first token of an encoder says something of itself whether it counts or not.
    """
    if lengths:
        return "lengths" if _hidden(effects[0][1], effects[1][1]) else None
    seen = set()
    for half in (0, 1) if first else (1,):
        ones, zeros = effects[half][half], effects[1 - half][half]
        if _hidden(zeros, ones):
            seen.add("tokens")
        elif _hidden(ones, zeros):
            seen.add("padding")
        elif len(effects) > 2 and _hidden(effects[2 + half][half], effects[3 - half][half]):
            seen.add("additive")
    return seen.pop() if len(seen) == 1 else None


def _hidden(padding: float, tokens: float) -> bool:
    """Whether what stands in padding changes nothing, and what stands in tokens does."""
    return tokens > _EFFECT and padding <= _NOTHING * tokens
