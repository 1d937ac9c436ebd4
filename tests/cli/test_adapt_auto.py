"""``adapt --recipe auto``, as a user types it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from desk import Answer, refused

TypeIn = Callable[..., Answer]
ADAPT = ("adapt", "model.safetensors")


def test_it_says_what_to_expect_and_of_what_it_consists(desk: Path, type_in: TypeIn) -> None:
    words = (*ADAPT, "field.npz", "--recipe", "auto", "-o", "auto")
    said = type_in(*words)
    assert said.code == 0, said.err
    assert re.search(
        r"^held-out accuracy [\d.]+ % \([\d.]+ to [\d.]+ %\), 10 folds\n"
        r"(mix [\d.]+|learned from) (all|last) tap",
        said.out, re.MULTILINE,
    )  # fmt: skip
    assert " on 60 held-out samples" in said.out
    facts = type_in(*words, "--force", "--json").json
    assert facts["recipe"] == "auto"
    assert sum(each["weight"] for each in facts["tried"]) == pytest.approx(1)
    assert {"name", "held_out", "weight", "penalty", "milliseconds"} == set(facts["tried"][0])
    assert facts["held_out"]["low"] < facts["held_out"]["value"] == facts["after"]["accuracy"]
    again = type_in("evaluate", "model.safetensors", "field.npz", "--adapter", "auto", "--json")
    assert again.json["accuracy"] == pytest.approx(facts["accuracy"])
    steps = type_in(*ADAPT, "field.npz", "--json", "-o", "steps", "--epochs", 3).json
    assert (steps["recipe"], steps["tried"]) == (None, [])


def test_it_is_what_is_done_where_nothing_is_set(desk: Path, type_in: TypeIn) -> None:
    plain = type_in(*ADAPT, "field.npz", "-o", "plain", "--json").json
    asked = type_in(*ADAPT, "field.npz", "-o", "asked", "--json", "--recipe", "auto").json
    assert plain["recipe"] == asked["recipe"] == "auto"
    files = [Path(name, "adapter_model.safetensors").read_bytes() for name in ("plain", "asked")]
    assert files[0] == files[1]
    for words in (("--solver", "steps"), ("--method", "skip2-lora"), ("--cache",)):
        facts = type_in(*ADAPT, "field.npz", "-o", "plain", "--force", "--json", *words).json
        assert (facts["recipe"], facts["solver"], facts["best_epoch"]) == (None, "steps", 300)
    one = np.load("field.npz")["y"] == 1
    data = np.load("field.npz")
    names = data["class_names"]
    np.savez("one.npz", X=data["X"][one], y=data["y"][one], class_names=names)
    said = type_in(*ADAPT, "one.npz", "-o", "one")
    refused(said, "got one class alone in all", "with --keep", "--solver steps")


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_a_column_of_groups_is_never_a_feature(desk: Path, type_in: TypeIn, kind: str) -> None:
    data = np.load("field.npz")
    who = np.array([f"person {row // 12}" for row in range(60)])
    file = f"who.{kind}"
    if kind == "npz":
        np.savez(file, X=data["X"], y=data["y"], class_names=data["class_names"], who=who)
    else:
        names = [f"f{at}" for at in range(12)]
        rows = [
            ",".join([*map(str, x), person, str(data["class_names"][label])])
            for x, person, label in zip(data["X"].tolist(), who, data["y"].tolist(), strict=True)
        ]
        Path(file).write_text("\n".join([",".join([*names, "who", "label"]), *rows]), "utf-8")
    said = type_in(*ADAPT, file, "--recipe", "auto", "--group", "who", "--json", "-o", "auto")
    assert said.code == 0, said.err
    assert said.json["held_out"]["n_folds"] == 5  # persons
    some = type_in(
        *ADAPT, file, "--recipe", "auto", "--group", "who", "-o", "again", "--validation", 0.2
    )
    refused(some, "--group is set beside samples for validation", "leave --group out")
    again = type_in("evaluate", "model.safetensors", file, "--adapter", "auto", "--json")
    assert again.json["accuracy"] == pytest.approx(said.json["accuracy"])


def test_samples_of_another_file_judge(desk: Path, type_in: TypeIn) -> None:
    words = (*ADAPT, "field.npz", "--recipe", "auto", "--validation-data", "lab.npz", "-o", "auto")
    facts = type_in(*words, "--json").json
    n_lab = len(np.load("lab.npz")["y"])
    assert (facts["held_out"]["n_samples"], facts["held_out"]["n_folds"]) == (n_lab, 1)
    lab = type_in("evaluate", "model.safetensors", "lab.npz", "--adapter", "auto", "--json").json
    assert facts["after"]["accuracy"] == pytest.approx(lab["accuracy"])
    said = type_in(*words, "--force").out
    assert re.search(rf"^held-out accuracy .*, {n_lab} samples held out$", said, re.MULTILINE)


def test_samples_that_judge_have_weights(desk: Path, type_in: TypeIn) -> None:
    for name in ("field", "lab"):
        arrays = dict(np.load(f"{name}.npz"))
        np.savez(f"w_{name}.npz", **arrays, trust=np.arange(len(arrays["y"])) % 3)
    words = (*ADAPT, "w_field.npz", "--recipe", "auto", "--weight", "trust", "-o", "auto")
    facts = type_in(*words, "--validation-data", "w_lab.npz", "--json").json
    n_lab = len(np.load("lab.npz")["y"])
    assert facts["held_out"]["n_samples"] == n_lab - len(range(0, n_lab, 3))
    said = type_in(*words, "--validation-data", "lab.npz", "--force")
    refused(said, '--weight names "trust"', "lab.npz")


def test_fewer_folds_are_said(desk: Path, type_in: TypeIn) -> None:
    data = np.load("field.npz")
    few = np.concatenate([np.flatnonzero(data["y"] == label)[:2] for label in range(3)])
    np.savez("few.npz", X=data["X"][few], y=data["y"][few], class_names=data["class_names"])
    said = type_in(*ADAPT, "few.npz", "--recipe", "auto", "-o", "auto").out
    assert "2 folds, as there are but 2 samples of a class" in said
    one = {"X": data["X"][few[::2]], "y": data["y"][few[::2]]}
    np.savez("one.npz", **one, class_names=data["class_names"])
    said = type_in(*ADAPT, "one.npz", "--recipe", "auto", "-o", "one").out
    assert "no sample could be held out" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rank", 2), "rank is 2 with --recipe auto"),
        (("--group", "nobody"), '--group names "nobody"'),
        (("--group", "y"), '--group names "y", which is an answer'),
        (("--validation-data", "nothing.npz"), "nothing.npz"),
    ],
)
def test_refused(desk: Path, type_in: TypeIn, words: tuple, message: str) -> None:
    refused(type_in(*ADAPT, "field.npz", "--recipe", "auto", "-o", "new", *words), message)


def test_groups_without_folds_are_refused(desk: Path, type_in: TypeIn) -> None:
    data = np.load("field.npz")
    np.savez("who.npz", who=np.arange(60) % 5, **data)
    said = type_in(*ADAPT, "who.npz", "--group", "who", "--epochs", 3, "-o", "new")
    refused(said, "nothing is held out by groups", "leave out what is set of steps")
