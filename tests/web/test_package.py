"""The npm package in Node: it learns what Python learns, and each reads what the other wrote."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from skip2lora import _core

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "web"
WIDTHS, N_OUTPUTS, N_SAMPLES = (12, 20, 9), 3, 50
RULES = {"sgd": (_core.SGD, {}), "adam": (_core.ADAM, {"beta1": 0.9, "beta2": 0.999})}
Job = Callable[..., dict[str, Any]]
Rows = list[dict[str, Any]]


@pytest.fixture
def node(module: Path) -> Job:
    """node(rows=..., call=...): what drive.mjs says of a job."""

    def run(**job: Any) -> dict[str, Any]:
        job = {"package": str(PACKAGE / "index.js"), "module": str(module), "rows": [], **job}
        command = ["node", Path(__file__).with_name("drive.mjs")]
        done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    return run


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def random_task(seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Taps, base logits and labels; taps know the labels, with means and sizes of their own."""
    random = np.random.default_rng(seed)
    y = random.integers(0, N_OUTPUTS, N_SAMPLES).astype(np.int32)
    taps = [
        (random.normal(size=(N_SAMPLES, width)) + random.normal(size=(N_OUTPUTS, width))[y] + 1)
        * random.uniform(0.1, 10, width)
        for width in WIDTHS
    ]
    logits = random.normal(size=(N_SAMPLES, N_OUTPUTS))
    return [tap.astype(np.float32) for tap in taps], logits.astype(np.float32), y


def rows_of(taps: list[np.ndarray], logits: np.ndarray) -> Rows:
    return [
        {"taps": [tap[s].tolist() for tap in taps], "logits": logits[s].tolist()}
        for s in range(len(logits))
    ]


def rows_of_model(model: s2.MLP, x: np.ndarray) -> Rows:
    given = model.forward(x)
    return rows_of(list(given.taps), given.base_logits)


@pytest.mark.parametrize("rule", RULES)
def test_steps_have_the_bits_of_the_scalar_table_here(
    node: Job, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIP2_KERNELS", "scalar")
    taps, logits, y = random_task()
    layout = _core.RowLayout(WIDTHS, N_OUTPUTS, False)
    rows = np.zeros((N_SAMPLES, layout.row_stride), np.float32)
    for tap, at in zip(taps, layout.tap_offsets, strict=True):
        rows[:, at : at + tap.shape[1]] = tap
    rows[:, layout.logits_offset : layout.logits_offset + N_OUTPUTS] = logits
    adapter = _core.SkipAdapter(layout, 4, bias=True)
    adapter.init(7)
    kind, numbers = RULES[rule]
    trainer = _core.SkipTrainer(adapter, 20, _core.Optimizer(kind, **numbers), 7)
    source = _core.RowSource(layout, rows, np.ones(N_SAMPLES, np.uint8), lambda *_: None)
    epochs = [trainer.epoch(rows, y, source, 0.003) for _ in range(30)]
    got = node(
        call="fit", rows=rows_of(taps, logits), labels=y.tolist(),
        options={
            "rank": 4, "epochs": 30, "learningRate": 0.003, "optimizer": rule, "seed": 7,
            "standardize": False, "kernels": "scalar",
        },
    )  # fmt: skip
    for tap, width in enumerate(WIDTHS):
        a, b = np.empty((width, 4), np.float32), np.empty((4, N_OUTPUTS), np.float32)
        adapter.unpack(tap, a, b)
        assert floats(got["lora_a"][tap]).tobytes() == a.tobytes()
        assert floats(got["lora_b"][tap]).tobytes() == b.tobytes()
        assert b.any()
    bias, outputs = np.empty(N_OUTPUTS, np.float32), np.empty((N_SAMPLES, N_OUTPUTS), np.float32)
    adapter.get_bias(bias)
    adapter.forward(rows, rows, outputs)
    assert floats(got["bias"]).tobytes() == bias.tobytes()
    assert floats(got["logits"]).tobytes() == outputs.tobytes()
    assert got["epochs"][-1] == {
        "epoch": 29, "loss": epochs[-1].loss, "accuracy": epochs[-1].accuracy
    }  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd", "rank": 2, "batchSize": 7}])
def test_vectors_learn_what_the_scalar_table_learns(node: Job, options: dict[str, Any]) -> None:
    taps, logits, y = random_task()
    job = {"call": "fit", "rows": rows_of(taps, logits), "labels": y.tolist()}
    fast = node(**job, options=options)
    plain = node(**job, options={**options, "kernels": "scalar"})
    assert fast["lora_a"] != plain["lora_a"]
    np.testing.assert_allclose(floats(fast["logits"]), floats(plain["logits"]), atol=1e-3)
    assert np.mean(np.array(fast["predictions"]) == y) > np.mean(logits.argmax(axis=1) == y)


@pytest.mark.parametrize("missing", [None, 2])
def test_the_solver_is_that_of_python(
    node: Job, make_model: Any, make_samples: Any, missing: int | None
) -> None:
    model = make_model([8, 16, 16, 4])
    x, y = make_samples(80, 8, 4)
    if missing is not None:
        x, y = x[y != missing], y[y != missing]
    here = s2.adapt(model, x, y, solver="exact", penalty=0.001)
    there = node(
        call="solve", rows=rows_of_model(model, x), labels=y.tolist(), options={"penalty": 0.001}
    )
    assert there["rank"] == here.adapters.rank
    np.testing.assert_allclose(floats(there["logits"]).reshape(-1, 4), here.logits(x), atol=1e-3)
    assert there["predictions"] == here.predict(x).tolist()


def test_python_loads_what_was_saved(
    node: Job, make_model: Any, make_samples: Any, tmp_path: Path
) -> None:
    model = make_model([8, 16, 16, 3])
    x, y = make_samples(60)
    got = node(
        call="fit", rows=rows_of_model(model, x), labels=y.tolist(), save=str(tmp_path),
        model={"fingerprint": model.fingerprint},
    )  # fmt: skip
    adapted = s2.AdaptedModel.load(model, tmp_path)
    np.testing.assert_allclose(
        adapted.logits(x), floats(got["logits"]).reshape(-1, 3), rtol=1e-4, atol=1e-4
    )
    again = tmp_path / "again"
    adapted.save(again)  # the same bytes, but for the spelling of the header
    assert (again / "adapter_config.json").read_text() == (
        tmp_path / "adapter_config.json"
    ).read_text()


def test_what_python_saved_is_opened(
    node: Job, make_model: Any, make_samples: Any, tmp_path: Path
) -> None:
    model = make_model([8, 16, 16, 3])
    x, y = make_samples(60)
    adapted = s2.adapt(model, x, y, solver="exact", penalty=0.01)
    adapted.save(tmp_path / "adapter")
    got = node(open=str(tmp_path / "adapter"), rows=rows_of_model(model, x))
    assert "refused" not in got, got
    assert got["fingerprint"] == model.fingerprint
    np.testing.assert_allclose(
        floats(got["logits"]).reshape(-1, 3), adapted.logits(x), rtol=1e-4, atol=1e-4
    )


def test_a_damaged_adapter_is_refused(
    node: Job, make_model: Any, make_samples: Any, tmp_path: Path
) -> None:
    model = make_model([8, 16, 3])
    s2.adapt(model, *make_samples(60), solver="exact", penalty=0.01).save(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:-5] + b"\0\0\0\0\0", b"", b"{}" * 40):
        file.write_bytes(damaged)
        assert "expected one that skip2lora wrote" in node(open=str(file.parent))["refused"]


def test_a_prepared_model_says_what_it_is(node: Job, make_samples: Any, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    from skip2lora.backbones.onnx import prepare

    x, y = make_samples(60)
    random = np.random.default_rng(0)
    shapes = {"w1": (8, 16), "b1": (16,), "w2": (16, 3), "b2": (3,)}
    tensors = [
        onnx.numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        onnx.helper.make_node("Relu", ["h"], ["r"]),
        onnx.helper.make_node("Gemm", ["r", "w2", "b2"], ["y"]),
    ]
    value = onnx.helper.make_tensor_value_info
    ends = [value("x", 1, ["n", 8])], [value("y", 1, ["n", 3])]
    graph = onnx.helper.make_graph(nodes, "small", *ends, tensors)
    opset = [onnx.helper.make_opsetid("", 17)]
    model = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), model)
    tapped = prepare(model, tmp_path / "tapped.onnx")
    folder = tmp_path / "adapter"
    folder.mkdir()
    given = s2.load(tmp_path / "tapped.onnx").forward(x)
    got = node(
        call="solve", rows=rows_of(list(given.taps), given.base_logits), labels=y.tolist(),
        prepared=str(tmp_path / "tapped.onnx"), file="model.onnx", save=str(folder),
    )  # fmt: skip
    assert got["model"]["fingerprint"] == tapped.fingerprint
    assert len(got["model"]["outputs"]) == 2
    for file in ("model.onnx", "tapped.onnx"):
        adapted = s2.AdaptedModel.load(tmp_path / file, folder)
        np.testing.assert_allclose(
            adapted.logits(x), floats(got["logits"]).reshape(-1, 3), rtol=1e-4, atol=1e-4
        )
    s2.adapt(s2.load(model), x, y, solver="exact", penalty=0.001).save(tmp_path / "here")
    config = "adapter_config.json"
    assert (folder / config).read_text() == (tmp_path / "here" / config).read_text()
    with model.open("rb") as file, (tmp_path / "plain.onnx").open("wb") as plain:
        plain.write(file.read())
    refused = node(
        call="solve", rows=rows_of(list(given.taps), given.base_logits), labels=y.tolist(),
        prepared=str(tmp_path / "plain.onnx"),
    )  # fmt: skip
    assert "skip2lora prepare" in refused["refused"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "got no rows"),
        ({"labels": [0, 1, 2, 3]}, "label 3 is 3, expected a whole number from 0 to 2"),
        ({"labels": [0, 1, 0.5, 2]}, "label 2 is 0.5"),
        ({"labels": [0, 1]}, "got 4 rows and 2 labels"),
        ({"labels": [1, 1, 1, 1], "call": "solve"}, "got 1 class in all 4 samples"),
        ({"options": {"kernels": "neon"}}, "kernels is neon, expected simd128 or scalar"),
        ({"options": {"optimizer": "sdg"}}, "optimizer is sdg, expected one of sgd, momentum"),
        ({"options": {"seed": -1}}, "seed is -1"),
        ({"options": {"rank": 0}}, "a rank or a count is 0"),
        ({"options": {"rank": 99}}, "take a smaller rank"),
        ({"options": {"batchSize": 0}}, "a count is 0"),
        ({"options": {"learningRate": 1e30, "standardize": False}}, "a smaller learning rate"),
        ({"options": {"penalty": -1}, "call": "solve"}, "check labels, learning rate and penalty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(node: Job, change: dict[str, Any], message: str) -> None:
    taps, logits, _ = random_task()
    rows = rows_of(taps, logits)[:4]
    got = node(**{"call": "fit", "rows": rows, "labels": [0, 1, 2, 0], **change})
    assert message in got["refused"]
    assert "\n" not in got["refused"]


@pytest.mark.parametrize("place", ["taps", "logits", "width"])
def test_a_bad_row_is_named(node: Job, place: str) -> None:
    taps, logits, _ = random_task()
    rows = rows_of(taps, logits)[:4]
    if place == "logits":
        rows[2]["logits"][1] = "NaN"
    elif place == "taps":
        rows[2]["taps"][0][3] = "Infinity"
    else:
        rows[2]["taps"][1].pop()
    got = node(call="fit", rows=rows, labels=[0, 1, 2, 0])
    expected = "row 2 has widths 12,19,9,3" if place == "width" else "row 2 holds NaN"
    assert got["refused"].startswith(expected)


def test_the_module_is_small_and_asks_for_nothing(module: Path) -> None:
    assert len(gzip.compress(module.read_bytes(), 9)) < 35_000
    script = "console.log(WebAssembly.Module.imports(new WebAssembly.Module(" \
        "require('fs').readFileSync(process.argv[1]))).length)"  # fmt: skip
    done = subprocess.run(["node", "-e", script, module], capture_output=True, text=True)
    assert done.stdout.strip() == "0", done.stderr


def test_the_package_has_its_files_and_types() -> None:
    about = json.loads((PACKAGE / "package.json").read_text())
    assert set(about["files"]) == {"index.js", "files.js", "index.d.ts", "skip2.wasm"}
    types = (PACKAGE / "index.d.ts").read_text()
    for name in ("index.js", "files.js"):
        for exported in re.findall(r"^export (?:async )?(?:class|function) (\w+)",
                                   (PACKAGE / name).read_text(), re.MULTILINE):  # fmt: skip
            assert re.search(rf"export (class|function) {exported}\b", types) or name == "files.js"
    for name in ("fit", "solve", "open", "load", "logits", "predict", "save", "describe", "rowsOf"):
        assert re.search(rf"\b{name}\(", types)
