"""`skip2lora bench` as a user types it; no test says how fast anything is."""

from __future__ import annotations

import numbers

import pytest

from skip2lora.methods import METHODS

TINY = ("bench", "--samples", 24, "--batch-size", 8, "--rank", 2, "--rounds", 1)
SPREADS = ("peak_gflops", "cache_fill_ms", "predict_us", "predict_batched_us")


def check_spread(of):
    assert set(of) == {"median", "smallest", "largest"}
    assert all(isinstance(value, numbers.Real) for value in of.values())
    assert 0 < of["smallest"] <= of["median"] <= of["largest"]


def test_json_holds_every_number(type_in):
    answer = type_in(*TINY, "--widths", "7,5,4,3", "--json")
    assert (answer.code, answer.err) == (0, "")
    facts = answer.json
    assert facts["widths"] == [7, 5, 4, 3]
    for name in ("cpu", "kernels"):
        assert isinstance(facts[name], str)
        assert facts[name]
    for name in ("n_threads", "n_samples", "batch_size", "rank", "rounds", "cache_bytes"):
        assert isinstance(facts[name], int)
    assert facts["n_threads"] == 1
    assert facts["cache_bytes"] == 24 * (5 + 4 + 3) * 4
    for name in SPREADS:
        check_spread(facts[name])
    assert list(facts["methods"]) == list(METHODS)
    for of in facts["methods"].values():
        check_spread(of["us_a_batch"])
        assert of["operations"] > 0
        assert of["gflops"] > 0
        assert of["share_of_peak"] > 0


def test_a_model_is_measured_as_it_is(desk, type_in):
    facts = type_in(*TINY, "model.safetensors", "--json").json
    assert facts["widths"] == [12, 16, 16, 3]


def test_the_table_names_methods_and_machine(type_in, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    answer = type_in(*TINY, "--widths", "7,5,4,3")
    assert (answer.code, answer.err) == (0, "")
    for part in (*METHODS, "kernels", "peak", "cache fill", "predict", "7-5-4-3"):
        assert part in answer.out
    assert max(map(len, answer.out.splitlines())) <= 60


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--widths", "8,x"), ["--widths", "8,x", "256,96,96,3"]),
        (("--widths", "8"), ["1 widths", "2 to"]),
        (("--rank", 97), ["rank is 97", "96"]),
        (("--rounds", 0), ["rounds is 0"]),
        (("--samples", 5), ["batch_size is 20", "5"]),
        (("--samples", "many"), ["--samples", "many"]),
        (("--seed", -1), ["seed", "-1"]),
        (("none.safetensors",), ["none.safetensors", "does not exist"]),
        (("model.safetensors", "--widths", "8,3"), ["model.safetensors", "--widths"]),
    ],
    ids=str,
)
def test_bad_arguments(desk, type_in, words, parts):
    answer = type_in("bench", *words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    for part in parts:
        assert part in answer.err
