"""``plan`` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from desk import refused


def test_plan_agrees_with_adapt(type_in, desk: Path) -> None:
    options = ("--rank", 2, "--epochs", 5, "--batch-size", 7)
    plan = type_in("plan", "model.safetensors", "field.npz", *options, "--json").json
    adapted = type_in(
        "adapt", "model.safetensors", "field.npz", *options, "-o", "new", "--json"
    ).json
    assert plan["memory"]["cache_bytes"] == adapted["cache_bytes"]
    assert plan["memory"]["cache_overhead_bytes"] == adapted["cache_overhead_bytes"]
    assert plan["n_parameters"] == adapted["trainable_parameters"]
    for name in ("n_batches", "n_samples"):
        assert plan[name] == adapted[name]
    for name in ("training_ms", "cache_fill_ms", "us_a_batch", "gflops", "operations_a_batch"):
        assert plan[name] > 0


def test_plan_for_a_person(type_in, desk: Path) -> None:
    told = type_in("plan", "model.safetensors", "--samples", 1000, "--classes", 7)
    assert told.code == 0, told.err
    for part in (
        "1,000 samples, 7 outputs, recipe auto, rank 8, adam",
        "log-centred",
        "1,500 batches",
        "peak",
    ):
        assert part in told.out
    told = type_in("plan", "model.safetensors", "--samples", 1000, "--recipe", "paper")
    for part in ("1,000 samples, 3 outputs", "the sample", "measured on random rows", "peak"):
        assert part in told.out
    assert not list(desk.glob("new*"))


def test_plan_says_what_loading_runs(type_in, desk: Path) -> None:
    """Only where the model is of a runtime, which has to be asked."""
    assert "passes of noise" not in type_in("plan", "model.safetensors").out
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import onnx_models

    onnx_models.save(onnx_models.mlp(), desk / "mlp.onnx")
    said = type_in("plan", "mlp.onnx")
    assert "3 passes of noise, 7 samples" in said.out, said.err


BAD = {
    "both": (("field.npz", "--samples", 5), ["field.npz", "--samples 5"]),
    "no samples": (("--samples", 0), ["samples is 0"]),
    "rank": (("--rank", 99), ["rank is 99", "1 to 16"]),
    "classes": (("--classes", 2), ["classes is 2", "3 or more"]),
    "optimizer": (("--optimizer", "lion"), ["lion", "adam"]),
    "taps": (("--taps", "3"), ["taps is 3"]),
    "size without data": (("--size", "8"), ["--size", "DATA"]),
    "no data": (("none.npz",), ["none.npz"]),
}


@pytest.mark.parametrize(("options", "parts"), BAD.values(), ids=BAD)
def test_plan_refuses(type_in, desk: Path, options, parts) -> None:
    refused(type_in("plan", "model.safetensors", *options), *parts)
