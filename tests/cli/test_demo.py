"""The demonstration, as `make demo` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from desk import digests, refused
from skip2lora.cli import run


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    import contextlib
    import io
    import json

    folder = tmp_path_factory.mktemp("story")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as out:
        assert run(["demo", "--json"]) == 0
    return folder, json.loads(out.getvalue())


def test_accuracy_falls_and_comes_back(story):
    _, facts = story
    assert facts["silent_accuracy"] > 0.95
    assert facts["accuracy"] < 0.75
    last, skip2 = (facts["methods"][name] for name in ("lora-last", "skip2-lora"))
    assert facts["accuracy"] < last["accuracy"] < skip2["accuracy"]
    assert skip2["accuracy"] > 0.93
    assert (last["trainable_parameters"], skip2["trainable_parameters"]) == (396, 1828)


def test_the_curve_is_a_picture(story):
    folder, facts = story
    assert facts["curve"] == "demo/curve.png"
    assert set(digests(folder)) == {"demo/curve.png"}
    assert (folder / "demo/curve.png").read_bytes().startswith(b"\x89PNG")


def test_table_for_a_person(type_in):
    answer = type_in("demo")
    assert answer.code == 0
    for part in (
        "none",
        "last layer only",
        "Skip2-LoRA",
        "trainable",
        "cache fill",
        "training",
        "curve.png",
    ):
        assert part in answer.out
    assert type_in("demo").code == 0  # again, over the old curve


def test_without_matplotlib_it_says_so(type_in, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    answer = type_in("demo", "--json")
    assert answer.code == 0
    assert answer.json["curve"] is None
    assert "skip2lora[plot]" in type_in("demo").out
    assert not Path("demo").exists()


@pytest.mark.parametrize("words", [["--store", "fan"], ["--port", 0], ["--stay"], ["--seconds", 1]])
def test_what_is_of_the_service_needs_it(type_in, words):
    refused(type_in("demo", *words), f"got {words[0]} without --field")
