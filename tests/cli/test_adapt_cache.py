"""``adapt --cache-dir``: what the model computed of a sample is there for the next command."""

from __future__ import annotations

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
