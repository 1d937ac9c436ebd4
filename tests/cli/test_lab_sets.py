"""``--lab-set`` and ``--keep``: the old domain is put beside a model, and learned with DATA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skip2lora as s2
from desk import NAMES, Answer, blobs, refused
from sensor_data import walk_run_sit
from skip2lora.training.lab_set import LabSet
from skip2lora.training.rehearsal import lab_set_beside

Type = Callable[..., Answer]
FILE = Path("model.safetensors.lab-set.safetensors")
FAST = ("--epochs", 3)


@pytest.fixture
def lab(type_in: Type) -> Answer:
    """A network with a lab set of 4 a class beside it, and samples of the field."""
    for name, seed, shift in (("lab", 1, 0.0), ("old", 2, 0.0), ("field", 3, 1.0)):
        x, y = blobs(seed, shift=shift)
        np.savez(f"{name}.npz", X=x, y=y, class_names=np.array(NAMES))
    done = type_in(
        "pretrain", "lab.npz", "-o", "model.safetensors", "--epochs", 20, "--lab-set", 4, "--json"
    )
    assert done.code == 0, done.err
    return done


def weights(folder: str) -> dict[str, np.ndarray]:
    model = s2.load("model.safetensors")
    return s2.AdaptedModel.load(model, folder).adapters.tensors()


def test_pretrain_puts_it_beside_the_model(lab: Answer, type_in: Type) -> None:
    facts = lab.json["lab_set"]
    assert facts == {"output": str(FILE), "n_samples": 12, "bytes": FILE.stat().st_size}
    of = LabSet.read(FILE)
    assert np.bincount(of.answers).tolist() == [4, 4, 4]
    again = type_in("pretrain", "lab.npz", "-o", "m.safetensors", "--epochs", 20, "--lab-set", 4)
    beside = lab_set_beside("m.safetensors")
    assert beside.read_bytes() == FILE.read_bytes()
    size = f"{FILE.stat().st_size / 1024:.1f} KiB"
    assert f"{beside}: lab set, rows of 12 samples, {size}\n" in again.out
    plain = type_in("pretrain", "lab.npz", "-o", "n.safetensors", "--epochs", 1, "--json")
    assert plain.json["lab_set"] is None
    assert not lab_set_beside("n.safetensors").exists()


def test_nothing_is_replaced_unasked(lab: Answer, type_in: Type) -> None:
    Path("model.safetensors").unlink()
    words = ("pretrain", "lab.npz", "-o", "model.safetensors", "--epochs", 1, "--lab-set", 2)
    refused(type_in(*words), f"{FILE} exists already")
    assert not Path("model.safetensors").exists()
    assert type_in(*words, "--force").code == 0
    refused(type_in(*words[:-1], 0, "--force"), "count is 0")


def test_adapt_takes_what_lies_there(lab: Answer, type_in: Type) -> None:
    words = ("adapt", "model.safetensors", "field.npz", *FAST)
    done = type_in(*words, "-o", "a", "--json")
    assert done.err == ""
    facts = done.json["old"]
    assert facts["lab_set"] == str(FILE)
    assert facts["before"]["accuracy"] == 1.0
    assert (facts["measured_on"], facts["n_measured"]) == ("training", 12)
    assert done.json["n_samples"] == done.json["n_measured"] == 60
    shown = type_in(*words, "-o", "b")
    assert f"old domain (lab set {FILE}): before accuracy 100.0 %, after accuracy " in shown.out
    assert "on the 12 training samples\n" in shown.out
    named = type_in(*words, "-o", "c", "--keep", FILE)
    without = type_in(*words, "-o", "d", "--no-lab-set", "--json")
    assert named.code == without.code == 0
    assert without.err == ""
    assert without.json["old"] is None
    FILE.unlink()
    assert type_in(*words, "-o", "e").code == 0
    for name, array in weights("a").items():
        np.testing.assert_array_equal(array, weights("c")[name])
        np.testing.assert_array_equal(weights("d")[name], weights("e")[name])
    assert not np.array_equal(weights("a")["taps.0.lora_b"], weights("d")["taps.0.lora_b"])


def test_old_samples(lab: Answer, type_in: Type) -> None:
    words = ("adapt", "model.safetensors", "field.npz", *FAST, "--keep", "old.npz")
    done = type_in(*words, "-o", "a", "--validation", 0.2, "--json")
    assert done.json["old"]["lab_set"] is None
    assert (done.json["old"]["measured_on"], done.json["old"]["n_measured"]) == ("held-out", 12)
    model = s2.load("model.safetensors")
    data: Any = {name: np.load(f"{name}.npz") for name in ("field", "old")}
    options = {"epochs": 3, "keep_weight": 5}
    keep = (data["old"]["X"], data["old"]["y"])
    field = (data["field"]["X"], data["field"]["y"])
    expected = s2.adapt(model, *field, keep=keep, **options).adapters.tensors()
    assert type_in(*words, "-o", "b", "--keep-weight", 5).code == 0
    for name, array in weights("b").items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.filterwarnings("default")
def test_a_new_class_beside_old_ones(lab: Answer, type_in: Type) -> None:
    x, _ = blobs(4, shift=3.0)
    rows = [",".join(map(str, [*row, "hot"])) for row in x.tolist()]
    names = [f"f{number}" for number in range(x.shape[1])]
    Path("hot.csv").write_text("\n".join([",".join([*names, "label"]), *rows]) + "\n")
    words = ("adapt", "model.safetensors", "hot.csv", "--new-classes", "-o", "a", "--json")
    done = type_in(*words)
    assert done.code == 0, done.err
    assert "may be forgotten" not in done.err
    assert done.json["before"] is None
    assert done.json["old"]["before"]["accuracy"] == 1.0
    refused(type_in(*words, "--no-lab-set", "--force"), "one class alone", "with --keep")
    alone = type_in(*words, "--no-lab-set", "--force", "--solver", "steps")
    assert "stop, normal, damaged may be forgotten" in alone.err


def test_bad_input(lab: Answer, type_in: Type) -> None:
    words = ("adapt", "model.safetensors", "field.npz", "-o", "a")
    refused(type_in(*words, "--keep", "none.npz"), "none.npz does not exist")
    refused(type_in(*words, "--keep", "model.safetensors"), "is a mlp, expected a lab set")
    refused(type_in(*words, "--keep-weight", -1), "keep_weight is -1")
    alone = type_in(*words, "--no-lab-set", "--keep-weight", 2)
    refused(alone, "--keep-weight is set without old samples", "pass --keep, or")
    refused(
        type_in(*words, "--keep", "old.npz", "--no-keep-outputs"), "keep is set with keep_outputs"
    )
    x, y = blobs(1)
    np.savez("narrow.npz", X=x[:, :5], y=y)
    refused(type_in(*words, "--keep", "narrow.npz"), "keep: ")
    np.savez("other.npz", X=x, y=np.array(["a", "b", "c"])[y])
    refused(type_in(*words, "--keep", "other.npz"), "keep: other.npz", '"a"')
    done = type_in(*words, *FAST, "--no-keep-outputs")
    assert (done.code, done.err) == (0, "")  # the lab set is of outputs that are left out
    whole = FILE.read_bytes()
    FILE.write_bytes(whole[:-3])
    refused(type_in(*words, "--force"), str(FILE))
    FILE.write_bytes(whole)
    assert (
        type_in("pretrain", "lab.npz", "-o", "model.safetensors", "--epochs", 1, "--force").code
        == 0
    )
    refused(type_in(*words, "--force"), f"{FILE} is of the model", "--no-lab-set")
    assert type_in(*words, *FAST, "--force", "--no-lab-set").code == 0


def test_of_windows(type_in: Type) -> None:
    """Of streams of sensors, by pretrain and by prepare: windows are the samples."""
    nets = pytest.importorskip("onnx_models")
    walk_run_sit(Path("rows.csv"))
    words = ("--window", 50, "--features", "statistics", "--group", "user,session")
    made = type_in(
        "pretrain", "rows.csv", *words, "--epochs", 5, "-o", "w.safetensors", "--lab-set", 4,
        "--json",
    )  # fmt: skip
    assert made.code == 0, made.err
    assert made.json["lab_set"]["n_samples"] == 12
    done = type_in("adapt", "w.safetensors", "rows.csv", "-o", "a", "--json")
    assert done.code == 0, done.err
    assert done.json["old"]["n_measured"] == 12
    nets.save(nets.mlp([39, 8, 3]), Path("base.onnx"))
    asked = ("prepare", "base.onnx", "-o", "t.onnx", *words, "--class-names", "run,sit,walk")
    refused(type_in(*asked), "without --data, expected a folder of streams")
    made = type_in(*asked, "--lab-set", 5, "--data", "rows.csv", "--json")
    assert made.code == 0, made.err
    lab = LabSet.read(lab_set_beside("t.onnx"))
    assert np.bincount(lab.answers).tolist() == [5, 5, 5]
    walks = lab.taps[0][lab.answers == 1]  # statistics of what sits still: x is 0 in the mean
    assert np.abs(walks[:, 2 * 12 + 0] - 1).max() < 0.2


def test_a_tflite_is_copied_for_one(type_in: Type) -> None:
    """Its taps need no preparing; the lab set is of the taps and the output that were asked for."""
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert: pip group runtimes")
    import tflite_models as nets

    x, y = blobs(1)
    content = nets.mlp([x.shape[1], 8, 3]).content()
    Path("base.tflite").write_bytes(content)
    np.savez("lab.npz", X=x, y=y)
    words = ("prepare", "base.tflite", "-o", "lab.tflite", "--data", "lab.npz")
    refused(type_in(*words), "needs no preparing", "--data and --lab-set")
    refused(type_in(*words[:3], "t.onnx", *words[4:], "--lab-set", 5), "t.onnx ends in .onnx")
    assert not Path("lab.tflite").exists()
    made = type_in(*words, "--lab-set", 5, "--taps", 1, "--json")
    assert made.code == 0, made.err
    assert Path("lab.tflite").read_bytes() == content
    lab = LabSet.read(lab_set_beside("lab.tflite"))
    model = s2.load("base.tflite", taps=1)
    assert lab.fingerprint == model.fingerprint == made.json["fingerprint"]
    assert np.bincount(lab.answers).tolist() == [5, 5, 5]
    rows = model.forward(model.check(x)).taps[0]
    assert [len(lab.taps), lab.taps[0].shape[1]] == [1, rows.shape[1]]
    for row in lab.taps[0]:  # each is that of a sample of the lab
        assert np.abs(rows - row).max(axis=1).min() < 1e-6
    assert [tap["width"] for tap in made.json["taps"]] == [rows.shape[1]]
    words = ("adapt", "lab.tflite", "lab.npz", "--taps", 1, *FAST, "-o", "a", "--json")
    assert type_in(*words).json["old"]["n_measured"] == 15


def test_prepare(type_in: Type) -> None:
    nets = pytest.importorskip("onnx_models")
    x, y = blobs(1)
    nets.save(nets.mlp([x.shape[1], 8, 3]), Path("base.onnx"))
    np.savez("lab.npz", X=x, y=y)
    words = ("prepare", "base.onnx", "-o", "tapped.onnx", "--json")
    done = type_in(*words, "--lab-set", 5, "--data", "lab.npz")
    assert done.code == 0, done.err
    file = lab_set_beside("tapped.onnx")
    assert done.json["lab_set"]["output"] == str(file)
    for model in ("tapped.onnx", "base.onnx"):  # the same model, by its fingerprint
        words = ("adapt", model, "lab.npz", *FAST, "-o", f"of-{model}", "--keep", file, "--json")
        assert type_in(*words).json["old"]["n_measured"] == 15
    assert type_in("adapt", "tapped.onnx", "lab.npz", *FAST, "-o", "a", "--json").json["old"]
    words = ("prepare", "base.onnx", "-o", "other.onnx")
    refused(type_in(*words, "--lab-set", 5), "--data is None and --lab-set 5")
    refused(type_in(*words, "--data", "lab.npz"), "expected both or none")
    refused(type_in(*words, "--data", "none.npz", "--lab-set", 5), "none.npz does not exist")
    assert not Path("other.onnx").exists()
    named = ("--class-names", "x,y,z")
    np.savez("names.npz", X=x, y=np.array(["z", "x", "y"])[y])
    assert type_in(*words, "--data", "names.npz", "--lab-set", 5, *named).code == 0
    assert np.bincount(LabSet.read(lab_set_beside("other.onnx")).answers).tolist() == [5, 5, 5]


def test_suspects(lab: Answer, type_in: Type) -> None:
    x, y = blobs(3, n_samples=120)
    y[[7, 50]] = (y[[7, 50]] + 1) % 3
    np.savez("wrong.npz", X=x, y=y, class_names=np.array(NAMES))
    words = ("adapt", "model.safetensors", "wrong.npz", *FAST, "--json")
    assert type_in(*words, "-o", "a").json["suspects"] == {"output": None, "count": None}
    done = type_in(*words, "-o", "b", "--suspects", "suspects.csv")
    assert done.json["suspects"] == {"output": "suspects.csv", "count": 2}
    lines = Path("suspects.csv").read_text().splitlines()
    assert lines[0] == "row,label,answer,probability,label_probability"
    assert {int(line.split(",")[0]) for line in lines[1:]} == {7, 50}
    assert {tuple(line.split(",")[1:3]) for line in lines[1:]} == {
        (NAMES[y[row]], NAMES[(y[row] - 1) % 3]) for row in (7, 50)
    }
    refused(type_in(*words, "-o", "c", "--suspects", "suspects.csv"), "suspects.csv exists already")
    assert not Path("c").exists()
    shown = type_in(*words[:-1], "-o", "c", "--suspects", "suspects.csv", "--force")
    assert "suspects.csv: 2 labels that samples held out contradict\n" in shown.out
    weight = np.arange(len(x)) > 5  # what is left out is counted
    np.savez("weighted.npz", X=x, y=y, w=weight.astype(float), class_names=np.array(NAMES))
    weighted = ("weighted.npz", *FAST, "--no-lab-set", "-o", "g", "--suspects", "g.csv")
    assert type_in("adapt", "model.safetensors", *weighted, "--weight", "w").code == 0
    rows = [line.split(",")[0] for line in Path("g.csv").read_text().splitlines()[1:]]
    assert {"7", "50"} <= {*rows}
    few = ("few.npz", *FAST, "--no-lab-set", "-o", "f", "--suspects", "few.csv")
    np.savez("few.npz", X=x[:2], y=[0, 1], class_names=np.array(NAMES))
    shown = type_in("adapt", "model.safetensors", *few)
    assert "few.csv: no label, as no sample could be held out to contradict one\n" in shown.out
    auto = type_in(*words[:3], "--recipe", "auto", "--json", "-o", "d", "--no-lab-set")
    assert auto.json["suspects"]["count"] >= 2
    refused(
        type_in(*words, "-o", "e", "--suspects", "s.csv", "--method", "ft-all"), "suspects is on"
    )
