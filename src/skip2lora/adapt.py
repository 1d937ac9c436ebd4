"""The front door: ``adapt(model, X, y)`` gives an :class:`~skip2lora.AdaptedModel`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skip2lora.adapted import AdaptedModel as AdaptedModel
from skip2lora.adapted import NewlyAdapted
from skip2lora.adapters.store import CacheFolder
from skip2lora.arrays import SamplesLike
from skip2lora.backbones.base import Backbone, check_backbone
from skip2lora.backbones.standins import Binary, Headless, for_task
from skip2lora.continuing import Going, Learned
from skip2lora.data.media import Media
from skip2lora.errors import DataError, ParameterError
from skip2lora.methods import Method
from skip2lora.tasks.columns import Columns
from skip2lora.tasks.labels import check_names, encode, two_names
from skip2lora.tasks.targets import ONE_COLUMN_AN_OUTPUT, warn_of_numbers
from skip2lora.tasks.task import NO_OUTPUTS, Answers, Encoded, Goal, Outputs, Task, task_for
from skip2lora.tasks.weights import ClassWeight, check_weights, leave_out, places_of, weigh
from skip2lora.training.fit import Fit, check_judges, check_outputs
from skip2lora.training.folds import check_groups
from skip2lora.training.jobs import CheckedSamples, weighed
from skip2lora.training.loop import Callback, checked
from skip2lora.training.mlp_rule import MlpRule
from skip2lora.training.options import (
    asked_of,
    chosen_recipe,
    method_of,
    resolve_options,
)
from skip2lora.training.problem import check_contrast
from skip2lora.training.rehearsal import (
    Keep,
    OldSamples,
    old_samples,
    warn_of_classes,
    weighed_beside,
)
from skip2lora.training.running import Progress as Progress
from skip2lora.training.running import folder_of, run
from skip2lora.training.suspects import warn_of_suspects
from skip2lora.training.watch import Checkpoint, Watch

#: Samples and labels for validation alone, and how much each counts in the loss.
ValidationData = (
    tuple[SamplesLike, ArrayLike | Answers] | tuple[SamplesLike, ArrayLike | Answers, ArrayLike]
)


def adapt(
    model: Backbone | AdaptedModel,
    X: SamplesLike,
    y: ArrayLike | Encoded,
    *,
    method: str | None = None,
    recipe: str | None = None,
    rank: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    optimizer: str | None = None,
    weight_decay: float | None = None,
    schedule: str | None = None,
    validation: float = 0.0,
    patience: int | None = None,
    cache: bool | CacheFolder | None = None,
    cache_samples: int | None = None,
    cache_size: int | str | None = None,
    cache_policy: str | None = None,
    projection: int | None = None,
    projection_from: str | None = None,
    cache_dtype: str = "float32",
    task: str | None = None,
    new_classes: bool = False,
    keep_outputs: bool = True,
    output_names: Sequence[str] | None = None,
    images: Media | None = None,
    columns: Columns | None = None,
    standardize: bool | None = None,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight | None = None,
    solver: str | None = None,
    penalty: float | None = None,
    groups: ArrayLike | None = None,
    validation_data: ValidationData | None = None,
    callback: Callback | None = None,
    keep: Keep | None = None,
    keep_weight: float | None = None,
    suspects: bool = False,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    keep_rows: bool = False,
    forget: ArrayLike | None = None,
) -> NewlyAdapted:
    """Fit to field data, with nothing to set; ``model`` stays as it is.

    ``X`` is (samples, features), or what the model takes. ``y`` is (samples,) with labels the model
    knows, numbers or names; with ``new_classes`` other labels become new outputs. ``task`` is
    classification, multi-label (``y`` is (samples, n_outputs) of 0 and 1) or regression (numbers).
    ``keep_outputs=False`` leaves the model's own outputs out and learns all outputs anew, on its
    taps: the labels of ``y`` alone, or one output a column of ``y``, however many; a model without
    outputs needs it for several labels and numbers. Labels 0 and 1, or two names in sorted order,
    are the two classes of a model with one output. ``y`` may also be what
    ``skip2lora.tasks.labels.encode`` gave for ``model``. ``output_names`` name the model's outputs,
    or the new columns, ``images`` says how images became ``X``, ``columns`` what its columns are:
    all are kept. DataFrames are matched by these names.

    ``recipe`` is "auto" unless ``method``, ``rank``, ``solver``, ``penalty`` or an option of
    training by steps (see below) is set, even to its usual value. Convex fits of the last tap and
    of all taps, beside half the model's own logits where labels are its own, and of classes a ridge
    fit of all taps, are then solved exactly, and mixed by how they do on samples held out, as are
    penalties chosen. ``history.tried`` has each of them, ``history.held_out`` the accuracy to
    expect, with its interval: no sample has a part in choosing what answers it. Held out are 4
    blocks of neighbouring rows of each class in turn, or whole ``groups``, (samples,) numbers or
    names, such as of a person or a recording; or ``validation_data``, (X, y) or (X, y, weight),
    which are not trained on, or the share ``validation`` of the samples. An ``MLP`` that keeps
    its classes goes by a fixed rule instead (docs/mlp-rule.md), which they judge all the same.
    ``recipe="paper"`` is what the paper says, whatever the model.

    ``method``, of training by steps, is by default ``skip2-lora`` (section 4); the others are in
    :data:`skip2lora.methods.METHODS`. Those that train through the network need an ``MLP``.
    ``rank``, ``epochs``, ``learning_rate``, ``optimizer`` and ``standardize`` are by default those
    of the paper for an ``MLP`` of classes: 4, 300, 0.01, sgd, off; for any other model, and for
    outputs learned anew, 4, 50, 0.001, adam, on. ``batch_size`` is by default 20, or the number of
    samples if that is smaller. ``optimizer`` is sgd, momentum, adam or adamw; ``weight_decay`` by
    default 0.01 for adamw, else 0; ``schedule`` constant or cosine; ``seed`` that of all that is
    random. ``validation`` holds out that share of the samples, and the epoch is kept that did best
    on them; training ends after ``patience`` epochs without a better one. ``cache`` turns the
    Skip-Cache on or off where the method allows it; a :class:`~skip2lora.CacheFolder` keeps rows on
    disk beyond it, for whatever is adapted next: ``history.n_forwards`` counts those that it
    lacked. The cache may be for ``cache_samples`` rows, or as many as ``cache_size`` holds (bytes,
    "64KiB"), the others being computed in each epoch, by ``cache_policy`` pin (who came first
    stays), fifo or lru: no bit of the result depends on these. Beside a folder the others are read
    from it, in blocks where they are narrow, which is another order (docs/cache.md).
    ``standardize`` trains on scaled taps; the result takes them as they are. ``solver="steps"``
    asks for all of that with its usual values.

    ``solver`` may also be exact: the best that all taps can give is then solved for, with no rate,
    no epochs and no seed. ``penalty`` holds its weights down, from 0; by default the one of 1,
    0.1 .. 1e-6 that does best on samples held out by folds, blocks of neighbouring rows (4, and up
    to 10 of 200 samples or fewer), or by ``validation``. ``rank`` is then by default as many as
    there are classes, which loses nothing; ``history`` says what a smaller one costs.

    ``projection`` keeps so many numbers of each tap alone, in any recipe: columns that are found
    from a first part of the samples, by ``projection_from`` pls (partial least squares, by their
    answers), pca or random. The result is of whole taps all the same.

    ``cache_dtype`` is how rows are kept, with every recipe: float32, float16 or bfloat16, int8 or
    int4. Base logits stay float32.

    ``callback`` gets an :class:`~skip2lora.EpochReport` an epoch, a penalty, or a fit tried.
    ``progress`` is called with how many samples have passed the frozen model so far, and how many
    there are: what takes longest of most models, which run in another runtime.

    ``sample_weight``, (samples,), says how much each sample counts in the loss relative to the
    others: with 2 as if it were there twice, with 0 as if it were not. ``class_weight`` is a number
    a class, by its name or number (a mapping; others count 1), or "balanced": samples / (classes *
    samples of the class), as in scikit-learn; samples to ``keep`` are among these. Both are
    multiplied. The statistics of a batch, of methods that use them, count each sample once.

    ``keep`` are samples of the old domain and their labels, ``(X, y)``, which are learned beside
    the new ones so that what the model knew is kept, or a lab set
    (:class:`~skip2lora.training.lab_set.LabSet`) or its file; by default the lab set that lies
    beside the model's file, if there is one, and False leaves it. Their labels are those of the
    result. One counts as much as ``keep_weight`` new ones: by default so many that old and new ones
    count alike in all, and at least one. ``(X, y, weight)`` says how much beside each other.
    ``suspects`` lists labels that answers held out contradict, in ``fit.suspects``, by an exact fit
    on the same rows; with the recipe auto or the exact solver they are listed in any case, unless
    there are ``validation_data``.

    ``checkpoint`` is where training by steps is kept now and then, so that a run that was stopped
    goes on, and ends with the same bits (:class:`~skip2lora.Checkpoint`).

    ``keep_rows`` lets one go on later: ``save`` then keeps rows and answers of the samples beside
    the adapter. ``model`` may be such an adapted model: ``X`` and ``y`` join the samples that it
    learned, and the result is as if all had come at once, by the same options unless others are
    set. ``forget`` are ids of samples to leave out for good, (n,), from 0 in the order in which
    they came; ``X`` and ``y`` may then be empty.

    Raises:
        DataError: samples, labels or groups that do not fit the model or each other; one class
            alone, or more samples than memory, with the recipe auto or the exact solver.
        FileError: the lab set, the checkpoint or the cache cannot be read, or one of the latter two
            not be written.
        ModelError: one of them is damaged, or of another model or run.
        ParameterError: an option out of range, or a method the model cannot run.
        DivergedError: the loss became infinite or NaN.
    """
    return _adapt(model, X, y, locals())[0]


def adapt_and_measure(
    model: Backbone | AdaptedModel,
    X: SamplesLike,
    y: ArrayLike | Encoded,
    **options: Any,
) -> tuple[NewlyAdapted, Fit]:
    """As :func:`adapt`, with how good the result is.

    Samples whose rows were not kept pass the model once more for it.
    """
    adapted, measure = _adapt(model, X, y, (adapt.__kwdefaults__ or {}) | options)
    return adapted, adapted.fit or measure()


def _adapt(
    model: Backbone | AdaptedModel, X: Any, y: Any, options: dict[str, Any]
) -> tuple[NewlyAdapted, Callable[[], Fit]]:
    """The result, and how to measure it; ``options`` are the keywords of :func:`adapt`, all."""
    going = Going.of(model, X, y, options, adapt.__kwdefaults__ or {})
    adapted, measure, samples = _fitted(going.model, going.x, going.y, going.options)
    if isinstance(model, AdaptedModel) and model.thresholds is not None:
        adapted = adapted.with_thresholds(model.thresholds.precision)
    return replace(adapted, memory=going.memory(samples)), measure


def _fitted(
    model: Backbone, X: Any, y: Any, options: dict[str, Any]
) -> tuple[NewlyAdapted, Callable[[], Fit], Learned]:
    """As :func:`_adapt`, with what was learned."""
    watch = _watch(options["callback"], options["checkpoint"])
    folder, options = folder_of(options)
    columns = (options["columns"] or Columns()).over(check_backbone(model).columns).of(X)
    samples = checked(model, columns.take(X))  # by which a module's outputs are found
    samples, y, weight, group, row = _that_count(samples, y, options)
    learned = task_for(model, options["task"])
    chosen, options = method_of(options["method"]), options | {"recipe": chosen_recipe(options)}
    keep_outputs, new_classes = options["keep_outputs"], options["new_classes"]
    check_outputs(chosen, learned, keep_outputs, new_classes, options["output_names"])
    if keep_outputs and chosen.skip and learned.name != model.task:
        model = for_task(model, learned.name)
    names = check_names(options["output_names"], model.n_outputs) if keep_outputs else None
    outputs = _own_outputs(model, names, y, learned, new_classes) if keep_outputs else NO_OUTPUTS
    encoded = encode(
        learned, y, len(samples), outputs, new_outputs=new_classes or not keep_outputs,
        fix=f"{ONE_COLUMN_AN_OUTPUT}, or learn all anew with keep_outputs=False",
    )  # fmt: skip
    part = CheckedSamples(samples, encoded.y, group=group, row=row, names=encoded.all_outputs.names)
    of_all = Learned.of(samples, encoded, weight, options["groups"], row)
    if weight is not None or options["class_weight"] is not None:
        part, encoded, weight = _weighed(part, encoded, weight, learned, options["class_weight"])
    rule = MlpRule.of(model, part.x, learned, options["recipe"] if keep_outputs else None)
    model = rule.backbone
    old = _old_samples(model, encoded, learned, chosen, columns, options)
    if options["class_weight"] is not None and old is not None:
        part, old = weighed_beside(part, old, weight, options["class_weight"], places_of(encoded))
    if not keep_outputs:
        model = Headless(model, encoded.outputs.count or 0)
        names = check_names(options["output_names"], model.n_outputs)
    if outputs.names is None or isinstance(model, Binary):  # of columns, or of classes of a file
        names = names or encoded.outputs.names
    part = _with_validation(part, model, encoded, learned, options)
    n_samples = len(part.x) + (0 if old is None else len(old))
    resolved = resolve_options(
        model.recipe, model.tap_widths, n_samples, bool(part.validation), **asked_of(options)
    )
    new = encoded.new_labels
    goal = Goal(learned, model.n_outputs + len(new) if new else None)
    check_judges(resolved, options["groups"], options["validation_data"])
    resolved = rule.settled(resolved, n_samples)
    done = run(model, part, resolved, old=old, folder=folder, given=options, goal=goal, watch=watch)
    measure = partial(done.measure, encoded.titles, model.n_outputs if keep_outputs else 0)
    adapted = NewlyAdapted(
        *done.on(model), chosen.name, done.history, done.timing, done.cache_bytes,
        done.cache_overhead_bytes, task=learned.name, output_names=names, new_labels=new,
        images=options["images"], columns=columns, fit=measure() if done.rows_kept else None,
    )  # fmt: skip
    if adapted.fit is not None and adapted.fit.suspects:
        warn_of_suspects(adapted.fit.suspects, len(part.y))
    return adapted, measure, of_all


def _watch(callback: Callback | None, checkpoint: Checkpoint | None) -> Watch:
    """Both, once it is clear that a checkpoint can be written: before any work.

    Raises:
        FileError: as ``Checkpoint.prepare``.
        ParameterError: it is no checkpoint.
    """
    if checkpoint is not None:
        if not isinstance(checkpoint, Checkpoint):
            raise ParameterError(
                f"checkpoint is {type(checkpoint).__name__}, expected a skip2lora.Checkpoint, of a "
                "folder: pass one"
            )
        checkpoint.prepare()
    return Watch(callback, checkpoint)


def _that_count(
    samples: Any, y: Any, options: Mapping[str, Any]
) -> tuple[Any, Any, Any, NDArray[np.int64] | None, NDArray[np.int64]]:
    """Samples without those of weight 0: answers, weights, groups, and the number of each."""
    weight, group, row = options["sample_weight"], options["groups"], np.arange(len(samples))
    if group is not None:
        group = check_groups(group, len(samples))
    if weight is not None:
        weight = check_weights(weight, len(samples))
        row, group = row[weight > 0], None if group is None else group[weight > 0]
        samples, y, weight = leave_out(samples, y, weight)
    return samples, y, weight, group, row


def _weighed(
    part: CheckedSamples,
    encoded: Encoded,
    own: NDArray[np.float32] | None,
    learned: Task,
    class_weight: ClassWeight | None,
) -> tuple[CheckedSamples, Encoded, NDArray[np.float32] | None]:
    """With weights, and the samples' ``own`` ones, of those that are not left out."""
    weights = weigh(learned, encoded, own, class_weight)
    part = weighed(part, weights)
    if own is not None and weights is not None:
        own = own[weights > 0]
    return part, replace(encoded, y=part.y), own


def _old_samples(
    model: Backbone,
    encoded: Encoded,
    learned: Task,
    chosen: Method,
    columns: Columns,
    options: Mapping[str, Any],
) -> OldSamples | None:
    """Those to keep, after a look at which classes there are."""
    old = old_samples(
        options["keep"], options["keep_weight"], model, encoded, task=learned, method=chosen,
        keep_outputs=options["keep_outputs"], check=lambda x: checked(model, columns.take(x)),
    )  # fmt: skip
    if not learned.numeric_targets:
        labels = encoded.y if old is None else np.concatenate([encoded.y, old.y])
        if options["recipe"] == "auto" or options["solver"] == "exact":
            check_contrast(labels)
        warn_of_classes(labels, encoded.titles, all_of=options["keep_outputs"])
    elif options["task"] is None:
        warn_of_numbers(encoded.y)
    return old


def _own_outputs(
    model: Backbone, names: tuple[str, ...] | None, y: Any, learned: Task, new_classes: bool
) -> Outputs:
    """Labels are numbered as the outputs, whatever the classes of a model are.

    Raises:
        ModelError: it has no outputs, and none are to be added.
    """
    if not new_classes and not model.n_outputs:
        model.base.need_outputs(closed=True)
    names = names or Outputs.of(model, learned).names
    if names is None and isinstance(model, Binary) and not new_classes:
        names = two_names(y)
    return Outputs(range(model.n_outputs), names)


def _with_validation(
    part: CheckedSamples, model: Backbone, encoded: Encoded, learned: Task, given: Mapping[str, Any]
) -> CheckedSamples:
    """``part`` with samples for validation alone, of the outputs of ``encoded``, if any are given.

    Raises:
        DataError: they do not fit the model, or have other labels.
        ParameterError: they are no pair.
    """
    if given["validation_data"] is None:
        return part
    given_data = given["validation_data"]
    if not isinstance(given_data, tuple) or len(given_data) not in (2, 3):
        raise ParameterError(
            f"validation_data is {type(given_data).__name__}, expected samples and labels, (X, y), "
            "and weights if these differ: pass them, or leave it out"
        )
    x, y, *more = given_data
    columns = (given["columns"] or Columns()).over(model.columns)
    weight = None
    try:
        samples = checked(model, columns.take(x))
        if more:
            samples, y, weight = leave_out(samples, y, check_weights(more[0], len(samples)))
        answers = encode(learned, y, len(samples), encoded.all_outputs)
    except DataError as error:
        raise DataError(f"validation_data: {error}") from error
    none = np.full(len(samples), -1)
    return replace(part, validation=CheckedSamples(samples, answers.y, weight, row=none))
