"""scikit-learn estimators (extra ``[sklearn]``): Skip2-LoRA in pipelines and searches.

``partial_fit`` learns as labelled samples arrive: each runs through the frozen network once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.arrays import SamplesLike, as_float32, listing, plain_array
from skip2lora.backbones.base import Backbone
from skip2lora.backbones.standins import Headless, for_task
from skip2lora.errors import DataError, MissingExtraError, ParameterError
from skip2lora.tasks.labels import is_text, own_labels, places_in
from skip2lora.tasks.task import CLASSIFICATION, TASKS, Goal, Outputs
from skip2lora.tasks.weights import check_has_classes, combined
from skip2lora.training.mlp_rule import MlpRule
from skip2lora.training.options import asked_by
from skip2lora.training.pretraining import N_RANGES, ranges_of
from skip2lora.training.problem import check_contrast
from skip2lora.training.stream import Part, Weigh

try:
    from scipy.special import softmax
    from sklearn.base import ClassifierMixin, RegressorMixin
    from sklearn.utils import column_or_1d
    from sklearn.utils.multiclass import check_classification_targets, unique_labels
except ImportError as error:
    raise MissingExtraError(
        "scikit-learn is not installed, an estimator needs it: pip install 'skip2lora[sklearn]'"
    ) from error

from skip2lora.estimators import Estimator, State


class Skip2LoRAClassifier(ClassifierMixin, Estimator):
    """Skip adapters on a frozen network, for labels of any type.

    Parameters are those of :func:`skip2lora.adapt`, and:

    ``model``: any backbone; None pre-trains an ``MLP`` with ``hidden`` widths for
    ``pretrain_epochs`` epochs on the samples of the first ``fit`` or ``partial_fit``. Labels that
    are not the model's own (its ``class_names``, or 0, 1, ...) become new classes.
    ``keep_outputs=False`` leaves the model's own classes out. Without ``model`` training is by
    steps, as the network has learned the samples that ``recipe="auto"`` would hold out. Steps are
    those for any model: rank 4, Adam at 0.001, 50 epochs on scaled taps. ``method`` is skip2-lora
    or lora-last. ``batch_size`` may be more than the samples. ``capacity`` limits the samples that
    are kept for the next ``partial_fit``, by reservoir sampling: a fair choice of all that were
    seen. ``random_state`` is scikit-learn's. ``recipe="auto"``, the default, and ``solver="exact"``
    solve anew from all samples that are kept; options of steps are refused beside them. The rule
    that auto has for an ``MLP`` is that of the first part. ``class_weight`` names classes by their
    labels; "balanced" counts all samples that are kept. ``keep`` are old samples, a lab set or its
    file, whose labels are among ``classes_``; they stay whatever the ``capacity``. A lab set that
    lies beside a model is not looked for.

    After ``fit``: ``classes_``, ``model_``, ``adapted_`` (an
    :class:`~skip2lora.AdaptedModel`, which can be saved), and of tables ``n_features_in_``
    and ``feature_names_in_``.
    """

    classes_: NDArray[Any]

    def fit(
        self,
        X: SamplesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        validation_data: tuple[SamplesLike, ArrayLike] | None = None,
    ) -> Skip2LoRAClassifier:
        """Learn from the samples alone, whatever came before.

        ``sample_weight``, (samples,), says how much each counts; one of 0 is as if not there.
        ``groups``, (samples,), are held out whole, and ``validation_data``, (X, y), judge in place
        of samples held out, as in :func:`skip2lora.adapt`; also in every ``partial_fit`` after it.

        Raises:
            DataError: samples the model cannot take, one class or one group only, or weights that
                are none; and ValueError of scikit-learn for tables and labels it refuses.
            ParameterError: an option out of range.
            DivergedError: the loss became infinite or NaN.
        """
        part = self._labelled(X, y, sample_weight, groups, first=True, whole=True)
        beside = None if validation_data is None else self._pair(validation_data)
        self._fit_first(part, np.unique(part.answers), whole=True, beside=beside)
        return self

    def partial_fit(
        self,
        X: SamplesLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Skip2LoRAClassifier:
        """Learn from more samples, and from all that are kept: by steps, or solved anew.

        Earlier samples are not computed again. As long as all are of one class, nothing is learned
        but that it is likelier than others. ``classes`` are all labels that will ever come; the
        first call needs them unless a ``model`` knows them all. Either all parts have ``groups`` or
        none.

        Raises:
            ValueError: a class that was not announced; and as :meth:`fit`.
        """
        first = not hasattr(self, "_state")
        part = self._labelled(X, y, sample_weight, groups, first=first)
        if first:
            if classes is None and (self.model is None or not self.keep_outputs):
                raise ValueError("classes must be passed on the first call to partial_fit.")
            none = np.unique(part.answers)[:0]
            self._fit_first(part, none if classes is None else unique_labels(classes))
            return self
        if classes is not None and not np.isin(unique_labels(classes), self.classes_).all():
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )
        outputs = self._outputs[_places(part.answers, self.classes_)]
        self._learn(self._state, replace(part, answers=outputs.astype(np.int32)), self._weigher())
        return self

    def _take_over(self, part: Part) -> None:
        self._fit_first(part, np.unique(part.answers))

    def _weigher(self) -> Weigh:
        return self._weigh(self.classes_, self._outputs)

    def _weigh(self, classes: NDArray[Any], outputs: NDArray[np.int64]) -> Weigh:
        """How answers that are ``outputs`` of these classes are weighted."""
        places = dict(zip(classes.tolist(), outputs.tolist(), strict=True))
        return lambda answers, own: combined(answers, own, self.class_weight, places)

    def _labelled(
        self,
        X: SamplesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        groups: ArrayLike | None = None,
        *,
        first: bool,
        whole: bool = False,
    ) -> Part:
        if y is not None and np.asarray(y).dtype == object:
            plain = plain_array(y, "y")  # None and NA are named, whole numbers are such
            y = y if plain.dtype.kind == "U" else plain
        x, labels = self._samples(X, y, first=first)
        check_classification_targets(labels)
        labels = column_or_1d(labels, warn=True)
        return self._part(x, labels, sample_weight, groups, whole=whole)

    def _fit_first(
        self,
        part: Part,
        announced: NDArray[Any],
        *,
        whole: bool = False,
        beside: tuple[Any, Any] | None = None,
    ) -> None:
        """``whole`` says that no more samples are to come before anything is predicted."""
        asked, x, labels, own_weight = asked_by(vars(self)), part.x, part.answers, part.weight
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
            weight = self._weigh(classes, np.arange(len(classes)))(places, own_weight)
            model: Backbone = self._pretrained(x, places, weight, len(classes), names)
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
        own_network = self.model is not None and self.keep_outputs
        rule = MlpRule.of(model, x, CLASSIFICATION, asked["recipe"] if own_network else None)
        state = self._begin(rule.backbone, goal, _outputs_of(known), new_labels=numbered, rule=rule)
        weigh = self._weigh(classes, outputs)
        answers = outputs[places].astype(np.int32)
        if whole and (asked["recipe"] == "auto" or asked["solver"] == "exact"):
            check_contrast(np.concatenate([state.stream.answers, answers]))
        if beside is not None:
            state = self._judged(state, beside, classes, outputs)
        self._learn(state, replace(part, answers=answers), weigh)
        self.classes_, self._outputs = classes, outputs

    def _judged(
        self,
        state: State,
        beside: tuple[Any, Any],
        classes: NDArray[Any],
        outputs: NDArray[np.int64],
    ) -> State:
        """With samples for validation alone, whose labels are ``outputs`` of these classes."""
        try:
            part = self._labelled(*beside, None, first=False)
        except DataError as error:
            raise DataError(f"validation_data: {error}") from error
        other = np.setdiff1d(part.answers, classes)
        if len(other):
            raise DataError(
                f"validation_data has the label {other[0]}, expected those of the samples to "
                f"learn, {listing([*map(str, classes)])}: leave such samples out"
            )
        answers = outputs[places_in(classes, part.answers)].astype(np.int32)
        return replace(state, stream=state.stream.judged_by(part.x, answers))

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


class Skip2LoRARegressor(RegressorMixin, Estimator):
    """Skip adapters on a frozen network, for one number a sample or several.

    Parameters and attributes are those of :class:`Skip2LoRAClassifier`, without ``class_weight``. A
    ``model`` of as many outputs as ``y`` has columns is the start that adapters correct; with
    ``keep_outputs=False`` its outputs are left out and any model will do. ``model=None`` trains the
    hidden layers of an ``MLP`` to tell five ranges of ``y`` apart and leaves its outputs out.
    """

    _shape: tuple[int, ...]  # of one answer: () or (n_outputs,)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: SamplesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        validation_data: tuple[SamplesLike, ArrayLike] | None = None,
    ) -> Skip2LoRARegressor:
        """Learn from the samples alone, whatever came before; ``y`` is (samples,) or 2-d.

        The others are as of :class:`Skip2LoRAClassifier`.

        Raises:
            DataError: samples or numbers the model cannot take, or weights that are none; and
                ValueError of scikit-learn.
            ParameterError: an option out of range.
            DivergedError: the loss became infinite or NaN.
        """
        beside = None if validation_data is None else self._pair(validation_data)
        return self._fit(X, y, sample_weight, groups, first=True, whole=True, beside=beside)

    def partial_fit(
        self,
        X: SamplesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Skip2LoRARegressor:
        """Learn from more samples, and from all that are kept: by steps, or solved anew.

        Earlier samples are not computed again.

        Raises:
            DataError: ``y`` has another number of columns than before; and as :meth:`fit`.
        """
        return self._fit(X, y, sample_weight, groups, first=not hasattr(self, "_state"))

    def _fit(
        self,
        X: SamplesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        groups: ArrayLike | None,
        *,
        first: bool,
        whole: bool = False,
        beside: tuple[Any, Any] | None = None,
    ) -> Skip2LoRARegressor:
        if self.class_weight is not None:
            check_has_classes(TASKS["regression"])
        x, targets, shape = self._numbers(X, y, first=first)
        part = self._part(x, targets, sample_weight, groups, whole=whole)
        if first:
            model, goal = self._start(part.x, part.answers, part.weight)
            state = self._begin(model, goal, Outputs.of(model, goal.task))
        else:
            state = self._state
            _check_shape(targets, shape, self._shape)
        if beside is not None:
            try:
                x, targets, of_beside = self._numbers(*beside, first=False)
                _check_shape(targets, of_beside, shape)
            except DataError as error:
                raise DataError(f"validation_data: {error}") from error
            state = replace(state, stream=state.stream.judged_by(x, targets))
        self._learn(state, part)
        self._shape = shape
        return self

    def _take_over(self, part: Part) -> None:
        model, goal = self._start(part.x, part.answers, part.weight)
        self._learn(self._begin(model, goal, Outputs.of(model, goal.task)), part)
        self._shape = part.answers.shape[1:]

    def _numbers(
        self, X: SamplesLike, y: ArrayLike, *, first: bool
    ) -> tuple[Any, NDArray[np.float32], tuple[int, ...]]:
        """Samples, their targets, (n, n_outputs), and the shape of one answer as it was given."""
        x, numbers = self._samples(X, y, first=first, multi_output=True, y_numeric=True)
        targets = as_float32(np.asarray(numbers).reshape(len(numbers), -1))
        if not np.isfinite(targets).all():
            raise DataError("y has values too large for float32, expected such as fit: scale it")
        return x, targets, numbers.shape[1:]

    def _start(
        self, x: Any, targets: NDArray[np.float32], own: NDArray[np.float32] | None
    ) -> tuple[Backbone, Goal]:
        width = targets.shape[1]
        goal = Goal(TASKS["regression"])
        if self.model is None:
            return Headless(self._pretrained(x, ranges_of(targets), own, N_RANGES), width), goal
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


def _check_shape(targets: NDArray[Any], shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise DataError for answers of another shape than on the first call."""
    if shape != expected:
        count = len(targets)
        raise DataError(
            f"y has shape {(count, *shape)}, expected {(count, *expected)} as on the first call: "
            "pass the same columns"
        )


def _outputs_of(labels: NDArray[Any]) -> Outputs:
    """What old samples are encoded as, where each output has one of these labels."""
    if is_text(labels):
        return Outputs(range(len(labels)), tuple(map(str, labels)))
    return Outputs([int(label) for label in labels])


def _places(labels: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Where each label is in ``classes``, or the error that scikit-learn raises."""
    if not np.isin(labels, classes).all():
        raise ValueError(
            "`y` has classes not in `self.classes_`. `self.classes_` has "
            f"{classes}. 'y' has {np.unique(labels)}."
        )
    return places_in(classes, labels)
