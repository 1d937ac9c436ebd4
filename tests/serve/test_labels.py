"""Which models a service takes, and what their labels are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serve.place import meter, model
from skip2lora.errors import ParameterError
from skip2lora.serve.answering import Frozen
from skip2lora.serve.classes import Classes
from skip2lora.serve.labels import check_task, labels_of
from skip2lora.serve.numbers import Numbers


def test_labels_are_as_the_model_gives_them() -> None:
    for network, kind in ((model(), Classes), (meter(), Numbers)):
        check_task(network)
        labels = labels_of(Frozen(network), False, all_classes=True, seed=0)
        assert isinstance(labels, kind)


@pytest.mark.parametrize(("task", "n_outputs"), [("multi-label", 1), ("regression", 2)])
def test_several_labels_and_several_numbers_are_refused(task: str, n_outputs: int) -> None:
    of: Any = SimpleNamespace(task=task, n_outputs=n_outputs)
    with pytest.raises(ParameterError, match="expected one of classes or of one number"):
        check_task(of)
