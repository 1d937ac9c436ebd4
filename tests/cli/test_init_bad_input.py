"""Bad input: one line on standard error, exit code 2, and every file as it was."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from desk import NAMES, digests, refused

ADAPT = ("adapt", "model.safetensors", "{data}", "-o", "new", "--epochs", "2")
PRETRAIN = ("pretrain", "{data}", "-o", "new.safetensors", "--epochs", "2", "--hidden", "4")
EVALUATE = ("evaluate", "model.safetensors", "{data}")


def field(**changes):
    data = np.load("field.npz")
    arrays = {name: data[name].copy() for name in data.files} | changes
    np.savez("bad.npz", **arrays)
    return arrays


def spoil(value, row=3, column=5):
    x = np.load("field.npz")["X"].copy()
    x[row, column] = value
    x[row + 1, column] = value
    field(X=x)


def labels(value, row=7):
    y = np.load("field.npz")["y"].copy()
    y[row] = value
    field(y=y)


def csv_with(text, row=2, column=4):
    table = np.load("field.npz")["X"].astype(str)
    lines = [",".join([*(f"f{k}" for k in range(12)), "label"])]
    for number, values in enumerate(table):
        cells = [*values, "0"]
        if number == row:
            cells[column] = text
        lines.append(",".join(cells))
    Path("bad.csv").write_text("\n".join(lines) + "\n")


DATA = {
    "missing file": (lambda: None, "none.npz", ["none.npz"]),
    "empty npz": (lambda: Path("bad.npz").write_bytes(b""), "bad.npz", ["bad.npz", "empty"]),
    "empty csv": (lambda: Path("bad.csv").write_bytes(b""), "bad.csv", ["bad.csv", "empty"]),
    "a folder": (lambda: Path("bad.npz").mkdir(), "bad.npz", ["bad.npz"]),
    "unknown kind": (lambda: Path("bad.odt").write_text("1"), "bad.odt", [".npz", ".csv"]),
    "no sample": (lambda: Path("bad.json").write_text("1"), "bad.json", ["no payload"]),
    "truncated npz": (
        lambda: Path("bad.npz").write_bytes(Path("field.npz").read_bytes()[:500]),
        "bad.npz", ["bad.npz"],
    ),
    "text in a number column": (lambda: csv_with("warm"), "bad.csv", ["row 2", '"f4"', '"warm"']),
    "empty cell": (lambda: csv_with(""), "bad.csv", ["row 2", '"f4"']),
    "missing cell": (lambda: csv_with("1,2"), "bad.csv", ["row 2", "13", "14"]),
    "nan": (lambda: spoil(np.nan), "bad.npz", ["2 ", "row 3", "5"]),
    "infinity": (lambda: spoil(np.inf), "bad.npz", ["2 ", "row 3", "5"]),
    "negative label": (lambda: labels(-1), "bad.npz", ["-1", "7"]),
    "unknown label": (lambda: labels(5), "bad.npz", ["5", "7"]),
    "zero samples": (
        lambda: field(X=np.zeros((0, 12), np.float32), y=np.zeros(0, int)),
        "bad.npz", ["0 samples"],
    ),
    "short labels": (lambda: field(y=np.zeros(59, int)), "bad.npz", ["59", "60"]),
    "no X": (lambda: np.savez("bad.npz", data=np.zeros(3)), "bad.npz", ["X", "data"]),
    "objects": (
        lambda: field(X=np.array([["a"] * 12] * 60)), "bad.npz", ["bad.npz"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", [ADAPT, PRETRAIN, EVALUATE], ids=lambda c: c[0])
@pytest.mark.parametrize("case", DATA)
def test_bad_data(desk, type_in, case, command):
    make, name, parts = DATA[case]
    make()
    before = digests(desk)
    refused(type_in(*(word.format(data=name) for word in command)), *parts)
    assert digests(desk) == before


def test_width_of_another_model(desk, type_in):
    field(X=np.zeros((60, 11), np.float32))
    for command in (ADAPT, EVALUATE):
        refused(type_in(*(w.format(data="bad.npz") for w in command)), "11 columns", "12")


def test_label_name_the_model_does_not_know(desk, type_in):
    csv_with("broken", column=12)
    refused(type_in(*(w.format(data="bad.csv") for w in EVALUATE)), "broken", *NAMES)


def test_kernels_that_are_not_there(desk, type_in, monkeypatch):
    monkeypatch.setenv("SKIP2_KERNELS", "sse9")
    words = (w.format(data="field.npz") for w in EVALUATE)
    refused(type_in(*words), "SKIP2_KERNELS", "sse9", "scalar")


def test_one_sample_where_statistics_of_a_batch_are_needed(desk, type_in):
    data = np.load("field.npz")
    np.savez("one.npz", X=data["X"][:1], y=data["y"][:1], class_names=data["class_names"])
    refused(type_in(*(w.format(data="one.npz") for w in PRETRAIN)), "1 sample", "2")
    lora_all = [w.format(data="one.npz") for w in ADAPT] + ["--method", "lora-all"]
    refused(type_in(*lora_all), "1 sample", "2")
    assert type_in(*(w.format(data="one.npz") for w in ADAPT)).code == 0


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--rank", "0"], ["rank", "0", "1 to 16"]),
        (["--rank", "17"], ["rank", "17", "1 to 16"]),
        (["--rank", "four"], ["--rank", "four"]),
        (["--batch-size", "61"], ["batch_size", "61", "60"]),
        (["--batch-size", "0"], ["batch_size", "0"]),
        (["--epochs", "0"], ["epochs", "0"]),
        (["--learning-rate", "0"], ["learning_rate", "0"]),
        (["--learning-rate", "nan"], ["learning_rate", "nan"]),
        (["--learning-rate", "1e30"], ["not finite", "learning_rate", "try"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--method", "magic"], ["magic", "skip2-lora", "lora-all"]),
        (["--rnak", "4"], ["--rnak", "--rank"]),
        (["-o", "adapter"], ["adapter", "exists", "--force"]),
        (["-o", "nowhere/adapter"], ["nowhere", "folder"]),
        (["-o", "field.npz", "--force"], ["field.npz"]),
        (["-o", ".", "--force"], ["adapter_config.json"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("-") else "",
)
def test_bad_options_of_adapt(desk, type_in, options, parts):
    before = digests(desk)
    words = [w.format(data="field.npz") for w in ADAPT]
    refused(type_in(*words, *options), *parts)
    assert digests(desk) == before


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["adapt"], ["MODEL"]),
        (["frobnicate"], ["frobnicate"]),
        (["adapt", "model.safetensors", "field.npz"], ["-o"]),
        (["pretrain", "lab.npz", "--hidden", "a,b", "-o", "x.safetensors"], ["--hidden", "a,b"]),
        (
            ["pretrain", "lab.npz", "--hidden", "0", "-o", "x.safetensors"],
            ["--hidden", "'0'"],
        ),
        (["pretrain", "lab.npz", "-o", "x.bin"], [".safetensors"]),
        (["pretrain", "lab.npz", "-o", "model.safetensors"], ["exists", "--force"]),
        (["predict", "model.safetensors", "field.npz", "-o", "lab.npz"], ["exists", "--force"]),
        (["inspect", "nothing"], ["nothing"]),
        (["dataset", "damage3", "-o", "d"], ["damage3", "damage1"]),
        (["dataset", "damage1", "--source", "nothing", "-o", "d"], ["nothing"]),
        (["dataset", "simulated", "--source", ".", "-o", "d"], ["--source"]),
        (["evaluate", "none.safetensors", "field.npz"], ["none.safetensors"]),
        (["evaluate", "field.npz", "field.npz"], ["is arrays of NumPy", "and this as data"]),
        (["evaluate", "model.safetensors", "field.npz", "--adapter", "none"], ["none"]),
    ],
    ids=lambda value: " ".join(value) if len(value) > 1 else "",
)
def test_bad_words(desk, type_in, words, parts):
    before = digests(desk)
    refused(type_in(*words), *parts)
    assert digests(desk) == before


def truncate(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def foreign(path):
    from safetensors.numpy import save

    path.write_bytes(save({"weight": np.zeros((2, 2), np.float32)}))


def flip_weight(path):
    raw = bytearray(path.read_bytes())
    raw[-2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "spoil_file",
    [
        lambda path: truncate(path, 100),
        lambda path: truncate(path, path.stat().st_size - 8),
        lambda path: truncate(path, 0),
        lambda path: path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}"),
        lambda path: path.write_bytes(b"\x89PNG not a model"),
        foreign,
        flip_weight,
    ],
    ids=["header cut", "tail cut", "empty", "huge header", "picture", "foreign", "bit flipped"],
)
def test_damaged_model(desk, type_in, spoil_file):
    spoil_file(Path("model.safetensors"))
    before = digests(desk)
    refused(type_in("evaluate", "model.safetensors", "field.npz"), "model.safetensors")
    refused(type_in("inspect", "model.safetensors"), "model.safetensors")
    assert digests(desk) == before


def test_adapter_of_another_model(desk, type_in):
    other = ("pretrain", "lab.npz", "--hidden", "16,16", "--seed", 9, "--epochs", 2)
    assert type_in(*other, "-o", "other.safetensors").code == 0
    answer = type_in("evaluate", "other.safetensors", "field.npz", "--adapter", "adapter")
    refused(answer, "adapter", "sha256:", "adapt again")


def test_damaged_adapter(desk, type_in):
    words = ("evaluate", "model.safetensors", "field.npz", "--adapter", "adapter")
    config = Path("adapter/adapter_config.json")
    whole = config.read_text()
    for text in ("", "[]", "{}", whole.replace('"r": 4', '"r": 5'), whole.replace("SKIP2", "X")):
        config.write_text(text)
        refused(type_in(*words), "adapter")
    config.unlink()
    refused(type_in(*words), "adapter_config.json")


def typed(words, folder, **options):
    return subprocess.run(
        [sys.executable, "-m", "skip2lora", *words],
        cwd=folder, capture_output=True, text=True, timeout=60, **options,
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(desk, type_in):
    desk.joinpath("closed").mkdir(mode=0o500)
    words = [w.format(data="field.npz") for w in ADAPT]
    refused(type_in(*words, "-o", "closed/new"), "closed", "permission")


def test_folder_the_system_refuses(desk, type_in):
    """As root too: a path below a device, and one below a file."""
    words = [w.format(data="field.npz") for w in ADAPT]
    refused(type_in(*words, "-o", "/dev/null/new"), "/dev/null")
    refused(type_in(*words, "-o", "lab.npz/new"), "lab.npz")
    refused(type_in(*words, "-o", "/proc/new"), "/proc/new")


LIMIT = """
import resource, signal, sys
from skip2lora.cli import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["adapt", "model.safetensors", "field.npz", "--epochs", "2", "--force", "-o", "adapter"],
        ["pretrain", "lab.npz", "--epochs", "2", "--force", "-o", "model.safetensors"],
        ["predict", "model.safetensors", "field.npz", "--force", "-o", "p.csv"],
        ["dataset", "simulated", "-o", "data"],
    ],
    ids=lambda words: words[0],
)
def test_full_disk(desk, words):
    """The system lets no file grow beyond 200 bytes, as a full disk would."""
    (desk / "p.csv").write_text("row\n")
    before = digests(desk)
    done = subprocess.run(
        [sys.executable, "-c", LIMIT, *words], cwd=desk, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot write" in done.stderr
    assert digests(desk) == before
    assert not list(desk.glob(".*"))
