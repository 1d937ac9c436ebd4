"""``adapt --cache-dir``: what the model computed of a sample is there for the next command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import onnx_models
from desk import Answer, blobs, digests, refused

TypeIn = Callable[..., Answer]


@pytest.fixture
def words(desk: Path) -> tuple[str, ...]:
    onnx_models.save(onnx_models.mlp([12, 8, 6, 3]), desk / "a.onnx")
    names = ("--class-names", "stop,normal,damaged")
    output = ("-o", "out", "--force", "--json")
    return ("adapt", "a.onnx", "field.npz", *output, *names, "--cache-dir", "rows")


def test_only_new_samples_pass_the_model(words: tuple[str, ...], type_in: TypeIn) -> None:
    plain = type_in(*words[:-2])
    assert plain.json["n_forwards"] == 60
    before = digests(Path("out"))
    for n_forwards in (60, 0):
        kept = type_in(*words)
        assert kept.json["n_forwards"] == n_forwards, kept.err
        assert digests(Path("out")) == before
    assert type_in(*words, "--epochs", 3, "--seed", 4).json["n_forwards"] == 0
    x, y = blobs(9, n_samples=30)
    field = np.load("field.npz")
    np.savez("more.npz", X=np.concatenate([field["X"], x]), y=np.concatenate([field["y"], y]))
    more = type_in(*words[:2], "more.npz", *words[3:])
    assert more.json["n_forwards"] == 30
    assert more.json["n_samples"] == 90


def test_rows_that_stay_in_the_folder(words: tuple[str, ...], type_in: TypeIn) -> None:
    steps = ("--solver", "steps", "--epochs", 2)
    whole = type_in(*words, *steps)
    assert whole.json["cache"]["on_disk"] is False
    before = digests(Path("out"))
    kept = type_in(*words, *steps, "--cache-samples", 0)
    assert digests(Path("out")) == before
    said = {"capacity": 0, "n_samples": 60, "hits": 0, "misses": 120, "on_disk": True}
    assert said.items() <= kept.json["cache"].items()
    assert kept.json["cache"]["forwards_saved"] == 120
    assert kept.json["n_forwards"] == kept.json["cache_bytes"] == 0
    told = type_in(*(word for word in words if word != "--json"), *steps, "--cache-samples", 20)
    assert "rows of 20 of 60 samples, 80 read from the folder" in told.out
    assert told.out.endswith("rows: 0 rows computed that it lacked\n")


def test_what_does_not_fit_is_said(words: tuple[str, ...], type_in: TypeIn) -> None:
    assert type_in(*words).code == 0
    said = type_in(*words, "--taps", 1)
    refused(said, "the rows in rows are of tapping", "choose another folder")
    for off in ("--cache", "--no-cache"):
        refused(type_in(*words, off), f"{off} is set beside --cache-dir")
    refused(type_in(*words, "--cache-dir", "out"), "out holds adapter_config.json")
    refused(type_in(*words, "--cache-dir", "a.onnx"), "cannot make a.onnx")
    refused(type_in(*words, "--method", "ft-all"), "leave --cache-dir out")


@pytest.mark.filterwarnings("default::skip2lora.errors.DamagedCacheWarning")
def test_a_damaged_file_is_said_and_replaced(words: tuple[str, ...], type_in: TypeIn) -> None:
    type_in(*words)
    before, result = digests(Path("rows")), digests(Path("out"))
    (shard,) = Path("rows").glob("*.npy")
    content = bytearray(shard.read_bytes())
    content[999] ^= 1
    shard.write_bytes(content)
    said = type_in(*words)
    assert said.code == 0
    assert f"{shard} is dropped, as its rows do not match their checksum" in said.err
    assert said.json["n_forwards"] == 60
    assert digests(Path("rows")) == before
    assert digests(Path("out")) == result
    assert type_in(*words).err == ""


def test_two_processes_share_a_folder(words: tuple[str, ...], type_in: TypeIn) -> None:
    x, y = blobs(3, n_samples=900)
    np.savez("field.npz", X=x, y=y)
    plain = type_in(*words[:-2])
    assert plain.code == 0
    expected = digests(Path("out"))
    command = [sys.executable, "-m", "skip2lora", *words]
    command[command.index("out")] = "{}"
    both = [
        subprocess.Popen([word.format(f"out{n}") for word in command], stdout=subprocess.PIPE)
        for n in range(2)
    ]
    counts = [json.loads(process.communicate()[0])["n_forwards"] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all(0 <= count <= 900 for count in counts)
    assert sum(counts) >= 900
    assert digests(Path("out0")) == digests(Path("out1")) == expected
    assert {path.suffix for path in Path("rows").iterdir()} == {".json", ".npy"}
    assert type_in(*words).json["n_forwards"] == 0


#: Runs a command that may write no more than so many bytes to a file, as on a disk that is full.
LITTLE_SPACE = """
import resource, sys
from skip2lora.cli import run
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(run(sys.argv[2:]))
"""


def test_a_full_disk_leaves_what_is_there(words: tuple[str, ...], type_in: TypeIn) -> None:
    field = np.load("field.npz")
    np.savez("some.npz", X=field["X"][:30], y=field["y"][:30])
    assert type_in(*words[:2], "some.npz", *words[3:]).json["n_forwards"] == 30
    before = digests(Path("rows"))
    full = subprocess.run(
        [sys.executable, "-c", LITTLE_SPACE, "5000", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = Answer(full.returncode, full.stdout, full.stderr)
    refused(said, "cannot write rows: File too large", "nothing was changed")
    assert digests(Path("rows")) == before
    assert {path.suffix for path in Path("rows").iterdir()} == {".json", ".npy"}
    assert type_in(*words).json["n_forwards"] == 30


def test_a_folder_that_cannot_be_written(words: tuple[str, ...], type_in: TypeIn) -> None:
    Path("rows").mkdir()
    Path("rows", "manifest.json").mkdir()
    refused(type_in(*words), "rows/manifest.json")
