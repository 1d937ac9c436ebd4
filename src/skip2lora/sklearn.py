"""scikit-learn estimators (extra ``[sklearn]``): Skip2-LoRA in pipelines and searches.

``partial_fit`` learns as labelled samples arrive: each runs through the frozen network once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.adapted import NewlyAdapted
from skip2lora.arrays import SamplesLike, check_samples, choice, plain_array, whole
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.mlp import MLP
from skip2lora.backbones.recipe import ANY_MODEL
from skip2lora.backbones.standins import Headless, for_task
from skip2lora.errors import DataError, MissingExtraError, ParameterError
from skip2lora.methods import METHODS
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.labels import is_text, own_labels, places_in
from skip2lora.tasks.task import CLASSIFICATION, TASKS, Goal, Outputs
from skip2lora.training.loop import Trained, checked
from skip2lora.training.options import OPTIONS, Options, asked_of, n_held_out, resolve_options
from skip2lora.training.pretraining import N_RANGES, pretrain, ranges_of
from skip2lora.training.stream import Stream, learn

try:
    from scipy.special import softmax
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets, unique_labels
    from sklearn.utils.validation import check_array, check_is_fitted, validate_data
except ImportError as error:
    raise MissingExtraError(
        "scikit-learn is not installed, an estimator needs it: pip install 'skip2lora[sklearn]'"
    ) from error

_METHODS = ("skip2-lora", "lora-last")


@dataclass(frozen=True, eq=False)
class _State:
    """What the next ``partial_fit`` goes on from."""

    stream: Stream
    goal: Goal
    method: str
    random: Any
    new_labels: tuple[int, ...]


class _Skip2LoRA(BaseEstimator):
    """What both estimators share: parameters, checks, training.

    A parameter that is an option of training is read by its name alone, in ``_options``.
    """

    model: Backbone | None
    keep_outputs: bool
    hidden: Sequence[int]
    pretrain_epochs: int
    method: str
    batch_size: int | None
    standardize: bool
    validation: float
    solver: str | None
    capacity: int | None
    random_state: Any

    def __init__(
        self,
        model: Backbone | None = None,
        *,
        keep_outputs: bool = True,
        hidden: Sequence[int] = (64, 64),
        pretrain_epochs: int = 100,
        method: str = "skip2-lora",
        rank: int | None = None,
        epochs: int = 50,
        batch_size: int | None = None,
        learning_rate: float = 0.001,
        optimizer: str = "adam",
        standardize: bool = True,
        validation: float = 0.0,
        patience: int | None = None,
        solver: str | None = None,
        penalty: float | None = None,
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

    def _begin(self, model: Backbone, goal: Goal, new_labels: tuple[int, ...] = ()) -> _State:
        method = METHODS[choice("method", self.method, _METHODS)]
        first_tap = range(len(model.tap_widths))[method.adapted].start
        stream = Stream.start(model, first_tap=first_tap)
        random = check_random_state(self.random_state)
        return _State(stream, goal, method.name, random, new_labels)

    def _learn(self, state: _State, x: Any, answers: NDArray[Any]) -> None:
        """Train on what is kept and ``x``; then, all being well, go over to the new state."""
        if self.capacity is not None:
            whole("capacity", self.capacity, 1)
        options = self._options(state.stream, len(x), _draw(state.random))
        stream, done = learn(
            state.stream, x, answers, options=options, goal=state.goal, capacity=self.capacity
        )
        self._state = replace(state, stream=stream)
        self.model_ = stream.backbone
        self.adapted_ = self._adapted(done)

    def _options(self, stream: Stream, n_more: int, seed: int) -> Options:
        """For all samples, on the rows of ``stream``, which are those of the method."""
        n_samples = len(stream) + n_more
        asked = asked_of(vars(self), steps=self.solver != "exact")
        asked |= {"method": "skip2-lora", "seed": seed}
        if (
            self.batch_size is not None and "batch_size" in asked
        ):  # parts of the samples may be smaller than a batch
            share = OPTIONS["validation"].checked("validation", self.validation)
            n_trained = max(1, n_samples - n_held_out(n_samples, share))
            asked["batch_size"] = min(whole("batch_size", self.batch_size, 1), n_trained)
        return resolve_options(ANY_MODEL, stream.cache.format.tap_widths, n_samples, **asked)

    def _adapted(self, done: Trained) -> NewlyAdapted:
        state = self._state
        sizes = (done.cache_bytes, done.cache_overhead_bytes)
        return NewlyAdapted(
            state.stream.backbone, done.adapters, state.method, done.history, done.timing, *sizes,
            task=state.goal.task.name, new_labels=state.new_labels, columns=self._columns,
        )  # fmt: skip

    def _pretrained(
        self, x: NDArray[np.float32], labels: NDArray[Any], n_outputs: int, names: Any = None
    ) -> MLP:
        """A network that learned ``labels``, and takes features as they are."""
        seed = _draw(check_random_state(self.random_state))
        widths = [x.shape[1], *np.ravel(self.hidden).tolist(), n_outputs]
        fresh = MLP.create(widths, seed=seed, class_names=names)
        epochs = whole("pretrain_epochs", self.pretrain_epochs, 1)
        return pretrain(fresh, x, labels, epochs=epochs, seed=seed, columns=self._columns)

    def _logits(self, X: SamplesLike) -> NDArray[np.float32]:
        check_is_fitted(self, "adapted_")
        if self.model is None or self.model.takes_table:
            return self.adapted_.logits(self._in_order(validate_data(self, X, reset=False)))
        return self.adapted_.logits(self._taken(X, first=False))


class Skip2LoRAClassifier(ClassifierMixin, _Skip2LoRA):
    """Skip adapters on a frozen network, for labels of any type.

    Parameters are those of :func:`skip2lora.adapt`, and:

    ``model``: any backbone; None pre-trains an ``MLP`` with ``hidden`` widths for
    ``pretrain_epochs`` epochs on the samples of the first ``fit`` or ``partial_fit``. Labels that
    are not the model's own (its ``class_names``, or 0, 1, ...) become new classes.
    ``keep_outputs=False`` leaves the model's own classes out. ``rank`` is by default 4, or the
    largest width of a tap. ``method`` is skip2-lora or lora-last. ``batch_size`` may be more than
    the samples. ``capacity`` limits the samples that are kept for the next ``partial_fit``, by
    reservoir sampling: a fair choice of all that were seen. ``random_state`` is scikit-learn's.
    ``solver="exact"`` solves anew from all samples that are kept, whatever the steps would be.

    After ``fit``: ``classes_``, ``model_``, ``adapted_`` (an
    :class:`~skip2lora.AdaptedModel`, which can be saved), and of tables ``n_features_in_``
    and ``feature_names_in_``.
    """

    classes_: NDArray[Any]

    def fit(self, X: SamplesLike, y: ArrayLike) -> Skip2LoRAClassifier:
        """Learn from the samples alone, whatever came before.

        Raises:
            DataError: samples the model cannot take, or one class only; and ValueError of
                scikit-learn for tables and labels it refuses.
            ParameterError: an option out of range.
            DivergedError: the loss became infinite or NaN.
        """
        x, labels = self._labelled(X, y, first=True)
        self._fit_first(x, labels, np.unique(labels))
        return self

    def partial_fit(
        self, X: SamplesLike, y: ArrayLike, classes: ArrayLike | None = None
    ) -> Skip2LoRAClassifier:
        """Learn from more samples, and for ``epochs`` epochs from them and all that are kept.

        Earlier samples are not computed again. ``classes`` are all labels that will ever come; the
        first call needs them unless a ``model`` knows them all.

        Raises:
            ValueError: a class that was not announced; and as :meth:`fit`.
        """
        first = not hasattr(self, "_state")
        x, labels = self._labelled(X, y, first=first)
        if first:
            if classes is None and (self.model is None or not self.keep_outputs):
                raise ValueError("classes must be passed on the first call to partial_fit.")
            announced = np.unique(labels)[:0] if classes is None else unique_labels(classes)
            self._fit_first(x, labels, announced)
            return self
        if classes is not None and not np.isin(unique_labels(classes), self.classes_).all():
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )
        outputs = self._outputs[_places(labels, self.classes_)]
        self._learn(self._state, x, outputs.astype(np.int32))
        return self

    def _labelled(self, X: SamplesLike, y: ArrayLike, *, first: bool) -> tuple[Any, NDArray[Any]]:
        if y is not None and np.asarray(y).dtype == object:
            plain = plain_array(y, "y")  # None and NA are named, whole numbers are such
            y = y if plain.dtype.kind == "U" else plain
        x, labels = self._samples(X, y, first=first)
        check_classification_targets(labels)
        return x, column_or_1d(labels, warn=True)

    def _fit_first(self, x: Any, labels: NDArray[Any], announced: NDArray[Any]) -> None:
        given = announced if len(announced) else labels
        if self.model is None or not self.keep_outputs:
            own = given[:0]
        else:
            own = own_labels(Outputs.of(self.model, CLASSIFICATION), given)
        new = announced[~np.isin(announced, own)]
        known = np.concatenate([own, new]) if len(own) else new
        classes, outputs = np.unique(known, return_index=True)
        if len(classes) < 2:
            raise DataError(
                f"got 1 class ({classes[0]}), expected at least 2: pass samples of another class"
                if len(classes)
                else "got no classes, expected at least 2: pass classes"
            )
        places = _places(labels, classes)
        n_more: int | None = len(known)
        numbered: tuple[int, ...] = ()
        if self.model is None:
            names = [str(name) for name in classes] if is_text(classes) else None
            model: Backbone = self._pretrained(x, places, len(classes), names)
            n_more = None
        elif not self.keep_outputs:
            model = Headless(self.model, len(classes))
        else:
            model = for_task(self.model, CLASSIFICATION.name)
            n_more = len(known) if len(new) else None
            whole_numbers = new.dtype.kind in "iu" and not is_text(own)
            after = range(len(own), len(known))
            numbered = tuple(int(label) for label in (new if whole_numbers else after))
        goal = Goal(CLASSIFICATION, n_more)
        state = self._begin(model, goal, new_labels=numbered)
        self._learn(state, x, outputs[places].astype(np.int32))
        self.classes_, self._outputs = classes, outputs

    def predict(self, X: SamplesLike) -> NDArray[Any]:
        """The label of each sample, (samples,)."""
        logits = self._logits(X)[:, self._outputs]
        labels: NDArray[Any] = self.classes_[logits.argmax(axis=1)]
        return labels

    def predict_proba(self, X: SamplesLike) -> NDArray[np.float64]:
        """Probabilities in the order of ``classes_``, (samples, n_classes)."""
        logits = self._logits(X)[:, self._outputs].astype(np.float64)
        probabilities: NDArray[np.float64] = softmax(logits, axis=1)
        return probabilities


class Skip2LoRARegressor(RegressorMixin, _Skip2LoRA):
    """Skip adapters on a frozen network, for one number a sample or several.

    Parameters and attributes are those of :class:`Skip2LoRAClassifier`. A ``model`` of as many
    outputs as ``y`` has columns is the start that adapters correct; with ``keep_outputs=False`` its
    outputs are left out and any model will do. ``model=None`` trains the hidden layers of an
    ``MLP`` to tell five ranges of ``y`` apart and leaves its outputs out.
    """

    _shape: tuple[int, ...]  # of one answer: () or (n_outputs,)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: SamplesLike, y: ArrayLike) -> Skip2LoRARegressor:
        """Learn from the samples alone, whatever came before; ``y`` is (samples,) or 2-d.

        Raises:
            DataError: samples or numbers the model cannot take; and ValueError of scikit-learn.
            ParameterError: an option out of range.
            DivergedError: the loss became infinite or NaN.
        """
        return self._fit(X, y, first=True)

    def partial_fit(self, X: SamplesLike, y: ArrayLike) -> Skip2LoRARegressor:
        """Learn from more samples, and for ``epochs`` epochs from them and all that are kept.

        Earlier samples are not computed again.

        Raises:
            DataError: ``y`` has another number of columns than before; and as :meth:`fit`.
        """
        return self._fit(X, y, first=not hasattr(self, "_state"))

    def _fit(self, X: SamplesLike, y: ArrayLike, *, first: bool) -> Skip2LoRARegressor:
        x, numbers = self._samples(X, y, first=first, multi_output=True, y_numeric=True)
        shape = numbers.shape[1:]
        targets = np.asarray(numbers, np.float32).reshape(len(numbers), -1)
        if not np.isfinite(targets).all():
            raise DataError("y has values too large for float32, expected such as fit: scale it")
        if first:
            state = self._begin(*self._start(x, targets))
        else:
            state = self._state
            if shape != self._shape:
                raise DataError(
                    f"y has shape {numbers.shape}, expected {(len(numbers), *self._shape)} as on "
                    "the first call: pass the same columns"
                )
        self._learn(state, x, targets)
        self._shape = shape
        return self

    def _start(self, x: Any, targets: NDArray[np.float32]) -> tuple[Backbone, Goal]:
        width = targets.shape[1]
        goal = Goal(TASKS["regression"])
        if self.model is None:
            return Headless(self._pretrained(x, ranges_of(targets), N_RANGES), width), goal
        if not self.keep_outputs:
            return Headless(self.model, width), goal
        if self.model.n_outputs != width:
            raise ParameterError(
                f"y has {width} numbers a sample, the model {self.model.n_outputs} outputs, "
                "expected one an output: pass keep_outputs=False to learn new ones from its layers"
            )
        return for_task(self.model, goal.task.name), goal

    def predict(self, X: SamplesLike) -> NDArray[np.float64]:
        """Numbers of the shape of ``y``: (samples,) or (samples, n_outputs)."""
        numbers = self._logits(X)
        return numbers.reshape(len(numbers), *self._shape).astype(np.float64)


def _places(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Where each label is in ``classes``, or the error that scikit-learn raises."""
    if not np.isin(labels, classes).all():
        raise ValueError(
            "`y` has classes not in `self.classes_`. `self.classes_` has "
            f"{classes}. 'y' has {np.unique(labels)}."
        )
    return places_in(classes, labels)


def _draw(random: Any) -> int:
    return int(random.randint(np.iinfo(np.int32).max))
