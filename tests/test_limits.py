"""Reading costs no more than a stated limit, and waits for nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import skip2lora as s2
from skip2lora.data.reading import read_table
from skip2lora.errors import FileError, ParameterError
from skip2lora.limits import VARIABLE, check_bytes, check_file, is_folder, max_bytes

Refused = Callable[..., str]


def test_the_limit_is_told_or_half_of_the_memory(monkeypatch, refused: Refused) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < max_bytes() <= memory // 2
    monkeypatch.setenv(VARIABLE, "1000")
    assert max_bytes() == 1000
    check_bytes("it", 1000)
    assert VARIABLE in refused(FileError, check_bytes, "it", 1001)


@pytest.mark.parametrize("text", ["", "0", "-1", "1e9", "2 GB", "9" * 30, "\u0663"])
def test_a_limit_that_is_no_number(text: str, monkeypatch, refused: Refused) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert "whole number of bytes" in refused(ParameterError, max_bytes)


def test_what_is_no_file(tmp_path: Path, refused: Refused) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("link")
    for name in ("pipe", "."):
        assert "is no regular file" in refused(FileError, check_file, tmp_path / name, "a thing")
    assert "does not exist, expected a thing" in refused(FileError, check_file, "none", "a thing")
    for path in (tmp_path / ("x" * 5000), tmp_path / "link"):
        message = refused(FileError, check_file, path, "a thing")
        assert len(message) < 600
    assert "too long" in refused(FileError, is_folder, "x" * 5000)
    assert is_folder(tmp_path)


@pytest.mark.parametrize(
    "suffix", [".npz", ".csv", ".tsv", ".parquet", ".png", ".onnx", ".tflite", ".xml",
               ".safetensors"],
)  # fmt: skip
def test_no_reader_waits_for_a_pipe(suffix: str, tmp_path: Path, refused: Refused) -> None:
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    read = read_table if suffix in (".npz", ".csv", ".tsv", ".parquet", ".png") else s2.load
    assert "no regular file" in refused(FileError, read, pipe)


def test_arrays_that_nobody_asked_for_cost_nothing(
    tmp_path: Path, monkeypatch, refused: Refused
) -> None:
    path = tmp_path / "d.npz"
    x, y = np.ones((40, 6), np.float32), np.arange(40) % 3
    np.savez_compressed(path, X=x, y=y, other=np.zeros(10**6, np.float64))
    monkeypatch.setenv(VARIABLE, "10000")
    assert read_table(path).x.tolist() == x.tolist()
    np.savez_compressed(path, X=np.zeros((40, 6000), np.float32), y=y)
    assert "takes 1 MB of memory or more" in refused(FileError, read_table, path)
