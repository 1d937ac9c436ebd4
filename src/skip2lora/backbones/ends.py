"""From an output of a model back to its logits, by one rule for every runtime.

A runtime says of each tensor what makes it (:class:`Op`). Only what can be undone is walked:
shapes, rounding, and functions of one number behind a softmax or sigmoid that keep all it says, as
percent do, 1 - p beside p, a logarithm, the largest, a threshold at 0.5. Whatever else is made of
probabilities has no logits, and its reason is said.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skip2lora.tasks.task import are_shares, softmax

Array = NDArray[Any]
Each = Callable[[Array], Array]

#: What an operator does, as far as logits are concerned: the same numbers in another shape or type;
#: a function of each number; activations; places of the largest; several tensors side by side;
#: weights (a layer); numbers that only grow with the logits; what cannot be undone; anything else.
SAME, EACH, SOFTMAX, SIGMOID, LARGEST, JOIN, LAYER, NUMBERS, CLOSED, OTHER = range(10)

MOST_STEPS = 64  # that are walked back over
_GRID = np.linspace(0.0, 1.0, 1002)  # without 0.5, where thresholds differ
_LOGITS = np.linspace(-20.0, 20.0, 1002)
_CLOSE = 1e-4
#: Logits of two classes whose probabilities are 1 - p and p, from the logit of p.
PAIR = np.array([[-0.5, 0.5]], np.float32)


@dataclass(frozen=True, eq=False)
class Op:
    """What makes a tensor: ``inputs`` are those of its tensors that depend on the samples.

    ``apply`` is the function of each number, for EACH; of an activation it is applied behind it.
    ``title`` names the operator to a person; ``nodes`` are the runtime's own. ``factor`` is what a
    softmax multiplies its input by. ``rounds`` says that numbers become a few levels.
    """

    kind: int
    inputs: tuple[Hashable, ...] = ()
    title: str = ""
    apply: Each | None = None
    nodes: tuple[Any, ...] = ()
    factor: float = 1.0
    rounds: bool = False


OpOf = Callable[[Any], Op | None]

#: What runtimes call functions of one number, and of two, in small letters without "_".
_ONE: dict[str, tuple[int, Each | None]] = {name: (kind, apply) for kind, apply, names in (
    (SOFTMAX, None, "softmax"), (SOFTMAX, np.log, "logsoftmax"),
    (SIGMOID, None, "sigmoid logistic"), (SIGMOID, np.log, "logsigmoidforward"),
    (EACH, np.log, "log"), (EACH, np.exp, "exp"), (EACH, np.negative, "neg negative"),
    (EACH, np.round, "round"), (EACH, np.floor, "floor"), (EACH, np.ceil, "ceil ceiling"),
    (EACH, np.abs, "abs"), (EACH, np.sqrt, "sqrt"), (EACH, np.reciprocal, "reciprocal"),
    (EACH, np.tanh, "tanh"), (EACH, np.sign, "sign"), (EACH, np.logical_not, "not logicalnot"),
    (EACH, lambda x: np.maximum(x, 0), "relu"), (EACH, lambda x: np.clip(x, 0, 6), "relu6"),
    (EACH, lambda x: np.clip(x, 0, 1), "relu0to1"),
) for name in names.split()}  # fmt: skip
_TWO: dict[str, Any] = {name: apply for apply, names in (
    (np.add, "add"), (np.subtract, "sub subtract"), (np.multiply, "mul multiply"),
    (np.divide, "div divide"), (np.power, "pow power"), (np.maximum, "max maximum"),
    (np.minimum, "min minimum"), (np.greater, "greater gt"), (np.less, "less lt"),
    (np.greater_equal, "greaterorequal greaterequal ge"), (np.equal, "equal eq"),
    (np.less_equal, "lessorequal lessequal le"), (lambda a, b: b - a, "rsub"),
) for name in names.split()}  # fmt: skip


def of_one(name: str, op: Op) -> Op | None:
    """``op`` as the activation or function that a runtime calls ``name``; None where none."""
    known = _ONE.get(_bare(name))
    return None if known is None else replace(op, kind=known[0], apply=known[1])


def takes_two(name: str) -> bool:
    """Whether a runtime calls a function of two numbers so."""
    return _bare(name) in _TWO


def of_two(name: str, op: Op, constant: float, at: int = 0) -> Op:
    """``op`` as the function ``name`` of a tensor, operand ``at`` (0 or 1), and ``constant``."""
    function = _TWO[_bare(name)]

    def apply(values: Array) -> Any:
        return function(constant, values) if at else function(values, constant)

    return replace(op, kind=EACH, apply=apply)


def cast(op: Op, *, to_truth: bool, to_whole: bool) -> Op:
    """``op`` as a change of type: to truths, of fractions to whole numbers, or of none."""
    if to_truth:
        return replace(op, kind=EACH, apply=lambda values: values != 0)
    return replace(op, kind=EACH, apply=np.trunc) if to_whole else replace(op, kind=SAME)


def _bare(name: str) -> str:
    return name.replace("_", "").lower()


@dataclass(frozen=True, eq=False)
class End:
    """What stands between an output and its logits.

    ``logits`` is the tensor of the logits, ``ending`` one of
    :data:`skip2lora.backbones.outputs.ENDINGS`, with its ``reason`` where there are no logits.
    ``pair`` says that the output has 1 - p and p of each sigmoid p side by side, ``sign`` is -1
    where it is turned, and the logits are the tensor's numbers times ``factor``. ``ops`` lead from
    the logits to the output, in that order, and ``says`` does what they do; a pickle has neither.
    """

    logits: Any
    ending: str
    reason: str = ""
    pair: bool = False
    sign: int = 1
    factor: float = 1.0
    ops: tuple[Op, ...] = ()
    says: Callable[[Array], Array] | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        about = (self.logits, self.ending, self.reason, self.pair, self.sign, self.factor)
        return End, about

    @property
    def nodes(self) -> tuple[Any, ...]:
        """The runtime's nodes from the logits to the output."""
        return tuple(node for op in self.ops for node in op.nodes)

    @property
    def bare(self) -> bool:
        """Whether it is the label of the largest logit, with no activation between."""
        return bool(self.ops) and self.ops[0].kind == LARGEST

    def refuted(self) -> End:
        """The end of an output that on samples was not what follows from the logits."""
        if self.reason:
            return self
        known = self.ending != "unknown"
        reason = f"not what follows from its {self.ending}" if known else "shares of no logits"
        return End(self.logits, "probabilities", reason)

    def columns(self, width: int) -> NDArray[np.float32] | None:
        """What the numbers of the logits, (samples, width), are multiplied by; None for nothing.

        (width, n_outputs); one sigmoid of a pair makes two outputs.
        """
        if self.pair and width == 1:
            return np.float32(self.sign * self.factor) * PAIR
        factor = np.float32(self.factor * (1 if self.pair else self.sign))
        return None if factor == 1 else factor * np.eye(width, dtype=np.float32)

    def rows(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits, (samples, n_outputs), from the tensor's numbers, (samples, width)."""
        if self.pair and numbers.shape[1] == 1:
            numbers = numbers * PAIR
        elif self.pair or self.sign * self.factor == 1:
            return numbers if self.factor == 1 else numbers * np.float32(self.factor)
        return numbers * np.float32(self.sign * self.factor)

    def agrees(self, logits: Array, said: Array, near: float = 2e-3) -> bool:
        """Whether the output ``said`` is what follows from its ``logits``, (samples, width).

        Labels must be the same where the largest logits are at the same place. Nothing follows from
        logits that are not finite, or are shares. ``near`` is what types of few bits round.
        """
        if self.says is None:
            return self.ending != "unknown" or not are_shares(logits)
        finite = np.isfinite(logits).all(axis=1)
        if not finite.any():
            return True
        logits, said = logits[finite], np.asarray(said).reshape(len(logits), -1)[finite]
        expected = self.says(logits.astype(np.float64) * self.factor)
        if expected.ndim == 1:
            return _same_groups(expected, said[:, 0])
        if said.shape != expected.shape or said.dtype.kind not in "fiub":
            return False
        near = 0.02 if any(op.rounds for op in self.ops) else near
        size = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)))
        apart = np.abs(said.astype(np.float64) - expected)
        if expected.dtype.kind == "b":  # a number at the threshold may be rounded over it
            return bool(apart.mean() < near * 10)
        return bool((apart[np.isfinite(expected)] <= near * size).all())


def _same_groups(places: Array, labels: Array) -> bool:
    """Whether each place has one label, and each label one place; ties may break once."""
    pairs = {(int(place), str(label)) for place, label in zip(places, labels, strict=True)}
    return len({place for place, _ in pairs}) == len(pairs) == len({label for _, label in pairs})


def end_of(output: Any, op_of: OpOf) -> End:
    """Walk back from ``output``; itself is the logits where nothing is undone."""
    ops: list[Op] = []
    parts: tuple[Each, Each] | None = None
    tensor: Any = output
    while len(ops) < MOST_STEPS and (op := op_of(tensor)) is not None:
        if op.kind == JOIN and parts is None:
            joined = _joined(op, op_of)
            if joined is None:
                break
            tensor, parts, op = joined
        elif op.kind in (SAME, EACH, LARGEST, SOFTMAX, SIGMOID):
            tensor = op.inputs[0]
        else:
            break
        ops.append(op)
        if op.kind in (SOFTMAX, SIGMOID):
            return _activated(output, tensor, ops[::-1], parts)
    reason = _made_of(output, op_of)
    if reason is not None:
        return End(output, "probabilities", reason=_undone(reason))
    return _plain(output, tensor, ops[::-1], op_of(tensor))


def _undone(title: str) -> str:
    return f"made of probabilities by {title}, which cannot be undone"


def _joined(op: Op, op_of: OpOf) -> tuple[Any, tuple[Each, Each], Op] | None:
    """The one tensor that two tensors side by side are functions of, and these functions."""
    if len(op.inputs) != 2:
        return None
    one, other = (_trail(tensor, op_of) for tensor in op.inputs)
    for tensor, (first, ops) in one.items():
        same = next((each for each in other if _equal(tensor, each, op_of)), None)
        if same is not None:
            second, others = other[same]
            nodes = {id(n): n for each in (*others, *ops, op) for n in each.nodes}
            return tensor, (first, second), Op(JOIN, (), op.title, nodes=tuple(nodes.values()))
    return None


def _equal(tensor: Any, other: Any, op_of: OpOf) -> bool:
    """Whether two tensors are one, or the sigmoids of one."""
    if tensor == other:
        return True
    one, two = op_of(tensor), op_of(other)
    return (
        one is not None
        and two is not None
        and (one.kind == two.kind == SIGMOID and one.inputs == two.inputs)
    )


def _trail(tensor: Any, op_of: OpOf) -> dict[Any, tuple[Each, list[Op]]]:
    """Tensors that ``tensor`` is a function of, number by number, with the function."""
    function: Each = _same
    trail: dict[Any, tuple[Each, list[Op]]] = {tensor: (function, [])}
    ops: list[Op] = []
    while len(ops) < MOST_STEPS:
        op = op_of(tensor)
        if op is None or op.kind not in (SAME, EACH):
            break
        tensor, function, ops = op.inputs[0], _after(op, function), [op, *ops]
        trail[tensor] = (function, ops)
    return trail


def _same(values: Array) -> Array:
    return values


def _after(op: Op, then: Each) -> Each:
    apply = op.apply
    return then if apply is None else lambda values: then(apply(values))


def _activated(output: Any, logits: Any, ops: list[Op], parts: tuple[Each, Each] | None) -> End:
    """The end behind a softmax or sigmoid, the first of ``ops``, if what follows can be undone."""
    sigmoid = ops[0].kind == SIGMOID
    ending = "sigmoid" if sigmoid else "softmax"
    if parts is None:
        sign = _meaning(ops, sigmoid=sigmoid)
        if sign:
            return End(
                logits, ending, sign=sign, factor=ops[0].factor, ops=tuple(ops),
                says=_says(ops, None, sigmoid),
            )  # fmt: skip
    elif sigmoid:
        sign = _pair_sign(ops, parts)
        if sign:
            return End(
                logits, "pair", pair=True, sign=sign, factor=ops[0].factor, ops=tuple(ops),
                says=_says(ops, parts, sigmoid),
            )  # fmt: skip
    last = next((op for op in ops[:0:-1] if op.kind != SAME), ops[0])
    return End(output, "probabilities", reason=_undone(last.title))


def _meaning(ops: list[Op], *, sigmoid: bool) -> int:
    """1 where functions behind an activation say the same, -1 turned, 0 anything else."""
    before: list[Op] = []
    for op in ops:
        if op.kind == LARGEST:
            values = _chain(before, _GRID)
            return int((np.diff(values) >= 0).all() and values[-1] > values[0])
        before.append(op)
    values = _chain(before, _GRID).astype(np.float64)
    if not np.isfinite(values[1:]).all():
        return 0
    if 0 < values.max() < np.inf and np.abs(values / values.max() - _GRID).max() <= _CLOSE:
        return 1
    if np.abs(np.exp(values[1:]) - _GRID[1:]).max() <= _CLOSE:
        return 1
    if np.array_equal(values, _GRID > 0.5):
        return 1
    turned = np.abs(values - (1 - _GRID)).max() <= _CLOSE or np.array_equal(values, _GRID < 0.5)
    return -1 if turned and sigmoid else 0


def _pair_sign(ops: list[Op], parts: tuple[Each, Each]) -> int:
    """1 where the parts are 1 - p and p, -1 the other way round, 0 for anything else."""
    at = next(place for place, op in enumerate(ops) if op.kind == JOIN)
    if _meaning([op for op in ops[at:] if op.kind != JOIN], sigmoid=False) != 1:
        return 0
    grid = _chain(ops[:at], _GRID)
    one, other = (np.asarray(part(grid), np.float64) for part in parts)
    for sign, first, second in ((1, one, other), (-1, other, one)):
        if np.abs(second - _GRID).max() <= _CLOSE and np.abs(first - 1 + _GRID).max() <= _CLOSE:
            return sign
    return 0


def _chain(ops: list[Op], values: Array) -> Array:
    """What functions of each number make of values, one after the other."""
    with np.errstate(divide="ignore", invalid="ignore"):
        for op in ops:
            if op.apply is not None:
                values = op.apply(values)
    return values


def _says(
    ops: list[Op], parts: tuple[Each, Each] | None, sigmoid: bool
) -> Callable[[Array], Array]:
    """What the output holds for logits, (samples, width): as many numbers, or a place each."""

    def says(logits: Array) -> Array:
        values: Array = 0.5 + 0.5 * np.tanh(0.5 * logits) if sigmoid else softmax(logits)
        for op in ops:
            if op.kind == LARGEST:
                places: Array = np.argmax(values, axis=1)
                return places
            if op.kind == JOIN and parts is not None:
                values = np.concatenate([part(values) for part in parts], axis=1)
            values = _chain([op], values)
        return values

    return says


def _plain(output: Any, tensor: Any, ops: list[Op], maker: Op | None) -> End:
    """The end of an output without an activation."""
    layer = maker is not None and maker.kind == LAYER
    place = next((at for at, op in enumerate(ops) if op.kind == LARGEST), None)
    if place is not None:
        logits = ops[place].inputs[0]
        return End(logits, "softmax", ops=tuple(ops[place:]), says=lambda z: z.argmax(axis=1))
    if maker is not None and maker.kind == NUMBERS:
        return End(output, "numbers", reason=f"made by {maker.title}, so it is no logit")
    values = _chain(ops, _LOGITS)
    if values.dtype.kind == "b" or np.isin(values, (0, 1)).all():
        if layer and np.array_equal(values, _LOGITS > 0):
            return End(tensor, "sigmoid", ops=tuple(ops), says=lambda z: z > 0)
        return End(output, "labels", reason="labels, from which no logits follow")
    straight = np.abs(np.diff(values.astype(np.float64), 2)).max(initial=0.0) < 1e-6
    return End(output, "logits" if layer and straight else "unknown")


def _made_of(tensor: Any, op_of: OpOf) -> str | None:
    """The operator by which a tensor is made of probabilities alone, None where it is not."""
    steps, known = 0, dict[Any, bool]()
    while steps < MOST_STEPS and (op := op_of(tensor)) is not None and op.kind == SAME:
        tensor, steps = op.inputs[0], steps + 1
    op = op_of(tensor)
    title = "" if op is None else op.title
    return title if _is_made(tensor, op_of, known, MOST_STEPS) else None


def _is_made(tensor: Any, op_of: OpOf, known: dict[Any, bool], steps: int) -> bool:
    if tensor in known or not steps:
        return known.get(tensor, False)
    known[tensor] = False
    op = op_of(tensor)
    if op is None or op.kind in (LAYER, NUMBERS):
        return False
    if op.kind in (SOFTMAX, SIGMOID, CLOSED):
        known[tensor] = True
        return True
    parts = [_is_made(each, op_of, known, steps - 1) for each in op.inputs]
    known[tensor] = any(parts) if op.kind == JOIN else bool(parts) and all(parts)
    return known[tensor]
