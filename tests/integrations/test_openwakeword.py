"""openWakeWord loads an exported .onnx as one of its own, and gives the adapted model's answers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import other_programs
import skip2lora as s2
from skip2lora.export.onnx import export_onnx

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the other program


def opened(file: Path) -> Any:
    """A model of openWakeWord; the name of its argument has changed in 0.5."""
    from openwakeword.model import Model

    later = "inference_framework" in inspect.signature(Model.__init__).parameters
    return Model([str(file)], **({"inference_framework": "onnx"} if later else {}))


def test_its_own_model_class_gives_the_adapted_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_programs.lend("openwakeword", monkeypatch)
    from openwakeword.utils import AudioFeatures

    clips, spoken = other_programs.wake_words(tmp_path)
    features = AudioFeatures().embed_clips(clips)[:, -16:]
    model = s2.load(tmp_path / "alexa_v0.1.onnx")
    adapted = s2.adapt(model, features, spoken[:, None], task="multi-label")
    assert adapted.score(features, spoken[:, None]) == 1
    file = tmp_path / "alexa_home.onnx"
    export_onnx(adapted.backbone, adapted.adapters, file)
    for clip, word in zip(clips[:4], spoken, strict=False):
        listening, states, scores = opened(file), [], []
        for chunk in clip.reshape(-1, 1280):
            scores.append(listening.predict(chunk)["alexa_home"])
            states.append(listening.preprocessor.get_features(16)[0])
        want = adapted.predict_proba(np.stack(states))[:, 0]
        want[:5] = 0  # as it gives while it begins
        np.testing.assert_allclose(scores, want, atol=1e-5)
        assert (scores[-1] > 0.5) == bool(word)
