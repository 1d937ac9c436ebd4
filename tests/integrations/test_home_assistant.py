"""pymicro-wakeword loads an exported streaming .tflite, and hears what the adapted model hears."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import other_programs
import skip2lora as s2
from skip2lora.export.tflite import export_tflite

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the other program


def test_its_own_class_gives_the_adapted_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_programs.lend("home-assistant", monkeypatch)
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures

    clips, spoken = other_programs.wake_words(tmp_path)
    framed = [list(MicroWakeWordFeatures().process_streaming(clip.tobytes())) for clip in clips]
    frames = np.concatenate([np.concatenate(of, axis=1) for of in framed])
    frames = frames[:, : frames.shape[1] // 3 * 3]
    x = frames.reshape(len(clips), -1, 3, 40)
    model = s2.load(tmp_path / "okay_nabu.tflite")
    adapted = s2.adapt(model, x, spoken[:, None], task="multi-label")
    assert adapted.score(x, spoken[:, None]) == 1
    export_tflite(adapted.backbone, adapted.adapters, tmp_path / "home.tflite")
    config = json.loads((tmp_path / "okay_nabu.json").read_text())
    config["micro"]["sliding_window_size"] = 1
    (tmp_path / "home.json").write_text(json.dumps(config | {"model": "home.tflite"}))
    want = adapted.predict_proba(x)[:, 0]
    for number in (0, 1):
        listening = MicroWakeWord.from_config(tmp_path / "home.json")
        for frame in frames[number]:
            heard = listening.process_streaming_prob(frame[None, None])
        # A step of 1/256, and what another interpreter rounds otherwise.
        assert listening._probabilities[-1] == pytest.approx(want[number], abs=0.02)
        assert (heard > 0.5) == bool(spoken[number])
