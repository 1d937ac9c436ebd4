"""What must hold of a model whose output cannot be undone, in every runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import skip2lora as s2
from skip2lora.errors import ModelError, ParameterError


def learns_new_outputs_alone(path: Path, x: Any, refused: Callable[..., str]) -> s2.AdaptedModel:
    """Its output is refused with the reason wherever it is needed, and new ones are learned."""
    model = s2.load(path)
    [spec] = model.outputs
    assert (model.n_outputs, model.output) == (0, None)
    assert spec.closed
    assert spec.reason
    y = (x[:, 0] > 0).astype(int)
    for call in (lambda: model.predict_proba(x), lambda: s2.adapt(model, x, y)):
        said = refused(ModelError, call)
        assert f"({spec.name} is {spec.reason})" in said
        assert "keep_outputs=False" in said
    said = refused(ParameterError, s2.load, path, output=spec.name)
    assert f"which is {spec.reason}, expected one with logits" in said
    adapted = s2.adapt(model, x, y, keep_outputs=False, epochs=60, learning_rate=0.02)
    assert adapted.score(x, y) > 0.8
    return adapted
