"""``adapt --solver exact`` and ``plan --solver exact``, as a user types them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import skip2lora as s2
from desk import Answer

TypeIn = Callable[..., Answer]


def test_it_says_what_was_found(desk: Path, type_in: TypeIn) -> None:
    words = ("adapt", "model.safetensors", "field.npz", "--solver", "exact", "-o", "best")
    said = type_in(*words)
    assert said.code == 0, said.err
    assert re.search(r"60 samples, solved exactly, [\d,]+ iterations in ", said.out)
    assert re.search(
        r"^penalty \S+, held-out accuracy [\d.]+ % \([\d.]+ to [\d.]+ %\), 10 folds$",
        said.out, re.MULTILINE,
    )  # fmt: skip
    assert "the smaller rank" not in said.out
    facts = type_in(*words, "--force", "--json").json
    assert (facts["solver"], facts["n_batches"], facts["rank_loss"]) == ("exact", 0, None)
    assert facts["penalty"] in [10.0**-k for k in range(7)]
    assert facts["iterations"] > 0
    held_out = facts["held_out"]
    assert held_out["measure"] == "accuracy"
    assert 0 < held_out["low"] < held_out["value"] <= held_out["high"] <= 1
    again = type_in("evaluate", "model.safetensors", "field.npz", "--adapter", "best", "--json")
    assert again.json["accuracy"] == pytest.approx(facts["accuracy"])
    plain = ("adapt", "model.safetensors", "field.npz", "--json", "-o", "steps")
    steps = type_in(*plain, "--solver", "steps").json
    assert (steps["solver"], steps["penalty"], steps["held_out"]) == ("steps", None, None)
    assert (steps["iterations"], steps["rank_loss"]) == (0, None)


def test_a_smaller_rank_says_what_it_costs(desk: Path, type_in: TypeIn) -> None:
    words = ("adapt", "model.safetensors", "field.npz", "--solver", "exact", "-o", "small")
    said = type_in(*words, "--rank", 1, "--penalty", 0.001, "--validation", 0.2)
    assert said.code == 0, said.err
    assert re.search(r"^the smaller rank adds \S+ to the loss$", said.out, re.MULTILINE)
    assert re.search(
        r"^penalty 0.001, held-out accuracy .* \(.* to .*\), .*$", said.out, re.MULTILINE
    )
    assert type_in("inspect", "small", "--json").json["rank"] == 1


def test_python_and_the_command_line_give_the_same_bytes(desk: Path, type_in: TypeIn) -> None:
    import numpy as np

    data = np.load("field.npz")
    model = s2.load("model.safetensors")
    s2.adapt(model, data["X"], data["y"], solver="exact").save("python")
    type_in("adapt", "model.safetensors", "field.npz", "--solver", "exact", "-o", "typed")
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert Path("python", file).read_bytes() == Path("typed", file).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--solver", "exact", "--epochs", 3), "epochs is 3 beside --solver exact"),
        (("--penalty", 0.1), "expected the exact one: pass --solver exact, or leave penalty out"),
        (("--solver", "exact", "--penalty", -1), "penalty is -1.0, expected a number from 0"),
        (("--solver", "exact", "--penalty", "nan"), "penalty is nan, expected a number from 0"),
        (("--solver", "exact", "--method", "ft-all"), "solver is exact with method ft-all"),
    ],
)
def test_refused(desk: Path, type_in: TypeIn, words: tuple[object, ...], said: str) -> None:
    answer = type_in("adapt", "model.safetensors", "field.npz", *words, "-o", "other")
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not Path("other").exists()


def test_plan(desk: Path, type_in: TypeIn, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("plan", "model.safetensors", "field.npz", "--solver", "exact")
    said = type_in(*words)
    assert said.code == 0, said.err
    assert "60 samples, 3 outputs, rank 3, solved exactly, scaled taps" in said.out
    assert re.search(r"training +about [\d.]+ m?s, of CPU time, from fits on random rows", said.out)
    facts = type_in(*words, "--json").json
    assert (facts["solver"], facts["n_batches"], facts["us_a_batch"]) == ("exact", 0, 0)
    made = type_in("adapt", *words[1:], "--json", "-o", "best").json
    assert facts["n_parameters"] == made["trainable_parameters"]
    assert facts["memory"]["cache_bytes"] == made["cache_bytes"]
    assert facts["memory"]["cache_overhead_bytes"] == made["cache_overhead_bytes"]
    monkeypatch.setenv("SKIP2LORA_MAX_BYTES", "100000")
    refused = type_in("plan", "model.safetensors", "--samples", 60, "--solver", "exact")
    assert refused.code == 2
    assert "60 samples of 44 columns take " in refused.err
