"""Models with a state between calls: a sample is a sequence of calls from a fresh state.

No state passes from one sample to the next, so a sample is a sample like any other: its row is what
the last call gives, or the mean over all calls. A mean of taps goes with the mean of base logits,
so that adapters, which are linear, give the mean of what they give of each call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skip2lora.arrays import Inputs, as_array
from skip2lora.backbones.inputs import InputSpec
from skip2lora.errors import DataError, ModelError

#: Which call's numbers are a sample's: those of the last one, or their mean.
CALLS = ("last", "mean")
#: The metadata in which a file keeps what was said of its states.
STREAM_KEY = "skip2lora.stream"
_Spec = TypeVar("_Spec", bound=InputSpec)
Call = Callable[[Mapping[str, NDArray[Any]], Sequence[str]], list[NDArray[Any]]]


@dataclass(frozen=True)
class Stream:
    """Which outputs of a call are which inputs of the next, and which calls count.

    ``states`` are inputs with the output that each of them is in the next call. ``calls`` is one
    of ``CALLS``. ``hop`` is how much later along its first axis the next call begins, where that is
    less than a call takes: it takes the rest of what was before it, at first zeros.
    """

    states: Mapping[str, str]
    calls: str = CALLS[0]
    hop: int | None = None

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Stream:
        """Of its fields.

        Raises:
            ValueError, TypeError, AttributeError: they are none.
        """
        said = {"states": {}, "calls": CALLS[0], "hop": None, **entries}
        hop = said["hop"]
        if len(said) > 3 or said["calls"] not in CALLS:
            raise ValueError(f"{', '.join({*said} - {'states', 'calls', 'hop'}) or 'calls'}")
        if hop is not None and not (type(hop) is int and hop > 0):
            raise ValueError(f"hop {hop}")
        if not all(isinstance(each, str) for pair in said["states"].items() for each in pair):
            raise TypeError("states")
        return cls(dict(said["states"]), str(said["calls"]), hop)

    def sequences(self, inputs: Sequence[_Spec]) -> tuple[_Spec, ...]:
        """What a sample consists of, of the inputs of a call: (calls, ...), without the states."""
        return tuple(
            replace(spec, shape=(None, *spec.shape), hop=self.hop or (*spec.shape, 1)[0])
            for spec in inputs
            if spec.name not in self.states
        )

    def note(self, shapes: Mapping[str, Sequence[int | None]]) -> str:
        """What a user should know of it; ``shapes`` are those of a sample's inputs of a call."""
        sizes = {name: _text(shape) for name, shape in shapes.items()}
        states = ", ".join(f"{name} ({sizes[name]})" for name in sizes if name in self.states)
        given = ", ".join(sizes[name] for name in sizes if name not in self.states)
        which = "the last call" if self.calls == CALLS[0] else "the mean of all calls"
        given += "" if self.hop is None else f", {self.hop} of them new,"
        return (
            f"state: {states}; a sample is any number of calls of {given} from a fresh state, and "
            f"its row {which}"
        )

    def of_calls(self, rows: NDArray[Any], n_samples: int) -> NDArray[Any]:
        """Rows of samples, of those of all their calls one after the other."""
        each = rows.reshape(n_samples, -1, *rows.shape[1:])
        return each[:, -1] if self.calls == CALLS[0] else each.mean(axis=1, dtype=np.float32)

    def zeros(self, inputs: Sequence[InputSpec]) -> dict[str, NDArray[Any]]:
        """The states of one sample before its first call, as most models begin.

        Raises:
            ModelError: a state is no input.
        """
        strange = set(self.states) - {spec.name for spec in inputs}
        if strange:
            raise ModelError(
                f"state {min(strange)} is no input of the model, expected one of "
                f"{', '.join(spec.name for spec in inputs)}: prepare or export it again"
            )
        return {
            spec.name: np.zeros([size or 0 for size in spec.shape], spec.dtype)
            for spec in inputs
            if spec.name in self.states
        }

    def over(
        self,
        call: Call,
        first: Mapping[str, NDArray[Any]],
        arrays: Mapping[str, NDArray[Any]],
        wanted: Sequence[str],
    ) -> list[NDArray[Any]]:
        """The ``wanted`` values of samples whose ``arrays`` are (samples, calls, ...).

        ``call`` runs the model once; ``first`` are the states of a sample before that.
        """
        n_samples, n_calls = next(iter(arrays.values())).shape[:2]
        states = {name: np.stack([first[name]] * n_samples) for name in self.states}
        sums: list[Any] = []
        for number in range(n_calls):
            given = {name: array[:, number] for name, array in arrays.items()}
            counts = number == n_calls - 1 or self.calls == CALLS[1]
            names = [*(wanted if counts else ()), *self.states.values()]
            values = call({**given, **states}, names)
            states = dict(zip(self.states, values[len(names) - len(self.states) :], strict=True))
            if counts:
                pairs = zip(sums, values, strict=False)  # no sums yet of the first that counts
                sums = [total + more for total, more in pairs] or values[: len(wanted)]
        if self.calls == CALLS[0] or n_calls == 1:
            return sums
        return [values / values.dtype.type(n_calls) for values in sums]


def laid_out(x: Any, sequences: Sequence[InputSpec]) -> Any:
    """Samples with an axis of calls: frames one after the other are cut into those of each call.

    Raises:
        DataError: no whole number of calls, or another number in another input.
    """
    if isinstance(x, Inputs):
        x = x.arrays
    if isinstance(x, Mapping):
        cut = {
            name: _cut(x[name], spec, name)
            for name, spec in ((spec.name, spec) for spec in sequences)
            if name in x
        }
        _check_equal(cut)
        return {**x, **cut}
    if isinstance(x, list | tuple) and len(x) == len(sequences) > 1:
        parts = {of.name: _cut(each, of, of.name) for each, of in zip(x, sequences, strict=True)}
        _check_equal(parts)
        return list(parts.values())
    return _cut(x, sequences[0], "X") if len(sequences) == 1 else x


def _cut(values: Any, spec: InputSpec, name: str) -> Any:
    try:
        array = as_array(values)
    except (ValueError, RuntimeError):  # of different lengths, which the check says
        return values
    sizes = [int(size) for size in spec.shape[1:] if size is not None]
    hop = spec.hop or (*sizes, 1)[0]
    if not sizes or array.ndim < 2 or array.ndim == len(sizes) + 2:
        return array
    first = hop * math.prod(sizes[1:]) if array.ndim == 2 else hop
    if array.ndim not in (2, len(sizes) + 1) or list(array.shape[2:]) not in ([], sizes[1:]):
        return array
    if array.shape[1] % first or not array.shape[1]:
        raise DataError(
            f"{name} has {array.shape[1]} along the second axis, the model takes {first} a call, "
            f"expected a whole number of calls: cut or fill up the rest of {array.shape[1] % first}"
        )
    if hop == sizes[0]:
        return array.reshape(len(array), -1, *sizes)
    array = array.reshape(len(array), -1, *sizes[1:])
    before = np.zeros((len(array), sizes[0] - hop, *sizes[1:]), array.dtype)
    starts = np.arange(0, array.shape[1], hop)[:, None]
    return np.concatenate([before, array], axis=1)[:, starts + np.arange(sizes[0])]


def _check_equal(arrays: Mapping[str, Any]) -> None:
    counts = {name: array.shape[1] for name, array in arrays.items() if np.ndim(array) > 1}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise DataError(
            f"the inputs have different numbers of calls ({listed}), expected one: pass equal ones"
        )


def _text(shape: Sequence[int | None]) -> str:
    return " x ".join(map(str, shape)) or "1"
