"""Frigate's state classifier, as its custom_classification.py loads and calls it.

Frigate is on no package index. What it does is done here: the stock interpreter, an image of bytes
resized to the model's size, quotients of the bytes that come out, and ``labelmap.txt``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import other_programs
from skip2lora.cli import run

STATES = ("closed", "open")


@pytest.mark.parametrize("new", [False, True], ids=["", "a new state"])
def test_states_of_a_camera(new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other_programs.lend("frigate", monkeypatch)
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    states = (*STATES, "ajar") if new else STATES
    other_programs.camera(tmp_path, states)
    more = " --new-classes" if new else ""
    for words in (
        f"adapt model.tflite photos --class-names {','.join(STATES)}{more} -o door",
        "predict model.tflite others --adapter door -o said.csv",
        "export model.tflite --adapter door --to tflite -o model.tflite --force",
    ):
        assert run(words.split()) == (2 if words.startswith("export") else 0)  # not over the base
    Path("new").mkdir()
    assert (
        run(
            [
                "export",
                "model.tflite",
                "--adapter",
                "door",
                "--to",
                "tflite",
                "-o",
                "new/model.tflite",
            ]
        )
        == 0
    )

    interpreter = Interpreter(model_path="new/model.tflite", num_threads=2)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (given["dtype"], made["dtype"]) == (np.uint8, np.uint8)
    lines = Path("new/labels.txt").read_text().splitlines()
    labelmap = {index: line.strip() for index, line in enumerate(lines)}
    right, rows = 0, Path("said.csv").read_text().splitlines()[1:]
    for place, file in enumerate(sorted(Path("others").rglob("*.png"))):
        rgb = np.asarray(Image.open(file))
        interpreter.set_tensor(given["index"], np.expand_dims(rgb, axis=0))
        interpreter.invoke()
        res = interpreter.get_tensor(made["index"])[0]
        probs = res / res.sum(axis=0)
        best_id = int(np.argmax(probs))
        right += labelmap[best_id] == file.parent.name
        assert f",{labelmap[best_id]}," in rows[place]
        assert float(rows[place].split(",")[-len(states) + best_id]) == pytest.approx(
            probs[best_id], abs=0.01
        )
    assert right == place + 1
