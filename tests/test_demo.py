"""The demonstration, without the command around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skip2lora import demo
from skip2lora.errors import FileError, MissingExtraError


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> demo.DemoResult:
    monkeypatch.setattr(demo, "PRETRAIN_EPOCHS", 5)
    monkeypatch.setattr(demo, "ADAPT_EPOCHS", 3)
    return demo.run_demo(seed=1)


def test_the_curves_end_where_the_adapters_are(result: demo.DemoResult) -> None:
    test = result.split.test
    assert list(result.curves) == list(demo.METHODS)
    for method, curve in result.curves.items():
        assert len(curve) == 1 + 3
        assert curve[0] == result.noisy_accuracy == result.model.score(test.x, test.labels)
        assert curve[-1] == result.accuracy[method]
        assert result.adapted[method].method == method


def test_the_network_and_the_samples_are_those_of_seed_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PRETRAIN_EPOCHS", 1)
    monkeypatch.setattr(demo, "ADAPT_EPOCHS", 1)
    usual, first = demo.run_demo(), demo.run_demo(seed=0)
    assert usual.curves == first.curves
    assert usual.model.fingerprint == first.model.fingerprint
    np.testing.assert_array_equal(usual.split.test.x, first.split.test.x)
    assert usual.model.tap_widths[1:] == (96, 96)


def test_the_picture(result: demo.DemoResult, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    demo.draw_curve(result, tmp_path / "new" / "curve.png")
    assert (tmp_path / "new" / "curve.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot make"):
        demo.draw_curve(result, tmp_path / "file" / "curve.png")


def test_without_matplotlib(
    result: demo.DemoResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"skip2lora\[plot\]"):
        demo.draw_curve(result, tmp_path / "curve.png")
