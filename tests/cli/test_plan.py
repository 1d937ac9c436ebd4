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


def test_memory_says_what_fits(type_in, desk: Path) -> None:
    told = type_in("plan", "model.safetensors", "field.npz", "--memory", "64GiB")
    assert "ways, of which 64.0 GiB are to hold one" in told.out
    assert "chosen                   as asked" in told.out
    facts = type_in("plan", "model.safetensors", "field.npz", "--memory", "9MiB", "--json").json
    assert (facts["chosen"], facts["limit_bytes"]) == (None, 9 << 20)
    assert facts["choices"][0]["name"] == "as asked"
    assert min(way["peak_bytes"] for way in facts["choices"]) > 9 << 20


def test_adapt_within_memory(type_in, desk: Path) -> None:
    done = type_in("adapt", "model.safetensors", "field.npz", "-o", "a", "--memory", "64GiB")
    assert done.code == 0
    assert "skip2lora: memory 64GiB: as asked, about " in done.err
    facts = type_in(
        "adapt", "model.safetensors", "field.npz", "-o", "c", "--memory", "64GiB", "--json"
    ).json["memory"]
    assert 0 < facts.pop("peak_bytes") < 1 << 36
    assert facts == {"limit": "64GiB", "chosen": "as asked", "options": {}}
    few = type_in("adapt", "model.safetensors", "field.npz", "-o", "b", "--memory", "9MiB")
    assert few.code == 2
    assert "memory is 9 MB, but adapting to 60 samples takes " in few.err
    assert "expected room for both: pass fewer samples, or set --memory to more" in few.err
    assert not (desk / "b").exists()
    assert type_in(
        "adapt", "model.safetensors", "field.npz", "-o", "b", "--memory", "lots"
    ).err.startswith("skip2lora: memory is 'lots', expected bytes such as 65536")


def test_few_columns_are_planned_and_told(type_in, desk: Path) -> None:
    words = ("model.safetensors", "field.npz", "--projection", 4, "--json")
    facts = type_in("plan", *words).json
    done = type_in("adapt", *words, "-o", "a", "--projection-from", "pca").json
    assert facts["memory"]["cache_bytes"] == done["cache_bytes"]
    assert done["projection"] == {"columns": 4, "from": "pca"}
    assert type_in("adapt", *words, "-o", "b").json["projection"] == {"columns": 4, "from": "pls"}
    assert type_in("adapt", *words[:2], "-o", "c", "--json").json["projection"] is None


def test_rows_beyond_memory_are_read_from_a_folder(type_in, desk: Path) -> None:
    options = ("--solver", "steps", "--epochs", 3, "--cache-samples", 20, "--cache-dir", "rows")
    told = type_in("plan", "model.safetensors", "field.npz", *options)
    assert told.code == 0, told.err
    assert told.out.count("  reading          120 read from the folder (") == 1
    assert "from a cold disk" in told.out
    assert "rows of 20 samples in memory, 120 read from the folder (" in told.out
    assert not (desk / "rows").exists()
    facts = type_in("plan", "model.safetensors", "field.npz", *options, "--json").json
    assert facts["read_us_a_row"] > 0
    done = type_in("adapt", "model.safetensors", "field.npz", *options, "-o", "a", "--json").json
    assert done["cache"]["on_disk"]
    assert done["cache"]["misses"] == facts["n_rows_read"] == 120
    assert facts["memory"]["cache_bytes"] == done["cache_bytes"]
    refused(
        type_in("plan", "model.safetensors", "field.npz", "--cache", *options),
        "--cache is set beside --cache-dir", "leave one out",
    )  # fmt: skip
