"""Recordings on the command line: adapt, evaluate, predict, plan, fill, with the same windows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip group runtimes")
pytest.importorskip("soundfile", reason="needs soundfile: pip group test")
pytest.importorskip("soxr", reason="needs soxr: pip group test")

from desk import Answer
from sound_models import RATE, listener, record, tone, tones

Type = Callable[..., Answer]


@pytest.fixture
def field(desk: Path) -> Path:
    """A model that takes 0.25 s of sound, recordings to adapt to, and others to test on."""
    listener(desk / "listener.onnx")
    tones(desk / "sound", 6)
    tones(desk / "heard", 3, seed=500)
    return desk


def adapted(type_in: Type, *words: object) -> Answer:
    made = type_in(
        "adapt", "listener.onnx", "sound", "--rate", RATE, "--no-keep-outputs", "-o", "ears", *words
    )
    assert made.code == 0, made.err
    return made


def test_from_a_folder_to_predictions(field: Path, type_in: Type) -> None:
    made = adapted(type_in, "--json")
    assert made.json["n_samples"] == 26  # of 12 recordings
    facts = type_in("evaluate", "listener.onnx", "heard", "--adapter", "ears", "--json").json
    assert facts["accuracy"] > 0.9
    shown = type_in("inspect", "ears")
    assert "recordings" in shown.out
    assert "rate 8000 Hz, window 0.25 s, hop 0.25 s, crop slide, gain 1" in shown.out
    answer = type_in("predict", "listener.onnx", "heard", "--adapter", "ears", "-o", "p.csv")
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader((field / "p.csv").read_text().splitlines()))
    assert len(rows) == facts["n_samples"]
    assert list(rows[0])[:8] == [
        "row", "prediction", "name", "probability", "file", "start", "end", "true",
    ]  # fmt: skip
    assert {row["file"].split("/")[0] == row["true"] for row in rows} == {True}
    assert (rows[1]["start"], rows[1]["end"]) == ("0.000", "0.250")


def test_every_window_is_predicted(field: Path, type_in: Type) -> None:
    """Also with an adapter made of one window a recording; the rest of its options hold."""
    made = adapted(type_in, "--crop", "loudest", "--json")
    assert made.json["n_samples"] == 12
    record(field / "one.wav", np.concatenate([tone(300, 1), tone(1500, 1)]))
    words = ("predict", "listener.onnx", "one.wav", "--adapter", "ears")
    assert type_in(*words, "-o", "p.csv").code == 0
    assert len((field / "p.csv").read_text().splitlines()) == 1 + 8
    assert type_in(*words, "-o", "labels.txt").code == 0
    lines = [line.split("\t") for line in (field / "labels.txt").read_text().splitlines()]
    assert [(float(start), float(end), name) for start, end, name in lines] == [
        (0.0, 1.0, "low"), (1.0, 2.0, "high"),
    ]  # fmt: skip
    assert type_in(*words, "--crop", "centre", "-o", "q.csv").code == 0
    assert len((field / "q.csv").read_text().splitlines()) == 2


def test_labels_of_one_recording(field: Path, type_in: Type) -> None:
    record(field / "one.wav", np.concatenate([tone(300, 1), tone(1500, 1)]))
    (field / "labels.txt").write_text("0\t1\tlow\n1\t2\thigh\n")
    made = type_in(
        "adapt", "listener.onnx", "one.wav", "--segments", "labels.txt", "--rate", RATE,
        "--no-keep-outputs", "-o", "ears", "--json",
    )  # fmt: skip
    assert made.code == 0, made.err
    assert made.json["n_samples"] == 8


def test_rows_are_kept_in_a_folder(field: Path, type_in: Type) -> None:
    first = adapted(type_in, "--cache-dir", "rows", "--json")
    assert first.json["n_forwards"] == first.json["n_samples"]
    again = adapted(type_in, "--cache-dir", "rows", "--force", "--json")
    assert again.json["n_forwards"] == 0
    other = type_in(
        "adapt", "listener.onnx", "sound", "--rate", RATE, "--gain", 2, "--no-keep-outputs",
        "--cache-dir", "rows", "-o", "other",
    )  # fmt: skip
    assert (other.code, other.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("adapt listener.onnx sound -o x", "--rate is missing"),
        ("adapt listener.onnx sound --rate 8000 --size 8 -o x", "of images and of recordings"),
        ("adapt listener.onnx sound --rate 8000 --window 1 -o x", "--window is 1 s"),
        ("adapt model.safetensors test.npz --rate 8000 -o x", "rate, window, hop, crop"),
        ("adapt listener.onnx sound --size 8 -o x", "margin or square are given for sound"),
        ("pretrain sound -o x.safetensors", "expected a model that takes sound"),
        ("adapt model.safetensors sound --rate 8000 --group a -o x", "has recordings and no"),
        ("predict listener.onnx heard --rate 8000 -o labels.txt", "of 6 recordings, expected"),
        ("plan listener.onnx --rate 8000", "without DATA, expected a folder of recordings"),
    ],
)
def test_bad_input(words: str, said: str, field: Path, type_in: Type) -> None:
    answer = type_in(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (field / "x").exists()


def test_other_recordings_judge(field: Path, type_in: Type) -> None:
    made = adapted(type_in, "--validation-data", "heard", "--json")
    assert made.json["n_measured"] == type_in(
        "evaluate", "listener.onnx", "heard", "--adapter", "ears", "--json"
    ).json["n_samples"]  # fmt: skip


def test_options_of_sound_say_what_a_folder_is(field: Path, type_in: Type) -> None:
    """Pictures beside the recordings are left out, and counted."""
    (field / "sound" / "low" / "spectrum.png").write_bytes(b"a picture")
    assert "no recording, left out: .png 1" in adapted(type_in).err


def test_a_class_of_one_recording(field: Path, type_in: Type) -> None:
    """No held-out split is possible, which is said."""
    for file in list((field / "sound" / "low").iterdir())[1:]:
        file.unlink()
    made = adapted(type_in)
    assert "never held out, as all of it would be in one fold: low" in made.out
