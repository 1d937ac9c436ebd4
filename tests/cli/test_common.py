"""What the commands share: words of options, numbers for a person, and what is refused early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.errors import FileError, ParameterError
from skip2lora.plan import TapPlan


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (366600, "358.0 KiB"),
        (3 << 20, "3.0 MiB"), (5 << 29, "2.5 GiB"),
    ],
)  # fmt: skip
def test_size(n_bytes: int, text: str) -> None:
    assert common.size(n_bytes) == text


def test_durations_shares_and_shapes() -> None:
    assert common.duration(0.125, digits=3) == "0.125 ms"
    assert common.duration(999.94) == "999.9 ms"
    assert common.duration(1500) == "1.50 s"
    assert common.percent(0.8554) == "85.5 %"
    assert common.shape_text((3, None, 224)) == "3x?x224"


def test_a_table_of_taps() -> None:
    taps = [
        TapPlan("conv", "map", (3, None, 10), 48, 192),
        TapPlan("a.long.name", "vector", (1000,), 1000, 0),
    ]
    head, first, second = common.tap_lines(taps)
    assert len(head) == len(first) == len(second)
    assert first.split() == ["0", "conv", "map", "3x?x10", "48", "192"]
    assert second.split() == ["1", "a.long.name", "vector", "1000", "1,000", "the", "sample"]


@pytest.mark.parametrize(
    ("text", "taps"),
    [
        (None, None), ("3", 3), ("-1", -1), ("3,", [3]), ("0,-1", [0, -1]),
        ("conv*, 2 ,fc", ["conv*", 2, "fc"]), ("fc", "fc"), ("3x", "3x"),
    ],
)  # fmt: skip
def test_words_of_taps(text: str | None, taps: object) -> None:
    made = []

    @click.command()
    @shared.taps
    def command(taps: object) -> None:
        made.append(taps)

    command([] if text is None else ["--taps", text], standalone_mode=False)
    assert made == [taps]


def test_words_of_names() -> None:
    made = []

    @click.command()
    @shared.columns
    @shared.class_names
    def command(class_names: object, **options: Any) -> None:
        made.append((common.columns_of(options), class_names))

    words = ["--label", "a", "--ignore", "b,c", "--class-names", "x, y"]
    command(words, standalone_mode=False)
    command([], standalone_mode=False)
    assert made == [({"target": ("a",), "ignore": ("b", "c")}, ("x", "y")), ({}, None)]


def test_facts_or_lines(capsys: pytest.CaptureFixture[str]) -> None:
    common.show({"a": 1}, ["one", "two"], as_json=False)
    assert capsys.readouterr().out == "one\ntwo\n"
    common.show({}, ["a class \x1b[31m\nred"], as_json=False)
    common.say_notes(["a column \x1b[31m\nred"])
    said = capsys.readouterr()
    assert said.out == "a class \\x1b[31m\\nred\n"
    assert said.err == "skip2lora: a column \\x1b[31m red\n"
    common.show({"a": 1}, ["one", "two"], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_files_that_are_not_made_of_one_another(tmp_path: Path) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    model.touch()
    shared.check_onnx(model, out, "prepared", force=False)
    with pytest.raises(ParameterError, match=r"m\.bin ends in \.bin, expected \.onnx.* exported"):
        shared.check_onnx(tmp_path / "m.bin", out, "exported", force=False)
    with pytest.raises(ParameterError, match=r"out ends in nothing"):
        shared.check_onnx(model, tmp_path / "out", "exported", force=False)
    out.touch()
    with pytest.raises(FileError, match=r"o\.onnx exists"):
        shared.check_onnx(model, out, "prepared", force=False)
    shared.check_onnx(model, out, "prepared", force=True)
    with pytest.raises(ParameterError, match="is the model itself"):
        shared.check_onnx(model, model, "prepared", force=True)
