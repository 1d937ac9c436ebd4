"""Several DATA, and adapters that go on, as they are typed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from desk import NAMES


def write(name: str, which: slice, *, names: bool = False) -> None:
    data = np.load("field.npz")
    x, y = data["X"][which], data["y"][which]
    if not names:
        np.savez(f"{name}.npz", X=x, y=y, class_names=np.array(NAMES))
        return
    lines = [",".join([*(f"c{n}" for n in range(x.shape[1])), "label"])]
    lines += [
        ",".join([*(repr(float(of)) for of in row), NAMES[label]])
        for row, label in zip(x, y, strict=True)
    ]
    Path(f"{name}.csv").write_text("\n".join(lines) + "\n")


def read(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


PARTS = {"one": slice(20), "two": slice(20, 50), "three": slice(50, None), "all": slice(None)}


@pytest.fixture(params=["npz", "csv"])
def suffix(request: pytest.FixtureRequest, desk: Path) -> str:
    for name, which in PARTS.items():
        write(name, which, names=request.param == "csv")
    return str(request.param)


@pytest.mark.parametrize("model", ["model.safetensors", "base.onnx"])
def test_several_data_and_going_on_give_what_all_at_once_does(suffix, model, type_in):
    named: tuple[str, ...] = ()
    if model == "base.onnx":
        onnx_models = pytest.importorskip("onnx_models", reason="needs onnx", exc_type=ImportError)
        onnx_models.save(onnx_models.mlp([12, 16, 8, 3]), Path(model))
        named = () if suffix == "npz" else ("--class-names", ",".join(NAMES))
    one, two, three, everything = (f"{name}.{suffix}" for name in PARTS)
    whole = type_in("adapt", model, everything, "-o", "whole", *named, "--json").json
    assert whole["kept"] is None
    several = type_in("adapt", model, one, two, three, "-o", "several", *named, "--json").json
    assert several["n_samples"] == 60
    assert read("several") == read("whole")
    first = type_in("adapt", model, one, "-o", "parts", "--keep-rows", *named, "--json").json
    assert first["kept"] == {"folder": "parts.rows", "version": 1, "n_samples": 20, "ids": [0, 19]}
    more = type_in("adapt", model, two, three, "--continue", "parts", "--json").json
    assert more["kept"]["ids"] == [0, 59]
    assert (more["n_samples"], more["output"]) == (60, "parts")
    assert read("parts") == read("whole")
    if model == "base.onnx":
        assert (first["n_forwards"], more["n_forwards"]) == (20, 40)


def test_forgetting(desk, type_in):
    write("less", np.r_[0:5, 8:58])
    type_in("adapt", "model.safetensors", "less.npz", "-o", "less")
    type_in("adapt", "model.safetensors", "field.npz", "-o", "out", "--keep-rows")
    done = type_in("adapt", "model.safetensors", "--continue", "out", "--forget", "5-7,58,59")
    assert done.code == 0, done.err
    assert done.out.endswith(
        "out.rows: version 2, 55 samples, ids 0 to 57; more join by --continue out\n"
    )
    assert read("out") == read("less")
    again = type_in("adapt", "model.safetensors", "--continue", "out", "--forget", "6")
    assert (again.code, "forget has the id 6" in again.err) == (2, True)
    assert read("out") == read("less")


def test_a_result_beside_leaves_the_adapter(desk, type_in):
    for name, which in PARTS.items():
        write(name, which)
    type_in("adapt", "model.safetensors", "one.npz", "-o", "out", "--keep-rows")
    before = read("out")
    type_in("adapt", "model.safetensors", "two.npz", "--continue", "out", "-o", "more")
    assert read("out") == before
    type_in("adapt", "model.safetensors", "three.npz", "--continue", "more")
    type_in("adapt", "model.safetensors", "all.npz", "-o", "whole")
    assert read("more") == read("whole")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("-o", "x"), "Missing argument 'DATA'"),
        (("field.npz",), "Missing option '-o'"),
        (("field.npz", "-o", "x", "--forget", "1"), "--forget is set without --continue"),
        (("--continue", "adapter", "--forget", "1-"), "--forget is '1-', expected ids"),
        (("--continue", "adapter", "--forget", "1-99999999999"), "expected at most"),
        (("--continue", "adapter", "--forget", "1"), "has no samples of adapter"),
        (("--continue", "none", "--forget", "1"), "none is not an adapter folder"),
        (("field.npz", "--continue", "adapter", "--taps", "2"), "--taps is set with --continue"),
        (
            ("field.npz", "test.npz", "-o", "x", "--suspects", "s.csv"),
            "--suspects is set with several DATA",
        ),
        (
            ("--continue", "adapter", "--forget", "1", "--validation-data", "field.npz"),
            "--validation-data is set without DATA",
        ),
        (
            ("--continue", "adapter", "--forget", "1", "--group", "who"),
            "--group is set without DATA",
        ),
        (("field.npz", "narrow.npz", "-o", "x"), "expected"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(desk, type_in, words, what):
    np.savez("narrow.npz", X=np.zeros((4, 3), np.float32), y=np.arange(4) % 3)
    said = type_in("adapt", "model.safetensors", *words)
    assert said.code == 2
    assert what in said.err
    assert not Path("x").exists()
