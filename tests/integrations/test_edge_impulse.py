"""Networks as Edge Impulse's dashboard gives them: features in, softmax out, float or int8."""

from __future__ import annotations

from pathlib import Path

import pytest

import other_programs
from skip2lora.cli import run


@pytest.mark.parametrize("integers", [None, "int8"])
def test_float_and_int8(
    integers: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_programs.lend("edge-impulse", monkeypatch)
    from tflite_exports import Stock

    monkeypatch.chdir(tmp_path)
    x, y = other_programs.impulse(tmp_path, integers)
    Path(other_programs.LITE).rename("gestures.tflite")
    names = "--class-names idle,snake,updown"
    assert run(f"adapt gestures.tflite features.npz {names} -o wrist".split()) == 0
    assert (
        run(
            [
                "export",
                "gestures.tflite",
                "--adapter",
                "wrist",
                "--to",
                "tflite",
                "-o",
                "wrist.tflite",
            ]
        )
        == 0
    )
    before, after = Stock(Path("gestures.tflite")), Stock(Path("wrist.tflite"))
    for one, other in zip(
        [*before.inputs, *before.outputs], [*after.inputs, *after.outputs], strict=True
    ):
        for key in ("name", "dtype", "quantization"):
            assert one[key] == other[key]
    (old,), (new,) = before.run(x).values(), after.run(x).values()
    scores = [float((each.argmax(axis=1) == y).mean()) for each in (old, new)]
    assert scores[1] > max(0.9, scores[0])
    assert Path("labels.txt").read_text().split() == ["idle", "snake", "updown"]


def test_an_eim_is_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "project.eim"
    file.write_bytes(b"\x7fELF" + bytes(100))
    assert run(["inspect", str(file)]) == 2
    assert "of Edge Impulse's .eim the network is to be had as TensorFlow Lite" in (
        capsys.readouterr().err
    )
