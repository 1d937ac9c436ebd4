"""What labels of a service are: names of classes, or numbers, as its model gives them."""

from __future__ import annotations

from skip2lora.backbones.base import Backbone
from skip2lora.errors import ParameterError
from skip2lora.serve.answering import Frozen
from skip2lora.serve.classes import Classes
from skip2lora.serve.learning import as_rows
from skip2lora.serve.numbers import Numbers
from skip2lora.serve.vocabulary import Vocabulary
from skip2lora.tasks.task import CLASSIFICATION, REGRESSION, TASKS
from skip2lora.training.lab_set import LabSet
from skip2lora.training.rehearsal import Keep, check_lab_set, find_lab_set


def check_task(model: Backbone) -> None:
    """Raise ParameterError for a model of several labels or numbers."""
    numbers = model.task == REGRESSION.name
    if model.task != CLASSIFICATION.name and not (numbers and model.n_outputs == 1):
        several = f" of {model.n_outputs} outputs" if numbers else ""
        raise ParameterError(
            f"the model is {model!r} for {model.task}{several}, expected one of classes or of one "
            "number, without an adapter: load it alone, and pass adapter="
        )


def check_kept(lab_set: Keep | None, known: Vocabulary) -> None:
    """Raise ParameterError for a lab set of outputs that an adapter left out."""
    if known.titles and not known.n_own and lab_set is not None and lab_set is not False:
        raise ParameterError(
            "lab_set= is given with an adapter that leaves out the model's own classes, of which "
            "its samples are, expected one of them: leave lab_set= out"
        )


def labels_of(
    frozen: Frozen, lab_set: Keep | None, *, all_classes: bool, seed: int
) -> Classes | Numbers:
    """Those of the model, with its lab set.

    Raises:
        DataError, FileError, ModelError, ParameterError: the lab set cannot be used.
    """
    keep = as_rows(frozen, find_lab_set(frozen.model, lab_set)) or False
    if isinstance(keep, LabSet):
        check_lab_set(keep, frozen.rows_of, TASKS[frozen.task])
    if frozen.numbers:
        return Numbers(frozen, keep, seed=seed)
    return Classes(frozen, keep, all_classes=all_classes, seed=seed)
