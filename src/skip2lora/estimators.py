"""What both scikit-learn estimators share: parameters, checks, training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from skip2lora.adapted import AdaptedModel, NewlyAdapted
from skip2lora.adapters.cached import rows_kept_in
from skip2lora.adapters.kept import kept_beside
from skip2lora.arrays import SamplesLike, check_samples, choice, whole
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.field_mlp import field_statistics
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.recipe import ANY_MODEL
from skip2lora.errors import DataError, ParameterError
from skip2lora.methods import Method
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.task import Goal, Outputs
from skip2lora.tasks.weights import ClassWeight, check_weights, leave_out
from skip2lora.training.fit import check_judges
from skip2lora.training.folds import check_groups, groups_of
from skip2lora.training.loop import Trained, checked
from skip2lora.training.mlp_rule import MlpRule
from skip2lora.training.options import (
    OPTIONS,
    Options,
    asked_by,
    method_of,
    n_held_out,
    resolve_options,
)
from skip2lora.training.pretraining import pretrain
from skip2lora.training.rehearsal import (
    Keep,
    OldSamples,
    check_keep_weight,
    find_lab_set,
    read_old,
)
from skip2lora.training.stream import Part, Stream, Weigh, learn, own_weights, without

_METHODS = ("skip2-lora", "lora-last")


@dataclass(frozen=True, eq=False)
class State:
    """What the next ``partial_fit`` goes on from.

    ``start`` is the stream before the first sample, where a projection is yet to be found; None
    where none is.
    """

    stream: Stream
    goal: Goal
    method: str
    random: Any
    new_labels: tuple[int, ...]
    rule: MlpRule | None = None
    start: Stream | None = None


class Estimator(BaseEstimator):
    """What both estimators share: parameters, checks, training.

    A parameter that is an option of training is read by its name alone, in ``_options``.
    """

    model: Backbone | None
    keep_outputs: bool
    hidden: Sequence[int]
    pretrain_epochs: int
    method: str | None
    batch_size: int | None
    validation: float
    class_weight: ClassWeight | None
    keep: Keep | None
    keep_weight: float | None
    capacity: int | None
    random_state: Any

    def __init__(
        self,
        model: Backbone | None = None,
        *,
        keep_outputs: bool = True,
        hidden: Sequence[int] = (64, 64),
        pretrain_epochs: int = 100,
        method: str | None = None,
        recipe: str | None = None,
        rank: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        optimizer: str | None = None,
        standardize: bool | None = None,
        cache_dtype: str = "float32",
        projection: int | None = None,
        projection_from: str | None = None,
        validation: float = 0.0,
        patience: int | None = None,
        solver: str | None = None,
        penalty: float | None = None,
        class_weight: ClassWeight | None = None,
        keep: Keep | None = None,
        keep_weight: float | None = None,
        capacity: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.__dict__.update({name: of for name, of in locals().items() if name != "self"})

    def _samples(
        self, X: SamplesLike, y: ArrayLike | None, *, first: bool, **options: Any
    ) -> tuple[Any, Any]:
        """``X`` as the model takes it, and ``y`` as an array.

        A model that says what it takes (images, several inputs) checks ``X``, else scikit-learn.
        """
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        if self.model is not None and not check_backbone(self.model).takes_table:
            x = self.model.check(self._taken(X, first=first))
            answers = check_array(y, ensure_2d=False, dtype=None, input_name="y")
            if (count := len(answers)) != len(x):
                raise DataError(f"y has {count} samples, expected {len(x)}, as X has: pass such")
            return x, answers
        least = 2 if first and self.model is None else 1  # batch norm needs two
        x, answers = validate_data(self, X, y, reset=first, ensure_min_samples=least, **options)
        x = self._in_order(x)
        return (check_samples(x)[0] if self.model is None else checked(self.model, x)), answers

    def _part(
        self,
        x: Any,
        answers: NDArray[Any],
        sample_weight: ArrayLike | None,
        groups: ArrayLike | None,
        *,
        whole: bool,
    ) -> Part:
        """Without samples of weight 0; ``whole`` says that no other groups are to come."""
        group = None if groups is None else groups_of(groups, len(x))
        own = None
        if sample_weight is not None:
            weight = check_weights(sample_weight, len(x))
            group = None if group is None else group[weight > 0]
            x, answers, own = leave_out(x, answers, weight)
        if whole and group is not None:
            check_groups(group, len(group))
        return Part(x, answers, own, group)

    def _pair(self, validation_data: Any) -> tuple[Any, Any]:
        """Samples, and answers, for validation alone.

        Raises:
            ParameterError: they are no pair.
        """
        if not isinstance(validation_data, tuple) or len(validation_data) != 2:
            raise ParameterError(
                f"validation_data is {type(validation_data).__name__}, expected samples and "
                "labels, (X, y): pass both, or leave it out"
            )
        return validation_data

    def _taken(self, X: SamplesLike, *, first: bool) -> Any:
        """A DataFrame as an array, after scikit-learn saw its names; anything else as it is."""
        validate_data(self, X, reset=first, skip_check_array=True, ensure_2d=False)
        return self._columns.take(X)

    @property
    def _columns(self) -> Columns:
        """Those of the model, or else of the samples of the first fit."""
        known = Columns() if self.model is None else self.model.columns
        names = [*getattr(self, "feature_names_in_", ())]
        own = [names[at] for at in known.places(names)] if names else []
        return known.over(Columns(tuple(own) or None))

    def _in_order(self, x: NDArray[Any]) -> NDArray[Any]:
        """A table with its columns as in the first fit, as the model takes it."""
        names = [*getattr(self, "feature_names_in_", ())]
        return x[:, self._columns.places(names)] if names else x

    def _begin(
        self,
        model: Backbone,
        goal: Goal,
        outputs: Outputs,
        new_labels: tuple[int, ...] = (),
        rule: MlpRule | None = None,
    ) -> State:
        method = method_of(None if self.method is None else choice("method", self.method, _METHODS))
        first_tap = range(len(model.tap_widths))[method.adapted].start
        old = self._old(model, goal, outputs, method)
        stream = Stream.start(model, first_tap=first_tap, old=old, keep_weight=self.keep_weight)
        random = check_random_state(self.random_state)
        start = None if self.projection is None else stream
        return State(stream, goal, method.name, random, new_labels, rule, start)

    def _old(
        self, model: Backbone, goal: Goal, outputs: Outputs, method: Method
    ) -> OldSamples | None:
        """Those to keep, with answers that are ``outputs``."""
        check_keep_weight(self.keep_weight, self.keep)
        if self.keep is None or self.keep is False:
            return None
        if self.model is None:
            raise ParameterError(
                "keep is set without a model, expected one that knows the old domain: pass it, or "
                "leave keep out"
            )
        chosen = find_lab_set(model, self.keep, keep_outputs=self.keep_outputs)
        if chosen is None:
            return None
        return read_old(
            chosen, model, outputs, task=goal.task, method=method,
            check=lambda X: checked(model, self._columns.take(X)),
        )  # fmt: skip

    def _learn(
        self,
        state: State,
        part: Part,
        weigh: Weigh = own_weights,
    ) -> None:
        """Train on what is kept and ``x``; then, all being well, go over to the new state."""
        if self.capacity is not None:
            whole("capacity", self.capacity, 1)
        options = self._options(state.stream, len(part.x), _draw(state.random))
        check_judges(options, part.group, state.stream.validation)
        if state.rule is not None:
            options = state.rule.settled(options, len(state.stream) + len(part.x))
        stream, done = learn(
            state.stream, part, options=options, goal=state.goal, capacity=self.capacity,
            weigh=weigh,
        )  # fmt: skip
        self._state = replace(state, stream=stream)
        self.model_ = stream.backbone
        self.adapted_ = self._adapted(done)

    def forget(self, which: ArrayLike, X: SamplesLike | None = None) -> Self:
        """Take samples back, as if they had never come: solved anew from the rows of the others.

        ``which`` are their numbers, (n,), from 0 in the order in which they came; those without a
        weight have none. Those behind them move up. No sample passes the model again, unless rows
        are projected and some of ``which`` came in the first call, from which the projection was
        found: it is then found anew, from ``X``, all samples that remain, in their order.

        Raises:
            DataError: no such number, one twice, or all of them; or ``X`` does not fit.
            ParameterError: more than the solution depends on the samples: it was trained by steps,
                kept by chance with a ``capacity``, or the network learned from them too; or ``X``
                is missing.
        """
        check_is_fitted(self, "adapted_")
        state, why = self._state, None
        stream = without(state.stream, which)
        anew = bool((np.asarray(which) < state.stream.n_first).any())
        if self.adapted_.history is None or self.adapted_.history.solver != "exact":
            why = "training by steps goes on from what it learned of them"
        elif self.capacity is not None:
            why = f"capacity is {self.capacity}, so that chance says which are kept"
        elif self.model is None or field_statistics(self.model_):
            why = "the network has learned from them, too"
        elif anew and stream.validation is not None:
            why = "the projection of samples for validation was found from them, too"
        if why is not None:
            raise ParameterError(
                f"forget takes samples back from an exact solution, but {why}, expected "
                "solver='exact' on a model: pass the others to fit"
            )
        group = None if stream.group is None else stream.group[:0]
        state, part = replace(state, stream=stream), Part((), stream.answers[:0], None, group)
        if anew:
            state, part = self._anew(state, X)
        self._learn(state, part, self._weigher())
        return self

    def _anew(self, state: State, X: SamplesLike | None) -> tuple[State, Part]:
        """Samples ``X``, of which answers are there, as if all came in a first call."""
        stream, start = state.stream, state.start
        if X is None or start is None:
            raise ParameterError(
                f"forget takes back some of the first {stream.n_first:,} samples, from which the "
                "projection was found, expected all that remain, to find it anew: pass them as X"
            )
        answers = stream.answers[stream.n_old :]
        x, _ = self._samples(X, answers, first=False, multi_output=True)
        weight = None if stream.weight is None else stream.weight[stream.n_old :]
        random = check_random_state(self.random_state)  # as of a first call
        return replace(state, stream=start, random=random), Part(x, answers, weight, stream.group)

    def go_on_from(self, adapted: AdaptedModel) -> Self:
        """Learn what ``adapted`` learned, instead of a first call of ``fit`` or ``partial_fit``.

        It was made of ``model``, with ``keep_rows=True``, and may be loaded from a folder. Samples,
        answers and weights are those that are kept; how they are learned is as this estimator has
        it. Where their rows are kept, none of them passes the model again.

        Raises:
            ModelError: what is kept is damaged, or of other taps.
            ParameterError: nothing is kept, or ``adapted`` is of another model.
        """
        if self.model is None or self.model.base.fingerprint != adapted.base.fingerprint:
            raise ParameterError(
                f"adapted is of {adapted.base!r}, the estimator has the model {self.model!r}, "
                "expected the same: pass that model"
            )
        memory = adapted.memory or kept_beside(adapted.path)
        samples, by = memory.samples, None
        with ExitStack() as stack:
            if memory.cache is not None:
                of_rows = rows_kept_in(memory.cache, self.model.base, adapted.images)
                by, _ = stack.enter_context(of_rows)
            part = Part(samples.x, samples.labels(), samples.weight, samples.group, by)
            self._take_over(part)
        return self

    def _take_over(self, part: Part) -> None:
        """Begin with samples that were learned elsewhere."""
        raise NotImplementedError

    def _weigher(self) -> Weigh:
        """How answers are weighted."""
        return own_weights

    def _options(self, stream: Stream, n_more: int, seed: int) -> Options:
        """For all samples, on the rows of ``stream``, which are those of the method."""
        n_samples = len(stream) + n_more
        asked = asked_by(vars(self)) | {"method": "skip2-lora", "seed": seed}
        # Parts of the samples may be smaller than a batch.
        if self.batch_size is not None:
            share = OPTIONS["validation"].checked("validation", self.validation)
            n_trained = max(1, n_samples - n_held_out(n_samples, share))
            asked["batch_size"] = min(whole("batch_size", self.batch_size, 1), n_trained)
        validated = stream.validation is not None
        widths = stream.tap_widths
        return resolve_options(ANY_MODEL, widths, n_samples, validated, **asked)

    def _adapted(self, done: Trained) -> NewlyAdapted:
        state, history = self._state, done.history
        if self.model is None:  # the network has learned what was held out
            history = replace(history, held_out=None)
        sizes = (done.cache_bytes, done.cache_overhead_bytes)
        return NewlyAdapted(
            *done.on(self.model_), state.method, history, done.timing,
            *sizes, task=state.goal.task.name, new_labels=state.new_labels, columns=self._columns,
        )  # fmt: skip

    def _pretrained(
        self,
        x: NDArray[np.float32],
        labels: NDArray[Any],
        weight: ArrayLike | None,
        n_outputs: int,
        names: Any = None,
    ) -> MLP:
        """A network that learned ``labels``, and takes features as they are."""
        seed = _draw(check_random_state(self.random_state))
        widths = [x.shape[1], *np.ravel(self.hidden).tolist(), n_outputs]
        fresh = MLP.create(widths, seed=seed, class_names=names)
        epochs = whole("pretrain_epochs", self.pretrain_epochs, 1)
        return pretrain(
            fresh, x, labels, epochs=epochs, seed=seed, sample_weight=weight, columns=self._columns
        )

    def _logits(self, X: SamplesLike) -> NDArray[np.float32]:
        check_is_fitted(self, "adapted_")
        if self.model is None or self.model.takes_table:
            return self.adapted_.logits(self._in_order(validate_data(self, X, reset=False)))
        return self.adapted_.logits(self._taken(X, first=False))


def _draw(random: Any) -> int:
    return int(random.randint(np.iinfo(np.int32).max))
